"""Classify and Regress: examples in, classes or values out (apis/classification.proto, apis/regression.proto)."""

from typing import Any, List, Tuple

import numpy as np

from slurm_tf.serve.protocol import serving_messages
from slurm_tf.serve.replica.request_error import invalid
from slurm_tf.serve.replica.signatures import ServedSignature
from slurm_tf.serve.replica.tensors import STRING

CLASSES, SCORES, VALUES = "classes", "scores", "outputs"


def call(signature: ServedSignature, given: Any) -> Tuple[ServedSignature, Tuple[str, ...], List[np.ndarray]]:
    """Return the call of a signature on an Input: all outputs, for its serialized examples. Raises RequestError."""
    infos = list(signature.inputs.values())
    if len(infos) != 1 or infos[0].dtype != STRING:
        raise invalid(f"signature {signature.name} takes no examples: it needs one input of strings")
    return signature, tuple(signature.outputs), [_serialized(given)]


def _serialized(given: Any) -> np.ndarray:
    """Return the examples of an Input, serialized; the context's features stand in each."""
    kind = given.WhichOneof("kind")
    if kind == "example_list":
        found = [each.SerializeToString() for each in given.example_list.examples]
    elif kind == "example_list_with_context":
        context = given.example_list_with_context.context
        found = []
        for each in given.example_list_with_context.examples:
            merged = serving_messages.Example()
            merged.CopyFrom(context)
            merged.MergeFrom(each)
            found.append(merged.SerializeToString())
    else:
        found = []
    if not found:
        raise invalid("Input is empty")
    array = np.empty(len(found), object)
    array[:] = found
    return array


def fill_classifications(result: Any, outputs: "dict[str, np.ndarray]", number: int) -> None:
    """Write the classes and scores of each example into a ClassificationResult. Raises RequestError."""
    classes, scores = outputs.get(CLASSES), outputs.get(SCORES)
    if classes is None and scores is None:
        raise invalid(f"the signature has no output {CLASSES} and none {SCORES}: it does not classify")
    for name, each in ((CLASSES, classes), (SCORES, scores)):
        if each is not None and (each.ndim != 2 or len(each) != number):
            raise invalid(f"output {name} has the shape {list(each.shape)}; needed [{number}, classes]")
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise invalid(f"{CLASSES} and {SCORES} differ in shape: {list(classes.shape)} and {list(scores.shape)}")
    for row in range(number):
        found = result.classifications.add().classes
        for column in range((scores if classes is None else classes).shape[1]):  # type: ignore[union-attr]
            each = found.add()
            if classes is not None:
                each.label = _text(classes[row, column])
            if scores is not None:
                each.score = float(scores[row, column])


def _text(label: Any) -> str:
    try:
        return label.decode() if isinstance(label, bytes) else str(label)
    except UnicodeDecodeError as error:
        raise invalid(f"output {CLASSES} has a label that is not UTF-8") from error


def fill_regressions(result: Any, outputs: "dict[str, np.ndarray]", number: int) -> None:
    """Write the value of each example into a RegressionResult. Raises RequestError."""
    values = outputs.get(VALUES)
    if values is None:
        raise invalid(f"the signature has no output {VALUES}: it does not regress")
    if values.shape not in ((number,), (number, 1)) or values.dtype == object:
        raise invalid(f"output {VALUES} has the shape {list(values.shape)}; needed [{number}] or [{number}, 1]")
    for value in values.reshape(number).tolist():
        result.regressions.add().value = value
