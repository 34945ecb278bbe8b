"""The columns of an input file, as it names them itself. For Python 3.9."""

import csv
import io
import sys
from typing import Optional, Sequence

from slurm_tf.errors import DatasetError
from slurm_tf.predict import input_text, parquet_rows
from slurm_tf.predict.prediction_plan import InputFormat

# Of an image: the path of its file.
FILE = "file"


def columns(path: str, form: InputFormat) -> Optional[Sequence[str]]:
    """Return the names of a file's columns; None where each row has its own. Raises DatasetError, OSError."""
    if form is InputFormat.CSV:
        return header(path)
    if form is InputFormat.PARQUET:
        return parquet_rows.columns(path)
    return (FILE,) if form is InputFormat.IMAGES else None


def check_once(names: Sequence[str], needed: Sequence[str], path: str) -> None:
    """Raise DatasetError if a file has a needed column more than once."""
    for name in needed:
        if names.count(name) > 1:
            raise DatasetError(f"it has {names.count(name)} columns {name!r}", "one", where=path)


def header(path: str) -> Sequence[str]:
    """Return the names in the first row of a CSV file. Raises DatasetError, OSError."""
    csv.field_size_limit(sys.maxsize)  # of the module, also for the rows: 128 KiB, which a row of an array has
    # what is no UTF-8 may be in a row behind the header, which is its own error
    with input_text.opened(path) as file:
        text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
        try:
            names = next(filter(None, csv.reader(text)), [])
            "".join(names).encode()
        except (csv.Error, UnicodeEncodeError) as error:
            raise DatasetError(
                f"its header cannot be read ({error})", "names of columns in UTF-8", where=path
            ) from error
    return names
