"""What a model answers for rows, and what a row has instead that failed. For Python 3.9."""

from dataclasses import dataclass
from typing import Any, Mapping

import numpy as np

# What a row has that failed, beside the names of a model's outputs.
ERROR = "error"


@dataclass(frozen=True)
class Answers:
    """The answers for `rows` rows: the outputs by their names, the first dimension of each is that of the rows.

    `error`: why there is no answer for one row, which has no outputs then.
    """

    rows: int
    outputs: "Mapping[str, np.ndarray[Any, Any]]"
    error: str = ""
