"""A request that a model answers, made up from its signature, as a command to type."""

import json
import shlex
from collections.abc import Mapping
from typing import Any

_TEXT = "DT_STRING"
_TRUTH = "DT_BOOL"
# A line with more values than these is not one to type.
_MOST_VALUES = 100


def inputs(metadata: Mapping[str, Any], signature: str = "serving_default") -> dict[str, Any] | None:
    """Return inputs of one row of zeros, by name, for a model with this metadata of TensorFlow Serving's REST.

    None where it has no such signature, or would take too many values.
    """
    signatures = metadata["metadata"]["signature_def"]["signature_def"]
    if signature not in signatures:
        return None
    made, values = {}, 0
    for name, each in signatures[signature]["inputs"].items():
        # an unknown dimension has the size -1, as the one of rows has
        sizes = [max(1, int(dim["size"])) for dim in each["tensor_shape"].get("dim", [])]
        count = 1
        for size in sizes:
            count *= size
        values += count
        if values > _MOST_VALUES:
            return None
        made[name] = _filled(sizes, _zero(each["dtype"]))
    return made


def command(url: str, metadata: Mapping[str, Any]) -> str:
    """Return the command that asks the model at `url`, or for its state where a request would be too long."""
    found = inputs(metadata)
    if found is None:
        return f"curl {shlex.quote(url)}"
    return f"curl {shlex.quote(f'{url}:predict')} -d {shlex.quote(json.dumps({'inputs': found}))}"


def _zero(dtype: str) -> object:
    if dtype == _TEXT:
        return ""
    return False if dtype == _TRUTH else 0


def _filled(sizes: list[int], value: object) -> object:
    if not sizes:
        return value
    return [_filled(sizes[1:], value) for _ in range(sizes[0])]
