"""Warm-up of a version: its first calls, which take longest, are made before a client's.

assets.extra/tf_serving_warmup_requests holds them as TensorFlow Serving reads them: a TFRecord file of PredictionLog.
Where there is none, each signature is called with zeros.
"""

import contextlib
import math
import os
import time
from typing import Dict, Iterator, List, Tuple

import numpy as np
import tensorflow as tf

from slurm_tf.serve.protocol import serving_messages
from slurm_tf.serve.replica import classify_regress, tensors
from slurm_tf.serve.replica.request_error import RequestError, invalid
from slurm_tf.serve.replica.served_version import ServedVersion
from slurm_tf.serve.replica.signatures import ServedSignature

NAME = os.path.join("assets.extra", "tf_serving_warmup_requests")
# TensorFlow Serving's bound (servables/tensorflow/saved_model_warmup_util.h).
MOST = 1000
_MOST_BYTES = 64 << 20
# How often a signature is called, and for how long: its very first call takes longer than those after it.
_CALLS, _CALLS_SECONDS = 10, 0.1


def warm_up(version: ServedVersion, path: str) -> float:
    """Make the warm-up calls of a version in the folder `path`. Raises RequestError, OSError.

    Return how many seconds a row takes: of the slowest signature, inf if none was called. A warm-up request that fails
    is an error of the version: it was written with it. Calls with zeros may fail.
    """
    caller = _Caller(version)
    file = os.path.join(path, NAME)
    if os.path.exists(file):
        _with_requests(caller, file)
    else:
        for signature in version.loaded.signatures.values():
            _with_zeros(caller, signature)
    return max(caller.row_seconds.values(), default=math.inf)


class _Caller:
    """Calls a version. `row_seconds`: the least that a row has taken, by the name of the signature."""

    def __init__(self, version: ServedVersion) -> None:
        self.version = version
        self.row_seconds: Dict[str, float] = {}

    def call(self, signature: ServedSignature, outputs: Tuple[str, ...], inputs: List[np.ndarray]) -> None:
        """Call a signature once, the first time as often as shows how long a call takes. Raises RequestError."""
        times = 1 if signature.name in self.row_seconds else _CALLS
        self._call(signature, outputs, inputs)
        end = time.monotonic() + _CALLS_SECONDS
        while times > 1 and time.monotonic() < end:
            times -= 1
            self._call(signature, outputs, inputs)

    def _call(self, signature: ServedSignature, outputs: Tuple[str, ...], inputs: List[np.ndarray]) -> None:
        rows = len(inputs[0]) if signature.batched and inputs and inputs[0].ndim else 1
        begin = time.perf_counter()
        self.version.batcher(signature, outputs).timed(inputs)
        took = (time.perf_counter() - begin) / max(rows, 1)
        self.row_seconds[signature.name] = min(took, self.row_seconds.get(signature.name, math.inf))


def _with_requests(caller: _Caller, file: str) -> None:
    """Make the calls of a file of warm-up requests. Raises RequestError."""
    try:
        for number, record in enumerate(tf.compat.v1.io.tf_record_iterator(file)):
            if number == MOST:
                break
            for signature, outputs, inputs in _calls(caller.version, record):
                caller.call(signature, outputs, inputs)
    except tf.errors.OpError as error:
        raise invalid(f"{NAME}: {error.message}") from error


def _calls(
    version: ServedVersion, record: bytes
) -> Iterator[Tuple[ServedSignature, Tuple[str, ...], List[np.ndarray]]]:
    """Yield the calls that a record asks for."""
    log = serving_messages.PredictionLog.FromString(record)
    kind = log.WhichOneof("log_type")
    if kind == "predict_log":
        yield version.predict_call(log.predict_log.request, _MOST_BYTES)
    elif kind == "classify_log":
        request = log.classify_log.request
        yield classify_regress.call(version.signature(request.model_spec.signature_name), request.input)
    elif kind == "regress_log":
        request = log.regress_log.request
        yield classify_regress.call(version.signature(request.model_spec.signature_name), request.input)
    elif kind == "multi_inference_log":
        request = log.multi_inference_log.request
        for task in request.tasks:
            yield classify_regress.call(version.signature(task.model_spec.signature_name), request.input)
    else:
        raise invalid(f"{NAME} has a record of kind {kind}")


def _with_zeros(caller: _Caller, signature: ServedSignature) -> None:
    """Call a signature with one row of zeros."""
    inputs = []
    for info in signature.inputs.values():
        kind = tensors.TYPES[info.dtype]
        sizes = info.shape
        if sizes is None or None in sizes[1:] or info.dtype == tensors.STRING:
            return
        inputs.append(np.zeros([1 if size is None else size for size in sizes], kind.array))
    # a model may refuse zeros; a client's request says why
    with contextlib.suppress(RequestError):
        caller.call(signature, tuple(signature.outputs), inputs)
