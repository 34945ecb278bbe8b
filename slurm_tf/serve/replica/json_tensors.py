"""Predict over REST: JSON as arrays, and arrays as JSON, as TensorFlow Serving has it (util/json_tensor.cc).

    {"instances": [1.0, 2.0]}                  row form, one input       -> {"predictions": [[..], [..]]}
    {"instances": [{"a": 1, "b": 2}, ...]}     row form, several inputs  -> {"predictions": [{"y": ..}, ..]}
    {"inputs": [1.0, 2.0]}                     column form, one input    -> {"outputs": [[..], [..]]}
    {"inputs": {"a": [1, ..], "b": [2, ..]}}   column form, several      -> {"outputs": {"y": [..], ..}}

Bytes are {"b64": "..."}; an output of strings whose name ends in _bytes is written so. NaN, Infinity and -Infinity are
numbers.
"""

import base64
import binascii
import itertools
import json
from typing import Any, Dict, List, Mapping, Tuple

import msgspec
import numpy as np

from slurm_tf.serve.replica.request_error import invalid
from slurm_tf.serve.replica.signatures import ServedSignature
from slurm_tf.serve.replica.tensors import STRING, TYPES, ElementType

SIGNATURE_NAME, INSTANCES, INPUTS = "signature_name", "instances", "inputs"
_BYTES = "_bytes"
_B64 = "b64"
# numpy's kinds of arrays that are numbers of JSON
_INTEGERS, _NUMBERS = "iu", "iuf"
_MOST_DIMENSIONS = 32
_UNEQUAL = "the lists of the JSON value are not all of one length"


def parsed(body: bytes) -> Dict[str, Any]:
    """Return the object that a body holds. Raises RequestError."""
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        found = _decoded(body)
    except RecursionError as error:
        raise invalid("JSON Parse error: nested too deeply") from error
    except ValueError as error:  # UnicodeDecodeError too, and integers of thousands of digits
        raise invalid(f"JSON Parse error: {str(error)[:200]}") from error
    if not isinstance(found, dict):
        raise invalid("JSON Value: Is not object")
    name = found.get(SIGNATURE_NAME, "")
    if not isinstance(name, str):
        raise invalid(f"'{SIGNATURE_NAME}' key must be a string value.")
    return found


def _decoded(body: bytes) -> Any:
    """Return what JSON holds. Raises RecursionError, ValueError.

    msgspec reads numbers in a fifth of the time, but no NaN and no Infinity.
    """
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return json.loads(body)


def arrays(request: Mapping[str, Any], signature: ServedSignature) -> Tuple[Dict[str, np.ndarray], bool]:
    """Return the inputs of a signature, and whether they are in row form. Raises RequestError."""
    if (INSTANCES in request) == (INPUTS in request):
        if INSTANCES in request:
            raise invalid(f"Not formatted correctly expecting only one of '{INPUTS}' or '{INSTANCES}' keys to exist")
        raise invalid(f"Missing '{INPUTS}' or '{INSTANCES}' key")
    if not signature.inputs:
        raise invalid(f"Failed to get input map for signature: {signature.name}")
    try:
        if INSTANCES in request:
            return _rows(request[INSTANCES], signature), True
        return _columns(request[INPUTS], signature), False
    except RecursionError as error:
        raise invalid("JSON Value: nested too deeply") from error


def _rows(instances: Any, signature: ServedSignature) -> Dict[str, np.ndarray]:
    if not isinstance(instances, list):
        raise invalid(f"Expecting '{INSTANCES}' to be an list/array")
    if not instances:
        raise invalid(f"No values in '{INSTANCES}' array")
    named = _is_object(instances[0])
    if not named and len(signature.inputs) > 1:
        raise invalid(
            f"{INSTANCES} is a plain list, but expecting list of objects as multiple input tensors required as per "
            "tensorinfo_map"
        )
    for number, each in enumerate(instances):
        if _is_object(each) != named:
            raise invalid(f"Expecting {'object' if named else 'value/list'} at item {number} of input list")
        if named and set(each) != set(signature.inputs):
            expected = ",".join(sorted(signature.inputs))
            raise invalid(
                f"Failed to process element: {number} of '{INSTANCES}' list. keys must be equal to: {expected}"
            )
    if not named:
        (name,) = signature.inputs
        return {name: _array(instances, name, TYPES[signature.inputs[name].dtype])}
    return {
        name: _array([each[name] for each in instances], name, TYPES[info.dtype])
        for name, info in signature.inputs.items()
    }


def _columns(inputs: Any, signature: ServedSignature) -> Dict[str, np.ndarray]:
    if not _is_object(inputs):
        if len(signature.inputs) > 1:
            raise invalid(
                f"{INPUTS} is a plain value/list, but expecting an object as multiple input tensors required as per "
                "tensorinfo_map"
            )
        (name,) = signature.inputs
        return {name: _array(inputs, name, TYPES[signature.inputs[name].dtype])}
    for name in signature.inputs:
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in '{INPUTS}' object.")
    return {name: _array(inputs[name], name, TYPES[info.dtype]) for name, info in signature.inputs.items()}


def _is_object(value: Any) -> bool:
    """Return whether a JSON value is an object other than bytes in base64."""
    return isinstance(value, dict) and not is_base64(value)


def is_base64(value: Any) -> bool:
    """Return whether a JSON value is bytes in base64: an object with the key b64 alone."""
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get(_B64), str)


