"""Learns vocabularies, edges of buckets, means and variances from the rows of train, and writes them as assets."""

import hashlib
import math
import os
import unicodedata
from collections.abc import Iterator
from itertools import chain

import duckdb

from slurm_tf import files
from slurm_tf.dataset import assets
from slurm_tf.dataset.assets import Buckets, Normalization
from slurm_tf.errors import DatasetError
from slurm_tf.prepare import engine, row_keys
from slurm_tf.prepare.recipe import FeatureKeys, Vocabulary
from slurm_tf.prepare.recipe_file import TRAIN, LoadedRecipe
from slurm_tf.prepare.sql_types import name as quoted

# The table of rows.
ROWS = "slurm_tf_rows"
# Stands for any word that is not in a vocabulary, in StringLookup of Keras.
_UNKNOWN_WORD = "[UNK]"
_BATCH = 1 << 16


def learn(connection: duckdb.DuckDBPyConnection, recipe: LoadedRecipe, types: dict[str, str]) -> dict[str, str]:
    """Write the assets of all features; return the SHA-256 of each file by its name. Raises DatasetError, StorageError.

    `types`: the types of the columns in the table of rows.
    """
    folder = recipe.folder
    with files.explained("write the assets"):
        os.makedirs(os.path.dirname(assets.path(folder, "")), mode=0o700, exist_ok=True)
        for name, feature in recipe.keys.features.items():
            with engine.explained(recipe.path):
                _learn(connection, recipe, name, feature, types[name].endswith("]"))
    return sums(recipe)


def sums(recipe: LoadedRecipe) -> dict[str, str]:
    """Return the SHA-256 of the assets that were written, by their names. Raises OSError for one that is missing."""
    found = {}
    for name, feature in recipe.keys.features.items():
        if asset := _asset(name, feature):
            with open(assets.path(recipe.folder, asset), "rb") as file:
                found[asset] = hashlib.file_digest(file, "sha256").hexdigest()
    return found


def _asset(name: str, feature: FeatureKeys) -> str | None:
    if feature.vocabulary:
        return assets.vocabulary_name(name)
    if feature.buckets is not None:
        return assets.buckets_name(name)
    return assets.normalization_name(name) if feature.normalized else None


def _learn(
    connection: duckdb.DuckDBPyConnection, recipe: LoadedRecipe, name: str, feature: FeatureKeys, is_list: bool
) -> None:
    where = f"{recipe.path}: features.{name}"
    values = _values(recipe, name, is_list)
    if feature.vocabulary:
        assets.write_vocabulary(recipe.folder, name, _words(connection, values, feature.vocabulary, where))
    if isinstance(feature.buckets, tuple):
        assets.write_buckets(recipe.folder, name, Buckets(tuple(map(float, feature.buckets))))
    if isinstance(feature.buckets, int):
        assets.write_buckets(recipe.folder, name, Buckets(_edges(connection, values, feature.buckets, where)))
    if feature.normalized:
        assets.write_normalization(recipe.folder, name, _normalization(connection, values, where))


def _values(recipe: LoadedRecipe, name: str, is_list: bool) -> str:
    """Return the SELECT of the values of a column in train, as `value`; those of lists one by one."""
    column = f"unnest({quoted(name)}, recursive := true)" if is_list else quoted(name)
    train = recipe.splits.index(TRAIN)
    return (
        f"SELECT value FROM (SELECT {column} AS value FROM {ROWS} WHERE {row_keys.SPLIT} = {train}) "
        "WHERE value IS NOT NULL"
    )


def _words(connection: duckdb.DuckDBPyConnection, values: str, keys: Vocabulary, where: str) -> tuple[str, ...]:
    """Return the words of a vocabulary: the most frequent first, those of a count by their bytes."""
    limit = f"LIMIT {keys.max_size}" if keys.max_size else ""
    rows = connection.execute(
        f"SELECT value FROM ({values}) WHERE value NOT IN ('', '{_UNKNOWN_WORD}') GROUP BY value "
        f"HAVING count(*) >= {keys.min_count} ORDER BY count(*) DESC, value {limit}"
    ).fetchall()
    words = tuple(str(row[0]) for row in rows)
    for word in words:
        if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in word):
            do = "replace them in the SQL"
            raise DatasetError(f"found the word {word!r}", "words without control characters", do, where)
    if not words:
        raise DatasetError("the vocabulary has no words", "one in train, as often as min-count says", where=where)
    return words


def _edges(connection: duckdb.DuckDBPyConnection, values: str, buckets: int, where: str) -> tuple[float, ...]:
    """Return the edges that divide the values into equal parts, each edge once: they are values of the column."""
    shares = ", ".join(str(number / buckets) for number in range(1, buckets))
    (found,) = engine.first_row(connection, f"SELECT quantile_disc(value::DOUBLE, [{shares}]) FROM ({values})")
    edges = tuple(sorted(set(found or ())))
    if not edges or not all(map(math.isfinite, edges)):
        raise DatasetError("there are no edges of buckets", "finite numbers in train", where=where)
    return edges


def _normalization(connection: duckdb.DuckDBPyConnection, values: str, where: str) -> Normalization:
    """Return the mean and the variance; each sum is rounded once, whatever the order of the rows."""
    (count,) = engine.first_row(connection, f"SELECT count(*) FROM ({values})")
    if not count:
        raise DatasetError("there is no value in train", "numbers to normalize by", where=where)
    mean = math.fsum(_numbers(connection, values)) / count
    variance = math.fsum((value - mean) ** 2 for value in _numbers(connection, values)) / count
    if not math.isfinite(variance):
        raise DatasetError("the mean or the variance is not finite", "finite numbers", where=where)
    if variance == 0:
        do = "leave out normalized, or the feature"
        raise DatasetError(f"all values in train are {mean}", "numbers that differ", do, where)
    return Normalization(mean, variance)


def _numbers(connection: duckdb.DuckDBPyConnection, values: str) -> Iterator[float]:
    reader = connection.sql(f"SELECT value::DOUBLE AS value FROM ({values})").to_arrow_reader(_BATCH)
    return chain.from_iterable(batch.column(0).to_numpy().tolist() for batch in reader)
