"""Reads the rows of one shard from the table of rows, in their order, and names the source's line of wrong ones."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slurm_tf.dataset.schema import Kind
from slurm_tf.errors import DatasetError
from slurm_tf.prepare import engine, feature_values, learned, row_keys, source_lines
from slurm_tf.prepare.feature_values import FeatureValues
from slurm_tf.prepare.recipe_file import LoadedRecipe
from slurm_tf.prepare.row_errors import shortened
from slurm_tf.prepare.sql_types import name as quoted

# The most rows, and about the most bytes, that are read at once; DuckDB reads 2048 rows or more.
_BATCH, _BATCH_BYTES = 1 << 14, 32 << 20


class ShardRows:
    """The rows of the table at `path`. `mem`: MiB for one shard at a time; `spill`: the folder of what does not fit."""

    def __init__(self, recipe: LoadedRecipe, path: str, spill: str, mem: int) -> None:
        self._recipe, self._path, self._spill, self._mem = recipe, path, spill, mem
        self._values = FeatureValues(recipe)

    def batches(self, split: int, shard: int) -> Iterator[pa.RecordBatch]:
        """Yield the features of the rows of a shard. Raises DatasetError, with the source's line if it has one."""
        key = self._recipe.keys.split.key
        names = [quoted(name) for name in feature_values.columns(list(self._recipe.keys.features), key)]
        rows = f"FROM {learned.ROWS} WHERE {row_keys.SPLIT} = {split} AND {row_keys.SHARD} = {shard}"
        query = f"SELECT {', '.join(names)}, {row_keys.KEY} {rows} ORDER BY {row_keys.HASH}, {row_keys.KEY}"
        sample = f"SELECT avg(strlen(each::VARCHAR)) FROM (SELECT {', '.join(names)} {rows} LIMIT 2048) AS each"
        last: bytes | None = None
        with engine.opened(self._path, self._spill, self._mem, 1, read_only=True) as connection:
            with engine.explained(self._recipe.path):
                (length,) = engine.first_row(connection, sample)
                reader = connection.sql(query).to_arrow_reader(min(_BATCH, int(_BATCH_BYTES / (length or 1)) + 1))
            for batch in reader:
                last = self._check_keys(batch, last)
                self._check_values(batch)
                yield self._values.of_rows(batch)

    def _check_keys(self, batch: pa.RecordBatch, last: bytes | None) -> bytes:
        """Raise DatasetError for two rows of a key, which are neighbours; return the last key."""
        keys = batch.column(row_keys.KEY)
        same = pc.equal(keys[1:], keys[:-1])
        row = pc.index(same, True).as_py() + 1 if len(same) else 0
        if not row and last != keys[0].as_py():
            return bytes(keys[-1].as_py())
        places = source_lines.places(self._recipe, self._key(batch, row), self._recipe.keys.split.key[0], 2)
        found = f"two rows have the key {self._key_words(batch, row)}"
        raise DatasetError(
            found, "a key for each row", "state more columns as the key", " and ".join(places) or self._where
        )

    def _check_values(self, batch: pa.RecordBatch) -> None:
        """Raise DatasetError for a value that is missing without a default, and for NaN that is not allowed."""
        for feature in self._recipe.schema.features:
            column = batch.column(feature.name)
            if column.null_count and feature.default is None:
                row = pc.index(column.is_null(), True).as_py()
                do = f"state features.{feature.name}.default, or fill it in the SQL"
                raise self._error(batch, row, feature.name, "is missing", "a value", do)
            if pa.types.is_floating(column.type) and feature.kind is not Kind.BYTES and not feature.allow_nan:
                odd = ~np.isfinite(column.fill_null(0).to_numpy(zero_copy_only=False))
                if odd.any():
                    row = int(np.flatnonzero(odd)[0])
                    do = f"state features.{feature.name}.allow-nan, or leave the row out in the SQL"
                    raise self._error(batch, row, feature.name, f"is {column[row].as_py()}", "a finite number", do)

    def _error(self, batch: pa.RecordBatch, row: int, column: str, found: str, needed: str, do: str) -> DatasetError:
        places = source_lines.places(self._recipe, self._key(batch, row), column)
        words = f"{column} {found} in the row of the key {self._key_words(batch, row)}"
        return DatasetError(words, needed, do, places[0] if places else self._where)

    def _key(self, batch: pa.RecordBatch, row: int) -> dict[str, object]:
        return {name: batch.column(name)[row].as_py() for name in self._recipe.keys.split.key}

    def _key_words(self, batch: pa.RecordBatch, row: int) -> str:
        return ", ".join(f"{name}={shortened(repr(value))}" for name, value in self._key(batch, row).items())

    @property
    def _where(self) -> str:
        return self._recipe.path