def _array(value: Any, name: str, kind: ElementType) -> np.ndarray:
    """Return a JSON value, a list of lists or a scalar, as an array. Raises RequestError."""
    if kind is TYPES[STRING]:
        return _strings(value, name)
    found = _values(value, name)
    if not found.size and found.dtype.kind == "f":
        return found.astype(kind.array)
    wanted = kind.array
    if wanted.kind == "b":
        fits = found.dtype.kind == "b"
    elif wanted.kind in _INTEGERS:
        fits = found.dtype.kind in _INTEGERS and _in_range(found, wanted)
    else:
        fits = found.dtype.kind in _NUMBERS
    if not fits:
        raise invalid(f"input {name}: JSON Value is not of expected type: {kind.name}")
    with np.errstate(over="ignore"):
        return found.astype(wanted)


def _values(value: Any, name: str) -> np.ndarray:
    """Return a JSON value as an array of the type that its elements have. Raises RequestError.

    Lists of lists are put together level by level, which takes half the time of numpy's own look at all levels.
    """
    shape = [len(value)] if isinstance(value, list) else []
    try:
        while shape and value and isinstance(value[0], list):
            sizes = set(map(len, value))
            # what is no list, but has a length, is an element of the next level, unless it has none
            if len(sizes) > 1 or (sizes == {0} and not all(isinstance(each, list) for each in value)):
                raise invalid(f"input {name}: {_UNEQUAL}")
            if len(shape) == _MOST_DIMENSIONS:
                raise invalid(f"input {name}: nested too deeply")
            shape.append(sizes.pop())
            value = list(itertools.chain.from_iterable(value))
        return np.array(value).reshape(shape)
    except (TypeError, ValueError, OverflowError) as error:
        raise invalid(f"input {name}: {_UNEQUAL}") from error


def _in_range(array: np.ndarray, wanted: np.dtype) -> bool:
    bounds = np.iinfo(wanted)
    return int(array.min()) >= bounds.min and int(array.max()) <= bounds.max


def _strings(value: Any, name: str) -> np.ndarray:
    """Return strings and bytes of a JSON value as an array of bytes."""
    shape: List[int] = []
    level = value
    while isinstance(level, list):
        shape.append(len(level))
        level = level[0] if level else None
        if len(shape) > _MOST_DIMENSIONS:
            raise invalid(f"input {name}: nested too deeply")
    flat: List[bytes] = []
    _gather(value, shape, name, flat)
    found = np.empty(len(flat), object)
    found[:] = flat
    return found.reshape(shape)


def _gather(value: Any, shape: List[int], name: str, flat: List[bytes]) -> None:
    if not shape:
        flat.append(_string(value, name))
        return
    if not isinstance(value, list) or len(value) != shape[0]:
        raise invalid(f"input {name}: {_UNEQUAL}")
    for each in value:
        _gather(each, shape[1:], name, flat)


def _string(value: Any, name: str) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError as error:
            raise invalid(f"input {name}: a string has half a surrogate pair") from error
    if is_base64(value):
        return decoded(value)
    raise invalid(f"input {name}: JSON Value is not of expected type: string")


def decoded(value: Mapping[str, str]) -> bytes:
    """Return the bytes of {"b64": ...}. Raises RequestError."""
    try:
        return base64.b64decode(value[_B64].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise invalid("Unable to base64 decode") from error


def text(outputs: Mapping[str, np.ndarray], rows: bool) -> bytes:
    """Return the answer, in row or column form. Raises RequestError."""
    values = {name: _value(name, outputs[name]) for name in sorted(outputs)}
    if not rows:
        return dumped({"outputs": next(iter(values.values())) if len(values) == 1 else values})
    sizes = set()
    for name, array in outputs.items():
        if not array.ndim:
            raise invalid(f"Tensor name: {name} has no shape information")
        sizes.add(len(array))
        if len(sizes) > 1:
            raise invalid(f"Tensor name: {name} has inconsistent batch size: {len(array)} expecting: {min(sizes)}")
    if len(values) == 1:
        return dumped({"predictions": next(iter(values.values()))})
    names = list(values)
    return dumped({"predictions": [dict(zip(names, row)) for row in zip(*values.values())]})


def dumped(answer: Mapping[str, Any]) -> bytes:
    """Return an answer as bytes."""
    return json.dumps(answer).encode()


def _value(name: str, array: np.ndarray) -> Any:
    """Return an output as JSON has it: lists of lists, or a scalar."""
    if array.dtype == object:
        return _texts(array.tolist(), name)
    if array.dtype.kind == "c":
        raise invalid(f"output {name} has complex numbers, which JSON does not have")
    return array.tolist() if array.dtype.kind in "biu" else _decimals(array)


def _decimals(array: np.ndarray) -> Any:
    """Return floating-point numbers with no more digits than they have: 0.1 of a float32 is not 0.10000000149."""
    if array.dtype == np.float64:
        return array.tolist()
    narrow = array if array.dtype == np.float16 else array.astype(np.float32)
    flat = narrow.ravel().astype("U").tolist()
    return np.array([float(each) for each in flat]).reshape(array.shape).tolist()


def _texts(value: Any, name: str) -> Any:
    if isinstance(value, list):
        return [_texts(each, name) for each in value]
    if name.endswith(_BYTES):
        return {_B64: base64.b64encode(value).decode()}
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise invalid(
            f"output {name} has bytes that are not UTF-8: an output of bytes has a name in {_BYTES}"
        ) from error


def shortest(value: float) -> float:
    """Return a float32 with no more digits than it has: 0.1, not 0.10000000149."""
    return float(str(np.float32(value)))
