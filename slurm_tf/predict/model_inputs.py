"""Makes the inputs of a signature of rows: a tensor for each input. For Python 3.9; imports TensorFlow."""

import json
from typing import Any, Dict, List, Mapping, Sequence

import numpy as np
import tensorflow as tf

from slurm_tf.errors import ModelError
from slurm_tf.predict.prediction_plan import InputFormat

# What tf.io.parse_example reads.
_PARSED = (tf.float32, tf.int64, tf.string)


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

    def _has_places(self, columns: int) -> bool:
        return bool(self._only) and self._specs[self._only].shape.as_list()[1:] == [columns]

    def of(self, rows: Sequence[Any]) -> Dict[str, tf.Tensor]:
        """Return the inputs for rows. Raises ValueError, TypeError or tf.errors.OpError if one does not fit."""
        if self._form is InputFormat.TFRECORD:
            return self._of_records(rows)
        if self._form is InputFormat.IMAGES:
            return {self._only: tf.stack([_image(row, self._specs[self._only]) for row in rows])}
        if self._is_vector:
            return {self._only: _tensor(rows, self._specs[self._only])}
        if self._form is InputFormat.JSONL:
            values = [self._of_line(row) for row in rows]
            return {name: _tensor([each[name] for each in values], spec) for name, spec in self._specs.items()}
        found = {}
        for name, spec in self._specs.items():
            place = self._places[name]
            cells: List[Any] = [row[place] if place < len(row) else None for row in rows]
            if self._form is InputFormat.CSV and spec.shape.rank > 1 and spec.shape.as_list()[1:] != [1]:
                cells = [json.loads(cell) for cell in cells if cell is not None]
            found[name] = _tensor(cells, spec)
        return found

    def _of_records(self, rows: Sequence[bytes]) -> Dict[str, tf.Tensor]:
        """Return what tf.train.Examples have; the records themselves for a model that parses them."""
        if self._only and self._specs[self._only].dtype == tf.string and self._specs[self._only].shape.rank == 1:
            return {self._only: tf.constant(list(rows), tf.string)}
        features = {
            name: tf.io.FixedLenFeature(spec.shape[1:], spec.dtype if spec.dtype in _PARSED else _parsed(spec.dtype))
            for name, spec in self._specs.items()
        }
        parsed = tf.io.parse_example(list(rows), features)
        return {name: tf.cast(parsed[name], spec.dtype) for name, spec in self._specs.items()}

    def _of_line(self, line: bytes) -> Mapping[str, Any]:
        """Return the values of a line of JSON: an object, or the value of the only input."""
        value = json.loads(line)
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


def _tensor(values: Sequence[Any], spec: tf.TensorSpec) -> tf.Tensor:
    """Return values, one for each row, as a tensor. Raises ValueError or TypeError."""
    if any(each is None for each in values):
        raise ValueError(f"{spec.name} is missing")
    if spec.dtype == tf.string:
        return tf.constant([_text(each) for each in values], tf.string)
    array = np.asarray(values)
    if array.dtype == object:
        raise ValueError(f"{spec.name} is no number, or an array of another shape")
    array = array.astype(spec.dtype.as_numpy_dtype)
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


def _image(data: bytes, spec: tf.TensorSpec) -> tf.Tensor:
    """Return an image as a model takes it: its bytes, whole numbers up to 255, or fractions up to 1."""
    if spec.dtype == tf.string:
        return tf.constant(data)
    channels = spec.shape.as_list()[-1] or 0
    image = tf.io.decode_image(data, channels, expand_animations=False)
    image = tf.image.convert_image_dtype(image, spec.dtype) if spec.dtype.is_floating else tf.cast(image, spec.dtype)
    if not spec.shape[1:].is_compatible_with(image.shape):
        raise ValueError(f"the image has the shape {image.shape}; needed {spec.shape[1:]}")
    return image
