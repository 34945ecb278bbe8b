"""What a model answers for rows, and what a row has instead that failed. For Python 3.9."""

from dataclasses import dataclass
from typing import Any, Mapping, Optional, Sequence

import numpy as np

from slurm_tf.errors import ModelError

# What a row has that failed, beside the columns that are kept.
ERROR = "error"


@dataclass(frozen=True)
class Output:
    """An output of a model: its type of numpy, object for text, and its number of dimensions, None if not known."""

    name: str
    dtype: "np.dtype[Any]"
    rank: Optional[int]


@dataclass(frozen=True)
class Answers:
    """The answers for `rows` rows: the outputs by their names, the first dimension of each is that of the rows.

    `kept`: for each column of the input that is kept its values, a list or, for Parquet, an Arrow column. `error`: why
    there is no answer for one row, which has no outputs then.
    """

    rows: int
    outputs: "Mapping[str, np.ndarray[Any, Any]]"
    kept: Mapping[str, Any]
    error: str = ""


def check_names(version: str, outputs: Sequence[str], keep: Sequence[str]) -> None:
    """Raise ModelError if a row would have two values of one name."""
    for name in outputs:
        if name == ERROR:
            needed = "another name: a row that fails has its error there"
            raise ModelError(f"it has an output {ERROR}", needed, "export a signature without it", version)
        if name in keep:
            found = f"it has an output {name!r}, and --keep names a column {name!r}"
            raise ModelError(found, "one value of a name", "do not keep the column", version)
