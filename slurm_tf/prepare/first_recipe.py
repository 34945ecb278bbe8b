"""Writes a first recipe for sources whose schema nobody has stated yet: what DuckDB takes it to be, to be corrected."""

import os
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import numpy as np

from slurm_tf.dataset.schema import Kind
from slurm_tf.errors import UsageError
from slurm_tf.jobspec import toml_entries
from slurm_tf.jobspec.toml_entries import Entry
from slurm_tf.prepare import engine, exact_values, source_tables, sql_types
from slurm_tf.prepare.sql_types import name as quoted
from slurm_tf.prepare.sql_types import text

_READERS = {"csv": "read_csv", "jsonl": "read_json", "parquet": "read_parquet"}
_FORMATS = {
    ".csv": "csv", ".tsv": "csv", ".txt": "csv", ".json": "jsonl", ".jsonl": "jsonl", ".ndjson": "jsonl",
    ".parquet": "parquet", ".pq": "parquet", ".sqlite": "sqlite", ".sqlite3": "sqlite", ".db": "sqlite",
}  # fmt: skip
_SAMPLE = 20_000
# The types of SQLite's columns that say one; each value may have another one.
_OF_SQLITE = {"INT": "BIGINT", "REAL": "DOUBLE", "FLOA": "DOUBLE", "DOUB": "DOUBLE", "BLOB": "BLOB"}


@dataclass(frozen=True)
class FoundSource:
    """A source that was looked at; `keys`: those that its format needs beside its columns."""

    name: str
    format: str
    columns: Mapping[str, str]
    keys: Mapping[str, str]


def text_of(paths: Sequence[str]) -> str:
    """Return the text of a recipe for files and folders. Raises UsageError and ConfigError."""
    sources = [source for path in paths for source in _looked_at(path)]
    names = [source.name for source in sources]
    if len(set(names)) < len(names):
        raise UsageError(f"found the sources {', '.join(names)}", "files of different names")
    return "".join(f"{line}\n" for line in _lines(sources))


def _looked_at(path: str) -> Iterator[FoundSource]:
    name = re.sub(r"\W+", "_", Path(path).name.partition(".")[0], flags=re.ASCII).strip("_") or "rows"
    name = f"s_{name}" if name[0].isdigit() else name
    if not os.path.exists(path):
        raise UsageError(f"there is no {path}", "a file or folder that is there")
    if os.path.isdir(path):
        yield _folder(name, path)
        return
    kind = _FORMATS.get(Path(path.removesuffix(".gz")).suffix.lower())
    if kind is None:
        raise UsageError(f"found {path}", f"a folder, or a file with one of {', '.join(sorted(_FORMATS))}")
    if kind == "sqlite":
        yield from _sqlite(path)
    else:
        yield _file(name, path, kind)


def _file(name: str, path: str, kind: str) -> FoundSource:
    keys = {"path": path}
    options = f", sample_size = {_SAMPLE}" if kind != "parquet" else ""
    with duckdb.connect() as connection, engine.explained(path):
        if kind == "csv":
            (delimiter,) = engine.first_row(connection, f"SELECT delimiter FROM sniff_csv({text(path)}{options})")
            keys |= {"delimiter": delimiter} if delimiter != "," else {}
        rows = connection.execute(f"DESCRIBE SELECT * FROM {_READERS[kind]}({text(path)}{options})").fetchall()
        columns = {str(row[0]): _type(str(row[1])) for row in rows}
        if kind == "csv":
            columns = _exact(connection, f"read_csv({text(path)}{options}, all_varchar = true)", columns)
    return FoundSource(name, kind, columns, keys)


def _exact(connection: duckdb.DuckDBPyConnection, rows: str, columns: Mapping[str, str]) -> dict[str, str]:
    """Return the types of columns of text, VARCHAR for those of whose texts some are not of the form of the type."""
    counts = ", ".join(
        f"count({quoted(name)}) = count({exact_values.of_text(quoted(name), kind, 'NULL')})"
        for name, kind in columns.items()
    )
    fits = engine.first_row(connection, f"SELECT {counts} FROM (SELECT * FROM {rows} LIMIT {_SAMPLE})")
    return {name: kind if each else "VARCHAR" for (name, kind), each in zip(columns.items(), fits, strict=True)}


