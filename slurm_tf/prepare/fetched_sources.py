"""Reads the sources that DuckDB does not read itself into files of Parquet: databases, JSON lines, arrays."""

import os
from collections.abc import Callable, Mapping

import duckdb

from slurm_tf.prepare import array_rows, database_rows, engine, json_rows, recipe_file, sql_types, sqlite_rows
from slurm_tf.prepare.recipe import Source
from slurm_tf.prepare.recipe_file import LoadedRecipe
from slurm_tf.prepare.source_files import SourceFiles
from slurm_tf.prepare.sql_types import name as quoted

_FORMATS = (*recipe_file.DATABASES, "jsonl", "arrays")


def fetch(
    recipe: LoadedRecipe, sources: Mapping[str, SourceFiles], folder: str, say: Callable[[str], None]
) -> dict[str, str]:
    """Write the rows of each such source as Parquet, and return its path, in `folder`.

    Of JSON lines these are the first rows if Spark makes the rows: its workers read them. Raises DatasetError,
    ConfigError and StorageError.
    """
    found = {}
    for name, source in recipe.keys.sources.items():
        path = os.path.join(folder, f"{name}.parquet")
        if source.format in recipe_file.DATABASES:
            say(f"reading {name} from the database")
            (sqlite_rows if source.format == "sqlite" else database_rows).write(recipe, name, path)
        elif source.format == "jsonl":
            json_rows.write(sources[name].paths, source, path, is_head=recipe.keys.engine == "spark")
        elif source.format == "arrays":
            array_rows.write(recipe.data_path(recipe_file.paths_of(source)[0]), source, path)
        else:
            continue
        found[name] = path
    return found


def empty(recipe: LoadedRecipe, folder: str) -> dict[str, str]:
    """Return Parquet files as `fetch` does, of the stated schema and without rows."""
    found = {}
    with duckdb.connect() as connection:
        for name, source in recipe.keys.sources.items():
            if source.format in _FORMATS:
                found[name] = os.path.join(folder, f"{name}.parquet")
                columns = ", ".join(f"NULL::{kind} AS {quoted(each)}" for each, kind in _columns(source).items())
                connection.execute(
                    f"COPY (SELECT {columns} WHERE false) TO {sql_types.text(found[name])} (FORMAT parquet)"
                )
    return found


def fingerprint(connection: duckdb.DuckDBPyConnection, name: str) -> str:
    """Return what tells the rows of a source from others, in any order: their number and the sum of their hashes."""
    with engine.explained(name):
        count, total = engine.first_row(
            connection,
            f"SELECT count(*), sum(md5_number_lower(to_json(each)::VARCHAR)::HUGEINT) FROM {quoted(name)} AS each",
        )
    return f"{count} rows, {total or 0:x}"


def _columns(source: Source) -> Mapping[str, str]:
    """Return the columns of the Parquet file of a source."""
    if source.format == "arrays":
        return {**source.columns, **array_rows.COLUMNS}
    if source.format == "jsonl":
        return {**source.columns, json_rows.FILE: "VARCHAR", json_rows.LINE: "BIGINT"}
    return source.columns
