"""Makes each source a table or a view of DuckDB, with the columns that its schema states."""

import os
from collections.abc import Mapping, Sequence

import duckdb

from slurm_tf.errors import DatasetError
from slurm_tf.prepare import array_rows, engine, exact_values, json_rows, recipe_file, refused_values
from slurm_tf.prepare.recipe import Source
from slurm_tf.prepare.recipe_file import LoadedRecipe
from slurm_tf.prepare.refused_values import ColumnPlace
from slurm_tf.prepare.source_files import SourceFiles
from slurm_tf.prepare.sql_types import name as quoted
from slurm_tf.prepare.sql_types import text, texts

# Of a folder of images: the path in it, the class, the number of the class by its name, and the file's bytes.
IMAGE_COLUMNS = {"file": "VARCHAR", "class": "VARCHAR", "label": "BIGINT", "image": "BLOB"}

# Bytes that a thread reads of CSV at once, more than the longest line that DuckDB takes; its default is 32 MB.
_CSV_BUFFER = 4_000_000
# The column of read_csv with the path of a row's file.
_FILE = "slurm_tf_file"


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
    """Make a view of each source, and let SQL read nothing else.

    `fetched`: a Parquet file of each source that DuckDB does not read itself.
    """
    for name in recipe.keys.sources:
        with engine.explained(name):
            rows = select(connection, recipe, name, files, fetched)
            connection.execute(f"CREATE OR REPLACE VIEW {quoted(name)} AS {rows}")
    allowed = [path for name, each in files.items() if name not in fetched for path in each.paths]
    engine.confine(connection, [*allowed, *fetched.values()])


def check_rows(connection: duckdb.DuckDBPyConnection, recipe: LoadedRecipe) -> None:
    """Raise DatasetError for a source without rows."""
    for name in recipe.keys.sources:
        with engine.explained(name):
            if not engine.first_row(connection, f"SELECT 1 FROM {quoted(name)} LIMIT 1"):
                raise DatasetError(f"the source {name} has no rows", "rows", where=recipe.path)


def select(
    connection: duckdb.DuckDBPyConnection,
    recipe: LoadedRecipe,
    name: str,
    files: Mapping[str, SourceFiles],
    fetched: Mapping[str, str],
) -> str:
    """Return the SELECT of a source's rows, each value of which is as its type says or ends the query.

    `fetched`: a Parquet file of each source that DuckDB does not read itself. Raises DatasetError for one with a column
    of another type.
    """
    source = recipe.keys.sources[name]
    if name in fetched:
        return _fetched(connection, recipe, name, source, fetched[name])
    paths = files[name].paths
    if source.format == "csv":
        return _csv(name, source, paths)
    if source.format == "images":
        return _images(recipe.data_path(recipe_file.paths_of(source)[0]), paths)
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


def _csv(name: str, source: Source, paths: Sequence[str]) -> str:
    """Return the SELECT of CSV, which is read as text: DuckDB would round a number to the type of its column."""
    columns = []
    for number, (column, kind) in enumerate(source.columns.items()):
        place = ColumnPlace(name, column, kind, number, source.delimiter, source.quote)
        value = exact_values.of_text(quoted(column), kind, refused_values.refusal(place, _FILE))
        columns.append(f"{value} AS {quoted(column)}")
    types = "{" + ", ".join(f"{text(column)}: 'VARCHAR'" for column in source.columns) + "}"
    return (
        f"SELECT {', '.join(columns)} FROM "
        f"read_csv({texts(list(paths))}, columns = {types}, auto_detect = false, strict_mode = true, "
        f"header = true, delim = {text(source.delimiter)}, quote = {text(source.quote)}, "
        f"escape = {text(source.quote)}, nullstr = {texts(source.null)}, null_padding = false, ignore_errors = false, "
        f"filename = {text(_FILE)}, buffer_size = {_CSV_BUFFER})"
    )


def _fetched(connection: duckdb.DuckDBPyConnection, recipe: LoadedRecipe, name: str, source: Source, path: str) -> str:
    """Return the SELECT of rows that were read into Parquet, with the types that their source has."""
    where = f"{recipe.path}: sources.{name}"
    rows = connection.execute(f"DESCRIBE SELECT * FROM read_parquet({text(path)})").fetchall()
    found = {str(row[0]): str(row[1]) for row in rows}
    columns = []
    for column, kind in columns_of(source).items():
        refusal = refused_values.refusal(ColumnPlace(where, column, kind), **_origin(recipe, source))
        value = exact_values.of_value(quoted(column), found[column], kind, refusal)
        if value is None:
            words, do = f"the column has the type {found[column]}", "correct the recipe, or cast it in the query"
            raise DatasetError(words, kind, do, f"{where}.columns.{column}")
        columns.append(f"{value} AS {quoted(column)}")
    return f"SELECT {', '.join(columns)} FROM read_parquet({text(path)})"


def _origin(recipe: LoadedRecipe, source: Source) -> Mapping[str, str]:
    """Return the expressions of the file, line and row of a row that was read into Parquet."""
    if source.format == "jsonl":
        return {"file": quoted(json_rows.FILE), "line": quoted(json_rows.LINE)}
    if source.format == "arrays":
        folder = recipe.data_path(recipe_file.paths_of(source)[0])
        return {"file": f"{text(folder)} || '/' || file", "row": '"row"'}
    return {}


def _images(folder: str, paths: Sequence[str]) -> str:
    classes = sorted({os.path.basename(os.path.dirname(path)) for path in paths})
    relative = f"substr(filename, {len(folder.rstrip('/')) + 2})"
    of_class = f"split_part({relative}, '/', 1)"
    return (
        f"SELECT {relative} AS file, {of_class} AS class, list_position({texts(classes)}, {of_class}) - 1 AS label, "
        f"content AS image FROM read_blob({texts(list(paths))})"
    )