def _type(found: str) -> str:
    """Return a type that a recipe may state: text for those that it may not."""
    found = found.replace("TIMESTAMP WITH TIME ZONE", "TIMESTAMP")
    return found if sql_types.is_known(found) else "VARCHAR"


def _sqlite(path: str) -> Iterator[FoundSource]:
    try:
        connection = sqlite3.connect(f"{Path(path).absolute().as_uri()}?mode=ro", uri=True)
        tables = [row[0] for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
        for table in tables:
            rows = connection.execute(f"PRAGMA table_info({quoted(table)})").fetchall()
            columns = {
                row[1]: _OF_SQLITE.get(row[2].upper()[:4], _OF_SQLITE.get(row[2].upper()[:3], "VARCHAR"))
                for row in rows
            }
            query = f"SELECT {', '.join(map(quoted, columns))} FROM {quoted(table)}"
            yield FoundSource(
                re.sub(r"\W+", "_", table, flags=re.ASCII), "sqlite", columns, {"path": path, "query": query}
            )
        connection.close()
    except sqlite3.Error as error:
        raise UsageError(f"{path} cannot be read ({error})", "a database of SQLite") from error


def _folder(name: str, path: str) -> FoundSource:
    arrays = sorted(each for each in os.listdir(path) if each.endswith((".npy", ".npz")))
    if not arrays:
        return FoundSource(name, "images", {}, {"path": path})
    columns: dict[str, str] = {}
    for each in arrays if arrays[0].endswith(".npy") else arrays[:1]:
        loaded = np.load(os.path.join(path, each), mmap_mode="r", allow_pickle=False)
        found = {each.removesuffix(".npy"): loaded} if each.endswith(".npy") else dict(loaded)
        columns |= {column: _type_of_array(array.dtype) + "[]" * (array.ndim > 1) for column, array in found.items()}
    return FoundSource(name, "arrays", columns, {"path": path})


def _type_of_array(kind: np.dtype[Any]) -> str:
    names = {"b": "BOOLEAN", "i": "BIGINT", "u": "UBIGINT", "f": "DOUBLE"}
    return "FLOAT" if kind == np.float32 else names.get(kind.kind, "VARCHAR")


def _lines(sources: Sequence[FoundSource]) -> Iterator[str]:
    yield toml_entries.comment("What the first rows look like: correct the types, the features and the key.")
    for source in sources:
        yield f"[sources.{source.name}]"
        entries = [Entry("format", source.format), *(Entry(key, value) for key, value in source.keys.items())]
        yield from toml_entries.lines(entries)
        if source.columns:
            yield f"[sources.{source.name}.columns]"
            yield from toml_entries.lines(Entry(column, kind) for column, kind in source.columns.items())
        yield ""
    if len(sources) > 1:
        yield from ("[transform]", 'sql = "join.sql"  # one SELECT, which joins the sources', "")
    columns = {name: kind for source in sources for name, kind in _columns(source).items()}
    for column, kind in columns.items():
        yield from _feature(column, kind)
    key = next((name for name, kind in columns.items() if kind in sql_types.INTEGERS), next(iter(columns), ""))
    yield ""
    yield "[split]"
    yield from toml_entries.lines([Entry("key", (key,), "columns that tell rows apart")])
    yield from ("shares = {train = 0.9, test = 0.1}", "", "[output]")
    yield from toml_entries.lines([Entry("folder", f"data/{sources[0].name}"), Entry("shards", 10)])


def _columns(source: FoundSource) -> Mapping[str, str]:
    return source.columns or source_tables.IMAGE_COLUMNS


def _feature(column: str, kind: str) -> Iterator[str]:
    found = sql_types.kind_of(kind)
    if found is None:
        yield toml_entries.comment(f"{column} has the type {kind}, which no feature has: cast it in the SQL")
        return
    yield f"[features.{toml_entries.key(column)}]"
    note = "or vocabulary = {}, for numbers of words" if found is Kind.BYTES and kind == "VARCHAR" else ""
    yield from toml_entries.lines([Entry("kind", found.value, note), *([Entry("shape", (-1,))] if "[" in kind else [])])
