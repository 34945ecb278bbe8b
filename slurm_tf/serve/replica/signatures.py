"""The signatures of a version: what a call needs and gives, and the check of what a client sends.

A call with an input of another shape must not reach TensorFlow: some of its kernels end the process then (oneDNN's
convolution does). Models of operations that are known not to may get any shape.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from slurm_tf.serve.replica.request_error import Code, RequestError, invalid
from slurm_tf.serve.replica.tensors import TYPES, shape_text

DEFAULT = "serving_default"


@dataclass(frozen=True)
class TensorInfo:
    """A tensor of a signature: `tensor` is its name in the graph, `dtype` its number in DataType.

    `shape` is None where its rank is not known; a dimension of any size is None. `any_shape`: TensorFlow itself takes
    or refuses arrays of other shapes, as clients of TensorFlow Serving send.
    """

    tensor: str
    dtype: int
    shape: Optional[Tuple[Optional[int], ...]]
    any_shape: bool

    @cached_property
    def batched(self) -> bool:
        """Return whether its first dimension is of any size: the rows of a batch."""
        return bool(self.shape) and self.shape is not None and self.shape[0] is None

    def checked(self, name: str, array: np.ndarray) -> np.ndarray:
        """Return the array. Raises RequestError for one that is not of this type and shape."""
        kind = TYPES[self.dtype]
        if array.dtype != kind.array:
            raise invalid(f"input {name} has elements of {array.dtype}; needed {kind.name}")
        if self.shape is None or self.any_shape or self._takes(array.shape):
            return array
        raise invalid(f"input {name} has the shape {shape_text(array.shape)}; needed {shape_text(self.shape)}")

    def _takes(self, shape: Tuple[int, ...]) -> bool:
        needed = self.shape or ()
        if len(shape) != len(needed):
            return False
        if shape[1:] == needed[1:] and self.batched:
            return True
        return all(each is None or size == each for size, each in zip(shape, needed))


@dataclass(frozen=True)
class ServedSignature:
    """A signature by its name: what it needs and gives, by the names that a client uses."""

    name: str
    method: str
    inputs: Mapping[str, TensorInfo]
    outputs: Mapping[str, TensorInfo]

    @property
    def batched(self) -> bool:
        """Return whether rows of several requests can be one call: every input and output has rows."""
        return all(each.batched for each in (*self.inputs.values(), *self.outputs.values()))

    def arrays(self, given: Mapping[str, np.ndarray]) -> List[np.ndarray]:
        """Return the inputs in their order, once each fits. Raises RequestError in TensorFlow Serving's words."""
        if given.keys() != self.inputs.keys():
            raise self._other_names(given)
        return [info.checked(name, given[name]) for name, info in self.inputs.items()]

    def _other_names(self, given: Mapping[str, np.ndarray]) -> RequestError:
        expected = ", ".join(sorted(self.inputs))
        unknown = sorted(set(given) - set(self.inputs))
        if unknown:
            return invalid(
                f"input tensor alias not found in signature: {unknown[0]}. Inputs expected to be in the set "
                f"{{{expected}}}."
            )
        missing = sorted(set(self.inputs) - set(given))
        return invalid(
            f"input size does not match signature: {len(given)}!={len(self.inputs)} "
            f"len({{{', '.join(sorted(given))}}}) != len({{{expected}}}). "
            f"Missing but required: {{{', '.join(missing)}}}."
        )

    def chosen(self, names: Sequence[str]) -> Tuple[str, ...]:
        """Return which outputs are asked for, all for (). Raises RequestError."""
        if not names:
            return self.all_outputs
        for name in names:
            if name not in self.outputs:
                expected = ", ".join(sorted(self.outputs))
                raise invalid(
                    f"output tensor alias not found in signature: {name} Outputs expected to be in the set "
                    f"{{{expected}}}."
                )
        if len(set(names)) < len(names):
            raise invalid("duplicate output tensor alias in output_filter")
        return tuple(names)

    @cached_property
    def all_outputs(self) -> Tuple[str, ...]:
        """Return the names of all outputs."""
        return tuple(self.outputs)


def from_signature_defs(signature_defs: Mapping[str, Any], any_shape: bool) -> Dict[str, ServedSignature]:
    """Return the signatures of a MetaGraphDef that can be called: dense tensors of types that the protocol has.

    `any_shape`: none of its operations ends the process for an input of another shape.
    """
    found = {}
    for name, definition in signature_defs.items():
        inputs, outputs = _infos(definition.inputs, any_shape), _infos(definition.outputs, any_shape)
        if inputs is not None and outputs:
            found[name] = ServedSignature(name, definition.method_name, inputs, outputs)
    return found


def _infos(infos: Mapping[str, Any], any_shape: bool) -> Optional[Dict[str, TensorInfo]]:
    found = {}
    for name in sorted(infos):
        info = infos[name]
        if not info.name or info.dtype not in TYPES:
            return None
        sizes = [None if dim.size < 0 else int(dim.size) for dim in info.tensor_shape.dim]
        shape = None if info.tensor_shape.unknown_rank else tuple(sizes)
        found[name] = TensorInfo(info.name, info.dtype, shape, any_shape)
    return found


def find(signatures: Mapping[str, ServedSignature], name: str) -> ServedSignature:
    """Return a signature, "" for the default one. Raises RequestError."""
    wanted = name or DEFAULT
    if wanted not in signatures:
        raise RequestError(Code.FAILED_PRECONDITION, f'Serving signature key "{wanted}" not found.')
    return signatures[wanted]


def differences(old: Mapping[str, ServedSignature], new: Mapping[str, ServedSignature]) -> List[str]:
    """Return why clients of a version could not use another one, a line each: what they send or read is not there."""
    lines = []
    for name, signature in old.items():
        other = new.get(name)
        if other is None:
            lines.append(f"it has no signature {name}")
            continue
        for tensor, info in other.inputs.items():
            if tensor not in signature.inputs:
                lines.append(f"{name} needs an input {tensor}")
            elif not _takes(info, signature.inputs[tensor]):
                lines.append(f"{name} has another type or shape of input {tensor}")
        lines += [f"{name} has no input {tensor}" for tensor in signature.inputs if tensor not in other.inputs]
        for tensor, info in signature.outputs.items():
            if tensor not in other.outputs or other.outputs[tensor].dtype != info.dtype:
                lines.append(f"{name} has no output {tensor} of its type")
    return lines


def _takes(new: TensorInfo, old: TensorInfo) -> bool:
    """Return whether every array that fits one input fits the other."""
    if new.dtype != old.dtype:
        return False
    if new.shape is None or old.shape is None:
        return new.shape is None
    return len(new.shape) == len(old.shape) and all(
        size is None or size == before for size, before in zip(new.shape, old.shape)
    )
