"""Makes each source a table or a view of DuckDB, with the columns that its schema states."""

import os
from collections.abc import Mapping, Sequence

import duckdb

from slurm_tf.errors import DatasetError
from slurm_tf.prepare import array_rows, engine, recipe_file
from slurm_tf.prepare.recipe import Source
from slurm_tf.prepare.recipe_file import LoadedRecipe
from slurm_tf.prepare.source_files import SourceFiles
from slurm_tf.prepare.sql_types import name as quoted
from slurm_tf.prepare.sql_types import text, texts

# Of a folder of images: the path in it, the class, the number of the class by its name, and the file's bytes.
IMAGE_COLUMNS = {"file": "VARCHAR", "class": "VARCHAR", "label": "BIGINT", "image": "BLOB"}


def columns_of(source: Source) -> Mapping[str, str]:
    """Return the columns of a source with their types."""
    if source.format == "images":
        return IMAGE_COLUMNS
    return {**source.columns, **array_rows.COLUMNS} if source.format == "arrays" else source.columns


def make(
    connection: duckdb.DuckDBPyConnection,
    recipe: LoadedRecipe,
    files: Mapping[str, SourceFiles],
    fetched: Mapping[str, str],
) -> None:
    """Make a view of each source, and let SQL read nothing else. `fetched`: a Parquet file of each database's rows."""
    for name, source in recipe.keys.sources.items():
        with engine.explained(name):
            connection.execute(
                f"CREATE OR REPLACE VIEW {quoted(name)} AS {select(recipe, name, source, files, fetched)}"
            )
    allowed = [path for name, each in files.items() if name not in fetched for path in each.paths]
    engine.confine(connection, [*allowed, *fetched.values()])


def check_rows(connection: duckdb.DuckDBPyConnection, recipe: LoadedRecipe) -> None:
    """Raise DatasetError for a source without rows."""
    for name in recipe.keys.sources:
        with engine.explained(name):
            if not engine.first_row(connection, f"SELECT 1 FROM {quoted(name)} LIMIT 1"):
                raise DatasetError(f"the source {name} has no rows", "rows", where=recipe.path)


def select(
    recipe: LoadedRecipe, name: str, source: Source, files: Mapping[str, SourceFiles], fetched: Mapping[str, str]
) -> str:
    """Return the SELECT of a source's rows. `fetched`: a Parquet file of each database's rows."""
    if name in fetched:
        columns = ", ".join(
            f"CAST({quoted(each)} AS {kind}) AS {quoted(each)}" for each, kind in columns_of(source).items()
        )
        return f"SELECT {columns} FROM read_parquet({text(fetched[name])})"
    paths = files[name].paths
    if source.format == "csv":
        return f"SELECT * FROM {_csv(source, paths)}"
    if source.format == "jsonl":
        return (
            f"SELECT * FROM read_json({texts(paths)}, columns = {_struct(source.columns)}, "
            "format = 'newline_delimited', auto_detect = false, ignore_errors = false)"
        )
    if source.format == "images":
        return _images(recipe.full(recipe_file.paths_of(source)[0]), paths)
    return f"SELECT {', '.join(map(quoted, source.columns))} FROM read_parquet({texts(paths)})"


def check_parquet(connection: duckdb.DuckDBPyConnection, source: Source, files: SourceFiles) -> None:
    """Raise DatasetError for a Parquet file with other columns or types than the schema."""
    for path in files.paths:
        with engine.explained(path):
            rows = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({text(path)})").fetchall()
        found = {str(row[0]): str(row[1]) for row in rows}
        needed = {name: kind.replace(", ", ",") for name, kind in source.columns.items()}
        for name in [each for each in needed if each not in found]:
            raise DatasetError(f"the columns are {', '.join(found)}", f"{name} as well", where=f"{path}: {name}")
        for name, kind in needed.items():
            if found[name] != kind:
                do = "correct the recipe, and cast the column in the SQL"
                raise DatasetError(f"the column has the type {found[name]}", kind, do, f"{path}: {name}")


def _csv(source: Source, paths: Sequence[str]) -> str:
    return (
        f"read_csv({texts(list(paths))}, columns = {_struct(source.columns)}, auto_detect = false, strict_mode = true, "
        f"header = true, delim = {text(source.delimiter)}, quote = {text(source.quote)}, "
        f"escape = {text(source.quote)}, nullstr = {texts(source.null)}, null_padding = false, ignore_errors = false)"
    )


def _struct(columns: Mapping[str, str]) -> str:
    return "{" + ", ".join(f"{text(name)}: {text(kind)}" for name, kind in columns.items()) + "}"


def _images(folder: str, paths: Sequence[str]) -> str:
    classes = sorted({os.path.basename(os.path.dirname(path)) for path in paths})
    relative = f"substr(filename, {len(folder.rstrip('/')) + 2})"
    of_class = f"split_part({relative}, '/', 1)"
    return (
        f"SELECT {relative} AS file, {of_class} AS class, list_position({texts(classes)}, {of_class}) - 1 AS label, "
        f"content AS image FROM read_blob({texts(list(paths))})"
    )
