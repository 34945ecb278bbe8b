"""Classify and Regress over REST: JSON as examples, classes and values as JSON (util/json_tensor.cc).

{"examples": [{"x": 2.0, "name": "a"}, ...], "context": {...}}  ->  {"results": [[["label", 0.9], ...], ...]}
                                                                or  {"results": [3.0, ...]}
"""

import json
from typing import Any, Mapping

from slurm_tf.serve.replica import json_tensors
from slurm_tf.serve.replica.request_error import invalid

EXAMPLES, CONTEXT = "examples", "context"
_INT64 = range(-(2**63), 2**63)


def fill(request: Mapping[str, Any], given: Any) -> None:
    """Write the examples of a request into an Input. Raises RequestError."""
    examples = request.get(EXAMPLES)
    if not isinstance(examples, list):
        raise invalid(f"'{EXAMPLES}' is expected to be a list/array")
    if not examples:
        raise invalid(f"'{EXAMPLES}' value is an empty array")
    if CONTEXT in request:
        _fill_example(given.example_list_with_context.context, request[CONTEXT])
        added = given.example_list_with_context.examples
    else:
        added = given.example_list.examples
    for each in examples:
        _fill_example(added.add(), each)


def _fill_example(example: Any, value: Any) -> None:
    if not isinstance(value, dict):
        raise invalid("Example must be JSON object")
    for name, content in value.items():
        try:
            feature = example.features.feature[name]
        except (UnicodeEncodeError, ValueError) as error:
            raise invalid("the name of a feature is not UTF-8") from error
        for each in content if isinstance(content, list) else [content]:
            _add(feature, name, each)


def _add(feature: Any, name: str, value: Any) -> None:
    """Add a value to a feature, whose values are all of one kind."""
    if isinstance(value, str):
        _values(feature, name, "bytes_list").append(value.encode("utf-8", "surrogatepass"))
    elif json_tensors.is_base64(value):
        _values(feature, name, "bytes_list").append(json_tensors.decoded(value))
    elif isinstance(value, float):
        _values(feature, name, "float_list").append(value)
    elif isinstance(value, int) and int(value) in _INT64:
        _values(feature, name, "int64_list").append(int(value))
    else:
        raise invalid(f"Feature: {name} has element with unexpected JSON type")


def _values(feature: Any, name: str, kind: str) -> Any:
    if feature.WhichOneof("kind") not in (None, kind):
        raise invalid(f"Unexpected element type in feature: {name} expecting type: {feature.WhichOneof('kind')[:-5]}")
    return getattr(feature, kind).value


def classifications(response: Any) -> bytes:
    """Return the classes of a ClassificationResponse as JSON: a list of [label, score] for each example."""
    rows = [
        [[each.label, json_tensors.shortest(each.score)] for each in found.classes]
        for found in response.result.classifications
    ]
    return json.dumps({"results": rows}).encode()


def regressions(response: Any) -> bytes:
    """Return the values of a RegressionResponse as JSON."""
    return json.dumps({"results": [json_tensors.shortest(each.value) for each in response.result.regressions]}).encode()
