"""Tensors of the protocol as arrays of numpy, and back."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Dict

import ml_dtypes
import numpy as np

from slurm_tf.serve.protocol import serving_messages
from slurm_tf.serve.replica.request_error import invalid

# How many shapes are remembered as messages: to read or write one takes as long as all else of a small tensor. Longer
# messages are not: a dimension may have a name of any length.
_SHAPES, _SHAPE_BYTES = 1024, 256


@dataclass(frozen=True)
class ElementType:
    """A type of elements: its name in TensorFlow, its numpy type, and the field of TensorProto with its values.

    `stored`: the numpy type of what the field holds where that is not the type itself: the bits of half floats, the
    real and imaginary parts of complex numbers. `packed`: the field holds floats or doubles as they are in memory.
    """

    name: str
    array: np.dtype
    field: str
    stored: "np.dtype | None"
    packed: bool


def _type(name: str, array: Any, field: str, stored: Any = None) -> ElementType:
    packed = np.dtype(stored or array).kind == "f"
    return ElementType(name, np.dtype(array), field, None if stored is None else np.dtype(stored), packed)


# By their numbers in DataType (tensorflow/core/framework/types.proto).
TYPES: Dict[int, ElementType] = {
    1: _type("float", np.float32, "float_val"),
    2: _type("double", np.float64, "double_val"),
    3: _type("int32", np.int32, "int_val"),
    4: _type("uint8", np.uint8, "int_val"),
    5: _type("int16", np.int16, "int_val"),
    6: _type("int8", np.int8, "int_val"),
    7: _type("string", object, "string_val"),
    8: _type("complex64", np.complex64, "scomplex_val", np.float32),
    9: _type("int64", np.int64, "int64_val"),
    10: _type("bool", np.bool_, "bool_val"),
    14: _type("bfloat16", ml_dtypes.bfloat16, "half_val", np.uint16),
    17: _type("uint16", np.uint16, "int_val"),
    18: _type("complex128", np.complex128, "dcomplex_val", np.float64),
    19: _type("half", np.float16, "half_val", np.uint16),
    22: _type("uint32", np.uint32, "uint32_val"),
    23: _type("uint64", np.uint64, "uint64_val"),
}
STRING = 7
_OF_ARRAYS = {each.array: (number, each) for number, each in TYPES.items()}


def array_of(tensor: Any, max_bytes: int) -> np.ndarray:
    """Return the array that a TensorProto holds, of at most `max_bytes` bytes. Raises RequestError.

    As in TensorFlow, fewer values than the shape has are filled up with the last one, or with zeros if there is none.
    """
    kind = TYPES.get(tensor.dtype)
    if kind is None:
        raise invalid(f"tensors of type {tensor.dtype} cannot be read")
    message = tensor.tensor_shape.SerializeToString()
    shape, count = _known_shape(message) if len(message) <= _SHAPE_BYTES else _shape(message)
    if count * kind.array.itemsize > max_bytes:
        raise invalid(f"a tensor has the shape {list(shape)}, which is more than {max_bytes} bytes")
    content = tensor.tensor_content
    if content:
        return _from_content(content, kind, shape, count)
    values = getattr(tensor, kind.field)
    try:
        flat = np.array(values[:], dtype=kind.stored or kind.array)
    except (OverflowError, ValueError) as error:
        raise invalid(f"a tensor of type {kind.name} has a value that does not fit: {error}") from error
    if kind.stored is not None:
        if flat.nbytes % kind.array.itemsize:
            raise invalid("a complex tensor has an odd number of parts")
        flat = flat.view(kind.array)
    return _filled(flat, kind, count).reshape(shape)


def _shape(message: bytes) -> "tuple[tuple[int, ...], int]":
    """Return the shape that a TensorShapeProto has, and how many elements that is. Raises RequestError."""
    proto = serving_messages.TensorShapeProto.FromString(message)
    if proto.unknown_rank:
        raise invalid("a tensor has no shape")
    shape = tuple([dim.size for dim in proto.dim])
    if len(shape) > 32 or min(shape, default=0) < 0:
        raise invalid(f"a tensor has the shape {list(shape)[:33]}")
    return shape, math.prod(shape)


_known_shape = lru_cache(_SHAPES)(_shape)


def _from_content(content: bytes, kind: ElementType, shape: "tuple[int, ...]", count: int) -> np.ndarray:
    if kind.field == "string_val":
        raise invalid("a tensor of strings has tensor_content; needed string_val")
    if len(content) != count * kind.array.itemsize:
        raise invalid(
            f"a tensor of shape {list(shape)} and type {kind.name} has {len(content)} bytes of tensor_content"
        )
    return np.ndarray(shape, kind.array, content)


def _filled(flat: np.ndarray, kind: ElementType, count: int) -> np.ndarray:
    """Return `count` values: those given, then the last one again."""
    if len(flat) == count:
        return flat
    if len(flat) > count:
        raise invalid(f"a tensor of {count} elements has {len(flat)} values")
    empty: Any = b"" if kind.field == "string_val" else 0
    filled = np.full(count, flat[-1] if len(flat) else empty, dtype=kind.array)
    filled[: len(flat)] = flat
    return filled


def fill(tensor: Any, array: np.ndarray) -> None:
    """Write an array into a TensorProto, its values in the field of their type. Raises RequestError."""
    found = _OF_ARRAYS.get(array.dtype)
    if found is None:
        raise invalid(f"an output has elements of {array.dtype}, which the protocol does not have")
    number, kind = found
    flat = array.ravel()
    if kind.stored is not None:
        flat = flat.view(kind.stored)
    if kind.packed:
        # to append them one by one takes ten times as long
        tensor.MergeFromString(_before_floats(number, array.shape, flat.nbytes) + flat.tobytes())
    else:
        tensor.MergeFromString(_head(number, array.shape))
        getattr(tensor, kind.field).extend(flat.tolist())


@lru_cache(_SHAPES)
def _head(number: int, shape: "tuple[int, ...]") -> bytes:
    """Return a TensorProto of a type and a shape, without values."""
    tensor = serving_messages.TensorProto(dtype=number)
    for size in shape:
        tensor.tensor_shape.dim.add().size = size
    head: bytes = tensor.SerializeToString()
    return head


@lru_cache(_SHAPES)
def _before_floats(number: int, shape: "tuple[int, ...]", size: int) -> bytes:
    """Return a TensorProto up to its field of floats or doubles, whose `size` bytes follow.

    The field begins with its key and its size (https://protobuf.dev/programming-guides/encoding/#packed).
    """
    field = serving_messages.TensorProto.DESCRIPTOR.fields_by_name[TYPES[number].field].number
    prefix = bytearray([field << 3 | 2])
    while size > 0x7F:
        prefix.append(size & 0x7F | 0x80)
        size >>= 7
    prefix.append(size)
    return _head(number, shape) + bytes(prefix)


def shape_text(shape: "tuple[int | None, ...]") -> str:
    """Return a shape as TensorFlow writes it: (?, 28, 28)."""
    return "(" + ", ".join("?" if size is None else str(size) for size in shape) + ")"
