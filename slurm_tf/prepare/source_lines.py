"""Finds the line of a source that has a row, for the message about the row."""

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping, Sequence

from slurm_tf.prepare import source_files
from slurm_tf.prepare.recipe import Source
from slurm_tf.prepare.recipe_file import LoadedRecipe
from slurm_tf.prepare.source_files import SourceFiles


def places(recipe: LoadedRecipe, key: Mapping[str, object], column: str, most: int = 1) -> tuple[str, ...]:
    """Return where the rows of a key stand, as "FILE: line N, column NAME"; none if no file of text has them.

    Only sources of CSV and JSON lines are looked at that have the key and the column, if it is one of a source.
    """
    wanted = {name: str(value) for name, value in key.items()}
    found: list[str] = []
    files = source_files.of_recipe(recipe)
    for name, source in recipe.keys.sources.items():
        if source.format not in ("csv", "jsonl") or not {*key, column} <= source.columns.keys():
            continue
        for path, line in _lines(source, files[name], wanted):
            found.append(f"{path}: line {line}, column {column}")
            if len(found) == most:
                return tuple(found)
    return tuple(found)


def line_of_value(path: str, delimiter: str, quote: str, number: int, value: str, most: int) -> int | None:
    """Return the first line of a CSV file in which a row begins whose column `number`, from 0, has a value.

    Of longer values the first `most` characters are compared. None if no row has it.
    """
    with (
        source_files.open_text(path) as raw,
        io.TextIOWrapper(raw, encoding="utf-8-sig", errors="replace", newline="") as file,
    ):
        for line, values in _csv_values(file, delimiter, quote):
            if len(values) > number and values[number][:most] == value:
                return line
    return None


def _lines(source: Source, files: SourceFiles, wanted: Mapping[str, str]) -> Iterator[tuple[str, int]]:
    for path in files.paths:
        with source_files.open_text(path) as raw, io.TextIOWrapper(raw, encoding="utf-8-sig", newline="") as file:
            rows = _csv_rows(source, file) if source.format == "csv" else _json_rows(file)
            for line, row in rows:
                if all(str(row.get(name)) == value for name, value in wanted.items()):
                    yield path, line


def _csv_rows(source: Source, file: io.TextIOWrapper) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Yield rows with the line in which each begins."""
    names: Sequence[str] = list(source.columns)
    for line, values in _csv_values(file, source.delimiter, source.quote):
        yield line, dict(zip(names, values, strict=False))


def _csv_values(file: io.TextIOWrapper, delimiter: str, quote: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the values of rows with the line in which each begins."""
    csv.field_size_limit(sys.maxsize)  # of the module: 128 KiB, which a row of an array has
    reader = csv.reader(file, delimiter=delimiter, quotechar=quote)
    next(reader, None)
    line = reader.line_num + 1
    for values in reader:
        yield line, values
        line = reader.line_num + 1


def _json_rows(file: io.TextIOWrapper) -> Iterator[tuple[int, Mapping[str, object]]]:
    for line, text in enumerate(file, start=1):
        if text.strip():
            row = json.loads(text)
            yield line, row if isinstance(row, dict) else {}
