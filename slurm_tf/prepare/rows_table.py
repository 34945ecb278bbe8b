"""Makes the table of all rows of a data set in DuckDB, in their order, from the sources and the transform."""

import duckdb

from slurm_tf.dataset.schema import Feature, Kind
from slurm_tf.errors import ConfigError, DatasetError
from slurm_tf.jobspec import layers
from slurm_tf.prepare import engine, feature_values, python_rows, row_keys, source_tables, sql_file, sql_types
from slurm_tf.prepare.learned import ROWS
from slurm_tf.prepare.recipe_file import LoadedRecipe
from slurm_tf.prepare.sql_types import name as quoted

_GIVEN, _CHANGED = "slurm_tf_given", "slurm_tf_changed"
_KEY_TYPES = sql_types.INTEGERS - {"BOOLEAN"} | {"VARCHAR", "BLOB"}


def bind(connection: duckdb.DuckDBPyConnection, recipe: LoadedRecipe) -> tuple[str, ...]:
    """Make a view of what the SQL of a recipe returns; return the features that are not reproducible.

    Raises ConfigError for SQL that does not run, or whose rows may be others each time. No row is read.
    """
    where = f"{recipe.path}: transform.sql"
    if recipe.sql is None:
        with engine.explained(where):
            connection.execute(
                f"CREATE OR REPLACE VIEW {_GIVEN} AS SELECT * FROM {quoted(next(iter(recipe.keys.sources)))}"
            )
        return ()
    tables = {name: source_tables.columns_of(source) for name, source in recipe.keys.sources.items()}
    with engine.explained(where):
        statements = connection.extract_statements(recipe.sql)
        if len(statements) != 1 or statements[0].type != duckdb.StatementType.SELECT:
            raise ConfigError(f"found {len(statements)} statements", "one SELECT statement", where=where)
        connection.execute(f"CREATE OR REPLACE VIEW {_GIVEN} AS {statements[0].query.strip().rstrip(';')}")
    different = sql_file.unreproducible(recipe.sql, tables, where)
    for name in recipe.keys.split.key:
        if name.lower() in different:
            do = "cast the values to DECIMAL before they are added up"
            raise ConfigError(f"the key {name} may differ each time", "columns that are reproducible", do, where)
    return tuple(name for name in recipe.keys.features if name.lower() in different)


def types(connection: duckdb.DuckDBPyConnection, recipe: LoadedRecipe) -> dict[str, str]:
    """Return the types of all columns. Raises ConfigError for those that the features or the key cannot have."""
    table = _CHANGED if recipe.python is not None else _GIVEN
    rows = connection.execute(f"DESCRIBE {table}").fetchall()
    known = {str(row[0]): str(row[1]) for row in rows}
    key = recipe.keys.split.key
    for name in feature_values.columns(list(recipe.keys.features), key):
        if name not in known:
            where = f"{recipe.path}: {'split.key' if name in key else f'features.{name}'}"
            raise ConfigError(
                f"there is no column {name}", f"one of {', '.join(known)}", layers.nearest(name, list(known)), where
            )
    for name in key:
        if known[name] not in _KEY_TYPES:
            do = f"CAST({name} AS VARCHAR) in the SQL"
            raise ConfigError(f"{name} has the type {known[name]}", "text or integers", do, f"{recipe.path}: split.key")
    for feature in recipe.schema.features:
        _check_type(feature, known[feature.name], recipe)
    return known


def apply_python(connection: duckdb.DuckDBPyConnection, recipe: LoadedRecipe) -> None:
    """Make the table of what the Python function returns, if the recipe has one."""
    if recipe.python is not None:
        with engine.explained(recipe.path):
            python_rows.make(connection, recipe, _GIVEN, _CHANGED)


def make(connection: duckdb.DuckDBPyConnection, recipe: LoadedRecipe, known: dict[str, str]) -> dict[str, int]:
    """Make the table ROWS; return how many rows each split has. Raises DatasetError for errors of the sources' rows."""
    table = _CHANGED if recipe.python is not None else _GIVEN
    key = {name: known[name] for name in recipe.keys.split.key}
    names = feature_values.columns(list(recipe.keys.features), tuple(key))
    columns = [_column(name, known[name]) for name in names]
    shards = {split: recipe.shards(split) for split in recipe.splits}
    select = row_keys.placed(table, columns, key, recipe.keys.split.shares, shards)
    with engine.explained(recipe.path):
        connection.execute(f"CREATE OR REPLACE TABLE {ROWS} AS {select}")
        connection.execute(f"DROP TABLE IF EXISTS {_CHANGED}")
    return count(connection, recipe)


def count(connection: duckdb.DuckDBPyConnection, recipe: LoadedRecipe) -> dict[str, int]:
    """Return how many rows each split has in ROWS. Raises DatasetError for rows without a key, and for none."""
    with engine.explained(recipe.path):
        counts = dict(connection.execute(f"SELECT {row_keys.SPLIT}, count(*) FROM {ROWS} GROUP BY ALL").fetchall())
        (missing,) = engine.first_row(connection, f"SELECT count(*) FROM {ROWS} WHERE {row_keys.KEY} IS NULL")
    if missing:
        found = f"{missing} rows have no key"
        key = ", ".join(recipe.keys.split.key)
        raise DatasetError(found, f"{key} in each row", "leave them out in the SQL", recipe.path)
    rows = {split: int(counts.get(number, 0)) for number, split in enumerate(recipe.splits)}
    if not sum(rows.values()):
        raise DatasetError("there are no rows", "rows, after the transform", where=recipe.path)
    for split, number in rows.items():
        if not number:
            found, needed = f"the split {split} has none of {sum(rows.values())} rows", "rows in each split"
            raise DatasetError(found, needed, "state a larger share, or leave the split out", recipe.path)
    return rows


def _column(name: str, kind: str) -> str:
    """Return a column in SQL; sums of integers are HUGEINT, which a record has not."""
    return f"{quoted(name)}::BIGINT AS {quoted(name)}" if kind in ("HUGEINT", "UHUGEINT") else quoted(name)


def _check_type(feature: Feature, kind: str, recipe: LoadedRecipe) -> None:
    """Raise ConfigError for a column whose values the feature cannot hold."""
    keys, where = recipe.keys.features[feature.name], f"{recipe.path}: features.{feature.name}"
    found = sql_types.kind_of(kind)
    fitting = {feature.kind} | ({Kind.INT64} if feature.kind is Kind.FLOAT else set())
    if keys.vocabulary:
        fitting = {Kind.BYTES}
        if sql_types.element(kind) == "BLOB":
            found = None
    if keys.buckets is not None or keys.normalized:
        fitting = {Kind.INT64, Kind.FLOAT}
    if found not in fitting:
        needed = " or ".join(sorted(each.value for each in fitting))
        raise ConfigError(f"the column has the type {kind}", f"values of {needed}", "CAST it in the SQL", where)
    depth = int(feature.is_sequence) + int(feature.shape != ())
    if kind.count("[") != depth:
        needed = f"a column of {depth} lists in each other" if depth else "a column of single values"
        raise ConfigError(f"the column has the type {kind}", needed, "correct shape or sequence, or the SQL", where)
