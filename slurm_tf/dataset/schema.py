"""Which features the records of a data set have. For Python 3.9."""

import unicodedata
from dataclasses import dataclass
from enum import Enum
from typing import Any, Optional, Tuple

from slurm_tf.errors import DatasetError

_INT64 = range(-(2**63), 2**63)


class Kind(str, Enum):
    """What the values of a feature are: a tf.train.Feature has one of these lists, and no others."""

    INT64 = "int64"
    FLOAT = "float"
    BYTES = "bytes"


@dataclass(frozen=True)
class Feature:
    """One feature. Raises DatasetError for what no record can have.

    `shape`: () for one value, (28, 28, 1) for an array of that shape, (None,) for any number of values.
    `is_sequence`: it is a feature list of tf.train.SequenceExample, and each step has the shape.
    `default`: what a record without the feature has, a number or text; at each place of an array; () for any number of
    values and for sequences, which are empty then. None: each record must have the feature.
    `allow_nan`: whether values may be NaN or infinite.
    """

    name: str
    kind: Kind
    shape: Tuple[Optional[int], ...] = ()
    is_sequence: bool = False
    default: Any = None
    allow_nan: bool = False

    def __post_init__(self) -> None:
        if self.default == []:  # as JSON has it
            object.__setattr__(self, "default", ())
        if not self.name or any(unicodedata.category(character) in ("Cc", "Cs") for character in self.name):
            raise DatasetError(f"found a feature of the name {self.name!r}", "text without control characters")
        if self.shape != (None,) and any(size is None or size < 1 for size in self.shape):
            raise self._error(f"has the shape {self.shape}", "() or (None,) or sizes from 1 on")
        if self.default is not None and not self._fits(self.default):
            raise self._error(f"has the default {self.default!r}", self._default_words)

    @property
    def has_any_length(self) -> bool:
        """Whether records may have different numbers of its values."""
        return self.is_sequence or self.shape == (None,)

    def _fits(self, value: object) -> bool:
        if self.has_any_length or isinstance(value, bool):
            return value == () and self.has_any_length
        if self.kind is Kind.INT64:
            return isinstance(value, int) and value in _INT64
        return isinstance(value, str if self.kind is Kind.BYTES else (int, float))

    @property
    def _default_words(self) -> str:
        if self.has_any_length:
            return "no value, []"
        return {Kind.INT64: "an integer of 64 bits", Kind.FLOAT: "a number", Kind.BYTES: "text"}[self.kind]

    def _error(self, found: str, needed: str) -> DatasetError:
        return DatasetError(f"the feature {self.name} {found}", needed)


@dataclass(frozen=True)
class Schema:
    """The features of a data set's records: at least one, each with another name. Raises DatasetError."""

    features: Tuple[Feature, ...]

    def __post_init__(self) -> None:
        names = [feature.name for feature in self.features]
        if not names:
            raise DatasetError("the schema has no features", "one at least")
        for name in names:
            if names.count(name) > 1:
                raise DatasetError(f"the schema has {names.count(name)} features of the name {name}", "one of a name")
