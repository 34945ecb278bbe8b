"""Makes the values of features from the columns of rows: numbers of words and of buckets, normalized numbers."""

import math
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from slurm_tf.dataset import assets
from slurm_tf.prepare.recipe import FeatureKeys
from slurm_tf.prepare.recipe_file import LoadedRecipe


class FeatureValues:
    """The changes of all features, as the assets of the data set say. Raises OSError and DatasetError."""

    def __init__(self, recipe: LoadedRecipe) -> None:
        self._features = recipe.keys.features
        self._words = {
            name: pa.array(assets.read_vocabulary(recipe.folder, name), pa.string())
            for name, each in self._features.items()
            if each.vocabulary
        }
        self._edges = {
            name: np.array(assets.read_buckets(recipe.folder, name).edges)
            for name, each in self._features.items()
            if each.buckets is not None
        }
        self._normalizations = {
            name: assets.read_normalization(recipe.folder, name)
            for name, each in self._features.items()
            if each.normalized
        }

    def of_rows(self, batch: pa.RecordBatch) -> pa.RecordBatch:
        """Return the columns of the features of rows."""
        columns = [self._column(name, each, batch.column(name)) for name, each in self._features.items()]
        return pa.RecordBatch.from_arrays(columns, names=list(self._features))

    def _column(self, name: str, feature: FeatureKeys, column: pa.Array) -> pa.Array:
        if not (feature.vocabulary or feature.buckets is not None or feature.normalized):
            return column
        return _inside_lists(column, lambda values: self._changed(name, values))

    def _changed(self, name: str, values: pa.Array) -> pa.Array:
        if name in self._words:
            return _numbers_of_words(values, self._words[name])
        numbers = values.cast(pa.float64()).fill_null(math.nan).to_numpy(zero_copy_only=False)
        mask = values.is_null().to_numpy(zero_copy_only=False)
        if name in self._edges:
            return pa.array(np.searchsorted(self._edges[name], numbers, side="right"), pa.int64(), mask=mask)
        found = self._normalizations[name]
        return pa.array((numbers - found.mean) / math.sqrt(found.variance), pa.float64(), mask=mask)


def _inside_lists(column: pa.Array, change: Callable[[pa.Array], pa.Array]) -> pa.Array:
    """Return a column with all values changed, at any depth of lists."""
    if not (
        pa.types.is_list(column.type) or pa.types.is_large_list(column.type) or pa.types.is_fixed_size_list(column.type)
    ):
        return change(column)
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False)
    offsets = np.concatenate([np.zeros(1, np.int32), np.cumsum(lengths, dtype=np.int32)])
    inner = _inside_lists(column.flatten(), change)
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), inner, mask=column.is_null())


def _numbers_of_words(values: pa.Array, words: pa.Array) -> pa.Array:
    texts = values.cast(pa.string())
    places = pc.index_in(texts, value_set=words)
    numbers = pc.add(pc.fill_null(places.cast(pa.int64()), assets.UNKNOWN - assets.FIRST), assets.FIRST)
    numbers = pc.if_else(pc.equal(texts, ""), assets.PADDING, numbers)
    return pc.if_else(texts.is_null(), pa.scalar(None, pa.int64()), numbers)


def columns(names: Sequence[str], key: Sequence[str]) -> list[str]:
    """Return the columns that a row needs: the key first, which errors show."""
    return list(dict.fromkeys([*key, *names]))
