"""Reads files of JSON lines as rows: one object a line, of the stated columns and no others.

pyarrow reads them, which rounds no number: a column of integers has no 1.5, and none of numbers has a "7". What JSON
has no type for, such as dates and bytes, is text here.
"""

import io
import json
import re
from collections.abc import Iterator, Sequence

import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq

from slurm_tf import files
from slurm_tf.errors import DatasetError
from slurm_tf.jobspec import layers
from slurm_tf.prepare import refused_values, source_files
from slurm_tf.prepare.recipe import Source
from slurm_tf.prepare.row_errors import shortened

# The columns that each row has more: where it stands.
FILE, LINE = "slurm_tf_file", "slurm_tf_line"
_PLACES = {FILE: pa.dictionary(pa.int32(), pa.string()), LINE: pa.int64()}
_BLOCK = 1 << 23
_UTF8_MARK = b"\xef\xbb\xbf"
_NEEDED = "one object of JSON a line, of the stated columns"
_TYPES = {
    "BOOLEAN": pa.bool_(), "TINYINT": pa.int8(), "SMALLINT": pa.int16(), "INTEGER": pa.int32(), "BIGINT": pa.int64(),
    "UTINYINT": pa.uint8(), "USMALLINT": pa.uint16(), "UINTEGER": pa.uint32(), "UBIGINT": pa.uint64(),
    "HUGEINT": pa.decimal128(38, 0), "FLOAT": pa.float64(), "DOUBLE": pa.float64(), "DECIMAL": pa.decimal128(18, 3),
}  # fmt: skip


def write(paths: Sequence[str], source: Source, output: str, is_head: bool = False) -> None:
    """Write the rows of files as Parquet, with the columns FILE and LINE. Raises DatasetError and StorageError.

    `is_head`: the first rows alone.
    """
    schema = pa.schema([(name, _type(kind)) for name, kind in source.columns.items()])
    with files.whole_file(output) as file, pq.ParquetWriter(file, pa.schema([*schema, *_PLACES.items()])) as writer:
        for path in paths:
            for first, lines in _blocks(path):
                writer.write_table(_table(path, first, lines, source, schema))
                if is_head:
                    return


def _type(kind: str) -> pa.DataType:
    name, depth = kind.partition("[")[0], kind.count("[")
    found = _TYPES.get(name, pa.string())
    if numbers := re.findall(r"\d+", name):
        found = pa.decimal128(*map(int, numbers))
    for _ in range(depth):
        found = pa.list_(found)
    return found


def _blocks(path: str) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the lines of a file, some MiB at once, with the number of the first. Raises DatasetError."""
    first = 1
    try:
        with source_files.open_text(path) as file:
            while lines := file.readlines(_BLOCK):
                if first == 1:
                    lines[0] = lines[0].removeprefix(_UTF8_MARK)
                yield first, lines
                first += len(lines)
    except (OSError, EOFError) as error:
        raise DatasetError(f"the file cannot be read ({error})", "a file that can be", where=path) from error


def _table(path: str, first: int, lines: list[bytes], source: Source, schema: pa.Schema) -> pa.Table:
    """Return the rows of the lines that are not empty. `first`: the number of the first line."""
    numbers = [number for number, line in enumerate(lines, first) if line.strip()]
    kept = lines if len(numbers) == len(lines) else [line for line in lines if line.strip()]
    try:
        table = _parsed(kept, schema)
    except (pa.ArrowInvalid, UnicodeDecodeError):
        wrong = _first_wrong(kept, schema)
        raise _error(kept[wrong], source, schema, f"{path}: line {numbers[wrong]}") from None
    places = pa.DictionaryArray.from_arrays(pa.array([0] * len(kept), pa.int32()), pa.array([path]))
    return table.append_column(FILE, places).append_column(LINE, pa.array(numbers, pa.int64()))


def _parsed(lines: Sequence[bytes], schema: pa.Schema, others: str = "error") -> pa.Table:
    """Return the rows of lines. Raises ArrowInvalid and UnicodeDecodeError."""
    data = b"".join(lines)
    data.decode()
    # pyarrow ends the process at a line that is null
    if not all(line.lstrip().startswith(b"{") for line in lines):
        raise pa.ArrowInvalid("found a line that is no object")
    options = pj.ReadOptions(use_threads=False, block_size=len(data) + 1)
    parse = pj.ParseOptions(explicit_schema=schema, unexpected_field_behavior=others)
    table = pj.read_json(io.BytesIO(data), read_options=options, parse_options=parse)
    if table.num_rows != len(lines):
        raise pa.ArrowInvalid(f"found {table.num_rows} objects in {len(lines)} lines")
    return table


def _first_wrong(lines: Sequence[bytes], schema: pa.Schema) -> int:
    """Return the first line that cannot be read, of lines one of which cannot."""
    low, high = 0, len(lines) - 1
    while low < high:
        middle = (low + high) // 2
        try:
            _parsed(lines[low : middle + 1], schema)
        except (pa.ArrowInvalid, UnicodeDecodeError):
            high = middle
        else:
            low = middle + 1
    return low


def _error(line: bytes, source: Source, schema: pa.Schema, where: str) -> DatasetError:
    """Return the error of a line that cannot be read."""
    try:
        pairs = json.loads(line, object_pairs_hook=tuple)
    except UnicodeDecodeError:
        return DatasetError("found bytes that are no UTF-8", "text in UTF-8", "`iconv -t UTF-8` converts a file", where)
    except ValueError as error:
        return DatasetError(f"the line is no JSON ({error})", _NEEDED, where=where)
    if not line.lstrip().startswith(b"{"):
        return DatasetError(f"found {_shown(line)}", _NEEDED, where=where)
    names = [name for name, _ in pairs]
    for number, name in enumerate(names):
        if name not in source.columns:
            do = layers.nearest(name, list(source.columns)) or "state it in the recipe, or leave it out"
            return DatasetError(f"found the key {name!r}", f"one of {', '.join(source.columns)}", do, where)
        if name in names[:number]:
            return DatasetError(f"found the key {name!r} twice", "each key once", where=where)
    try:
        _parsed([line], pa.schema([(LINE, pa.int64())]), "ignore")
    except pa.ArrowInvalid as error:
        return DatasetError(f"the line is no JSON ({error})", _NEEDED, where=where)
    for name in names:
        try:
            _parsed([line], pa.schema([schema.field(name)]), "ignore")
        except pa.ArrowInvalid:
            shown = _shown(json.dumps(json.loads(line)[name]).encode())
            needed = refused_values.needed(source.columns[name])
            return DatasetError(f"found {shown}", needed, refused_values.CORRECT, f"{where}, column {name}")
    return DatasetError("the line cannot be read", _NEEDED, where=where)


def _shown(line: bytes) -> str:
    return shortened(line.decode(errors="replace").strip())
