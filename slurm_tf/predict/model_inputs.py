"""Makes the inputs of a signature of rows: a tensor for each input. For Python 3.9; imports TensorFlow."""

import json
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np
import tensorflow as tf

from slurm_tf.errors import ModelError
from slurm_tf.predict import json_values, parquet_rows
from slurm_tf.predict.prediction_plan import InputFormat

# What tf.io.parse_example reads.
_PARSED = (tf.float32, tf.int64, tf.string)
# What a truth value may be in CSV.
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class ModelInputs:
    """The inputs of a signature, and how rows of a format become them."""

    def __init__(self, form: InputFormat, specs: Mapping[str, tf.TensorSpec], columns: Sequence[str]) -> None:
        """`specs`: of each input; `columns`: what the values of a row are. Raises ModelError if they do not fit."""
        self._form, self._specs = form, dict(specs)
        for name, spec in self._specs.items():
            if spec.shape.rank is None or spec.shape.rank == 0 or spec.shape[0] is not None:
                found = f"its input {name} has the shape {spec.shape}"
                raise ModelError(found, "one whose first dimension is of any size: that of the rows")
        self._only = next(iter(self._specs)) if len(self._specs) == 1 else ""
        missing = [name for name in self._specs if name not in columns]
        # a CSV file of the places of one vector
        self._is_vector = form is InputFormat.CSV and bool(missing) and self._has_places(len(columns))
        if missing and not self._is_vector:
            raise ModelError(f"the input has no column {', '.join(missing)}", "the model's inputs in the header")
        if form is InputFormat.IMAGES and not self._only:
            raise ModelError(f"it has the inputs {', '.join(self._specs)}", "one, for the image of each file")
        self._places = {name: columns.index(name) for name in self._specs if name in columns}
        self._takes_records = bool(self._only) and self._specs[self._only].dtype == tf.string
        self._takes_records = self._takes_records and self._specs[self._only].shape.rank == 1
        self._parsed = tf.function(self._parse, [tf.TensorSpec([None], tf.string)], autograph=False)

    def _has_places(self, columns: int) -> bool:
        return bool(self._only) and self._specs[self._only].shape.as_list()[1:] == [columns]

    def of(self, rows: Any) -> Dict[str, tf.Tensor]:
        """Return the inputs for rows of row_reader. Raises ValueError, TypeError, tf.errors.OpError if one is unfit."""
        if self._form is InputFormat.TFRECORD:
            return {self._only: rows} if self._takes_records else self._parsed(rows)
        if self._form is InputFormat.IMAGES:
            return {self._only: tf.stack([_image(row, self._specs[self._only]) for row in rows])}
        if self._form is InputFormat.PARQUET:
            return {name: _tensor(parquet_rows.values(rows, name), spec) for name, spec in self._specs.items()}
        if self._form is InputFormat.JSONL:
            values = [self._of_line(row) for row in rows]
            return {name: _tensor([each[name] for each in values], spec) for name, spec in self._specs.items()}
        if self._is_vector:
            spec = self._specs[self._only]
            return {self._only: _tensor(_of_vectors(rows, spec), spec)}
        return {name: _tensor(self._of_column(rows, name), spec) for name, spec in self._specs.items()}

    def _of_column(self, rows: Sequence[List[str]], name: str) -> List[Any]:
        """Return the values of a column of CSV."""
        place, spec = self._places[name], self._specs[name]
        cells = [row[place] for row in rows if place < len(row)]
        if len(cells) < len(rows):
            raise ValueError(f"{name} is missing")
        if spec.shape.rank > 1 and spec.shape.as_list()[1:] != [1]:
            return [json.loads(cell) for cell in cells]
        return _of_cells(cells, spec.dtype)

    def _parse(self, records: tf.Tensor) -> Dict[str, tf.Tensor]:
        """Return what tf.train.Examples have."""
        features = {
            name: tf.io.FixedLenFeature(spec.shape[1:], spec.dtype if spec.dtype in _PARSED else _parsed(spec.dtype))
            for name, spec in self._specs.items()
        }
        parsed = tf.io.parse_example(records, features)
        return {name: tf.cast(parsed[name], spec.dtype) for name, spec in self._specs.items()}

    def _of_line(self, line: bytes) -> Mapping[str, Any]:
        """Return the values of a line of JSON: an object, or the value of the only input."""
        value = json_values.loads(line)
        if isinstance(value, dict):
            missing = [name for name in self._specs if name not in value]
            if missing:
                raise ValueError(f"it has no {', '.join(missing)}")
            return value
        if not self._only:
            raise ValueError(f"it is no object with {', '.join(self._specs)}")
        return {self._only: value}


