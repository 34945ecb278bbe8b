"""Writes answers to a file of text, row by row in their order. For Python 3.9."""

import csv
from typing import Any, Dict, List, Optional, Sequence

import numpy as np

from slurm_tf.predict import json_values
from slurm_tf.predict.answers import ERROR, Answers, Output


class JsonLinesWriter:
    """Writes a line of JSON for each row: an object with what is kept, and the outputs by their names or the error."""

    def __init__(self, path: str) -> None:
        """Open a file, which is empty. Raises OSError."""
        self._file = open(path, "wb")  # noqa: SIM115 - close() is for it

    def write(self, answers: Answers) -> None:
        """Write some rows. Raises OSError."""
        columns = kept_lists(answers)
        are_plain = all(json_values.is_plain(value) for column in columns.values() for value in column)
        if answers.error:
            columns[ERROR] = [answers.error]
        for name, array in answers.outputs.items():
            columns[name] = json_values.of_array(array)
            are_plain = are_plain and _is_finite(array)
        self._file.write(json_values.lines([dict(zip(columns, row)) for row in zip(*columns.values())], are_plain))

    def close(self) -> None:
        """Hand over what was written to the system. Raises OSError."""
        self._file.close()


class CsvWriter:
    """Writes a row of CSV for each row: what is kept, the outputs, and the error; what a row has not is empty.

    Numbers are as Python writes them, arrays as JSON, and so is text that is no UTF-8.
    """

    def __init__(self, path: str, outputs: Sequence[Output], keep: Sequence[str], has_header: bool) -> None:
        """Open a file, which is empty. Raises OSError."""
        self._file = open(path, "w", encoding="utf-8", newline="")  # noqa: SIM115 - close() is for it
        self._names = [output.name for output in outputs]
        self._rows = csv.writer(self._file, lineterminator="\n")
        if has_header:
            self._rows.writerow([*keep, *self._names, ERROR])

    def write(self, answers: Answers) -> None:
        """Write some rows. Raises OSError."""
        columns = [list(map(text_of, column)) for column in kept_lists(answers).values()]
        for name in self._names:
            array = answers.outputs.get(name)
            columns.append([""] * answers.rows if array is None else _cells(array))
        self._rows.writerows(zip(*columns, [answers.error] * answers.rows))

    def close(self) -> None:
        """Hand over what was written to the system. Raises OSError."""
        self._file.close()


def kept_lists(answers: Answers) -> Dict[str, List[Any]]:
    """Return the values of what is kept."""
    return {name: column if isinstance(column, list) else column.to_pylist() for name, column in answers.kept.items()}


def text_of(value: Any) -> Optional[str]:
    """Return a value that is kept as text: text as it is, another value as JSON, None for none."""
    if isinstance(value, bytes):
        value = json_values.of_bytes(value)
    if value is None or (isinstance(value, str) and _is_utf8(value)):
        return value
    return json_values.text(value)


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_finite(array: "np.ndarray[Any, Any]") -> bool:
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())


def _cells(array: "np.ndarray[Any, Any]") -> List[Any]:
    values = json_values.of_array(array)
    if array.ndim > 1 or array.dtype.kind == "b":
        return list(map(json_values.plain_text if _is_finite(array) else json_values.text, values))
    return list(map(text_of, values)) if array.dtype == object else values
