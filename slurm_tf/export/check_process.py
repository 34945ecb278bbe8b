"""Loads a SavedModel and runs each of its signatures; a process of its own, as the model runs its author's code.

    python -c "from slurm_tf.export import check_process; check_process.main()" VERSION MODEL REPORT [INPUTS.npz]

A signature whose inputs have the names of the arrays in INPUTS gets these, and its outputs must be finite. Any other
gets zeros and empty texts of its inputs' shapes, in which a dimension of any size is 1; an input of text that is named
image_bytes gets an image of one pixel. All variables must be finite. Each is run in Python, and in a session as model
servers run it.
What the signatures were run on becomes the version's warm-up requests, in which MODEL is its model's name.
"""

import sys
import zipfile
from typing import Any, Dict, List, Mapping, Optional

import numpy as np
import tensorflow as tf

from slurm_tf.export import check_report, warmup_requests
from slurm_tf.export.check_report import CheckReport
from slurm_tf.models.model_manifest import IMAGE_BYTES, Signature, TensorSpec

# Signatures of Keras and of TensorFlow for the initialization of a model, which clients do not call.
_INTERNAL = ("__saved_model_init_op", "__saved_model_train_op")
_LONGEST_MESSAGE = 500


class _UnusableError(Exception):
    """The version cannot be served."""


def main() -> None:
    """Check the version that the command line names, and write the report."""
    version, model, report, *inputs = sys.argv[1:]
    signatures: Dict[str, Signature] = {}
    problem = ""
    try:
        ran = _check(version, _arrays(inputs[0]) if inputs else None, signatures)
        _check_session(version, signatures, ran)
        warmup_requests.write(version, model, ran)
    except _UnusableError as error:
        problem = str(error)
    check_report.write(report, CheckReport(problem, signatures, tf.__version__))


def _check(
    version: str, arrays: "Optional[Mapping[str, np.ndarray[Any, Any]]]", found: Dict[str, Signature]
) -> Dict[str, Dict[str, Any]]:
    """Load a version and run its signatures, each of added to `found` once it has run. Raises _UnusableError."""
    try:
        loaded = tf.saved_model.load(version)
    except (tf.errors.OpError, OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise _UnusableError(f"it cannot be loaded: {_words(error)}") from error
    functions = {name: each for name, each in loaded.signatures.items() if name not in _INTERNAL}
    if not functions:
        raise _UnusableError(
            "it has no signature; needed one, as of a tf.function with an input_signature, or signatures=... of the "
            "export"
        )
    if arrays is not None and not any(_inputs(each).keys() == arrays.keys() for each in functions.values()):
        known = "; ".join(f"{name}({', '.join(_inputs(each))})" for name, each in functions.items())
        raise _UnusableError(f"the inputs to check are {', '.join(arrays)}; needed those of a signature: {known}")
    ran: Dict[str, Dict[str, Any]] = {}
    for name, function in functions.items():
        given = arrays is not None and _inputs(function).keys() == arrays.keys()
        ran[name] = _run(name, function, arrays if given else None)
        outputs = {each: _spec(output) for each, output in function.structured_outputs.items()}
        found[name] = Signature({each: _spec(spec) for each, spec in _inputs(function).items()}, outputs)
        for variable in function.variables:
            if variable.dtype.is_floating and not bool(tf.reduce_all(tf.math.is_finite(variable))):
                raise _UnusableError(f"its variable {variable.name} has values that are NaN or infinite")
    return ran


def _check_session(version: str, signatures: Mapping[str, Signature], inputs: Mapping[str, Mapping[str, Any]]) -> None:
    """Run the signatures in a session on the same inputs. Raises _UnusableError."""
    graph = tf.Graph()
    name = ""
    try:
        with tf.compat.v1.Session(graph=graph) as session, graph.as_default():
            definitions = tf.compat.v1.saved_model.loader.load(session, ["serve"], version).signature_def
            for name, signature in signatures.items():
                tensors = definitions[name].inputs
                feed = {tensors[each].name: value.numpy() for each, value in inputs[name].items()}
                session.run([definitions[name].outputs[each].name for each in signature.outputs], feed)
    except (tf.errors.OpError, OSError, ValueError, LookupError, RuntimeError) as error:
        where = f"the signature {name}" if name else "it"
        raise _UnusableError(
            f"{where} fails in a session, as model servers run it: {_words(error)}; needed a model whose variables "
            "TensorFlow saves: of Keras 3, model.export or run.export"
        ) from error


def _run(name: str, function: Any, arrays: "Optional[Mapping[str, np.ndarray[Any, Any]]]") -> Dict[str, Any]:
    """Run a signature on given inputs, or on made-up ones, and return them. Raises _UnusableError."""
    specs = _inputs(function)
    try:
        if arrays is None:
            inputs = {each: _made_up(each, spec) for each, spec in specs.items()}
        else:
            inputs = {each: _given(arrays[each], spec) for each, spec in specs.items()}
        outputs = function(**inputs)
    except (tf.errors.OpError, ValueError, TypeError) as error:
        problem = f"the signature {name} fails: {_words(error)}"
        if arrays is None:
            has_text = any(spec.dtype == tf.string for spec in specs.values())
            problem += "; its input was made up" + (" of empty texts" * has_text) + ": give real inputs to check it"
        raise _UnusableError(problem) from error
    for each, output in outputs.items() if arrays is not None else ():
        if output.dtype.is_floating and not bool(tf.reduce_all(tf.math.is_finite(output))):
            raise _UnusableError(f"the output {each} of the signature {name} has values that are NaN or infinite")
    return inputs


def _inputs(function: Any) -> Dict[str, Any]:
    """Return the tf.TensorSpec of each input of a signature, by its name."""
    return dict(function.structured_input_signature[1])


def _given(array: "np.ndarray[Any, Any]", spec: Any) -> Any:
    """Return an array as the input that it is for. Raises ValueError: TensorFlow compares no shapes (2.21)."""
    if not spec.shape.is_compatible_with(array.shape):
        raise ValueError(f"its input {spec.name} was given in shape {list(array.shape)}; needed {spec.shape}")
    return tf.constant(array, spec.dtype)


def _made_up(name: str, spec: Any) -> Any:
    shape = [1] if spec.shape.rank is None else [size or 1 for size in spec.shape.as_list()]
    if name == IMAGE_BYTES and spec.dtype == tf.string:
        return tf.fill(shape, tf.io.encode_png(tf.zeros((1, 1, 1), tf.uint8)))
    return tf.fill(shape, "") if spec.dtype == tf.string else tf.zeros(shape, spec.dtype)


def _spec(tensor: Any) -> TensorSpec:
    shape = None if tensor.shape.rank is None else tuple(tensor.shape.as_list())
    return TensorSpec(tensor.dtype.name, shape)


def _arrays(path: str) -> "Mapping[str, np.ndarray[Any, Any]]":
    """Return the arrays of an .npz file, by name. Raises _UnusableError."""
    try:
        with np.load(path, allow_pickle=False) as found:
            return {name: found[name] for name in found.files}
    except (OSError, ValueError, zipfile.BadZipFile, AttributeError, TypeError) as error:
        raise _UnusableError(f"the inputs to check, {path}, cannot be read: {_words(error)}") from error


def _words(error: Exception) -> str:
    """Return the first lines of an error in one line: those of TensorFlow go on with a graph."""
    lines: List[str] = [line.strip() for line in str(getattr(error, "message", error)).splitlines() if line.strip()]
    return " ".join(lines)[:_LONGEST_MESSAGE] or type(error).__name__