def _parsed(dtype: tf.DType) -> tf.DType:
    return tf.float32 if dtype.is_floating else tf.int64


def _of_cells(cells: List[str], dtype: tf.DType) -> List[Any]:
    """Return the text of cells as numbers, or as it is. Raises ValueError."""
    if dtype == tf.string:
        return cells
    if dtype == tf.bool:
        return list(map(_truth, cells))
    return list(map(int if dtype.is_integer else float, cells))


def _of_vectors(rows: Sequence[List[str]], spec: tf.TensorSpec) -> Any:
    """Return rows of cells as an array of numbers, or as they are for text. Raises ValueError."""
    width = spec.shape[1]
    for row in rows:
        if len(row) != width:
            raise ValueError(f"it has {len(row)} columns; needed {width}")
    if spec.dtype == tf.string:
        return rows
    return np.array(_of_cells([cell for row in rows for cell in row], spec.dtype)).reshape(len(rows), width)


def _truth(cell: str) -> bool:
    found = _TRUTH.get(cell.strip().lower())
    if found is None:
        raise ValueError(f"found {cell!r}; needed {', '.join(_TRUTH)}")
    return found


def _tensor(values: Any, spec: tf.TensorSpec) -> tf.Tensor:
    """Return values, one for each row, as a tensor. Raises ValueError or TypeError."""
    if isinstance(values, list) and None in values:
        raise ValueError(f"{spec.name} is missing")
    if spec.dtype == tf.string:
        return tf.constant([_text(each) for each in values], tf.string)
    found = np.asarray(values)
    if found.dtype.kind not in "biuf":
        raise ValueError(f"{spec.name} is no number, or an array of another shape")
    with np.errstate(invalid="ignore"):  # of what is compared below
        array = found.astype(spec.dtype.as_numpy_dtype)
    if spec.dtype.is_integer and not np.array_equal(array, found):
        raise ValueError(f"{spec.name} is no {spec.dtype.name}")
    shape = spec.shape.as_list()[1:]
    if array.ndim == 1 and shape == [1]:
        array = array.reshape(-1, 1)
    if not spec.shape.is_compatible_with(array.shape):
        raise ValueError(f"{spec.name} has the shape {list(array.shape[1:])}; needed {shape}")
    return tf.constant(array)


def _text(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if isinstance(value, list):
        return [_text(each) for each in value]
    if not isinstance(value, bytes):
        raise TypeError(f"found {value!r}; needed text")
    return value


def _image(path: str, spec: tf.TensorSpec) -> tf.Tensor:
    """Return an image as a model takes it: its bytes, whole numbers up to 255, or fractions up to 1."""
    with open(path, "rb") as file:
        data = file.read()
    if spec.dtype == tf.string:
        return tf.constant(data)
    channels = spec.shape.as_list()[-1] or 0
    image = tf.io.decode_image(data, channels, expand_animations=False)
    image = tf.image.convert_image_dtype(image, spec.dtype) if spec.dtype.is_floating else tf.cast(image, spec.dtype)
    if not spec.shape[1:].is_compatible_with(image.shape):
        raise ValueError(f"the image has the shape {image.shape}; needed {spec.shape[1:]}")
    return image
