"""Warm-up of a version: its first calls, which take longest, are made before a client's.

assets.extra/tf_serving_warmup_requests holds them as TensorFlow Serving reads them: a TFRecord file of PredictionLog.
Where there is none, each signature is called with zeros.
"""

import os
from typing import Iterator, List, Tuple

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
# Calls with zeros, which also show how long a call takes.
_CALLS = 3


def warm_up(version: ServedVersion, path: str) -> int:
    """Make the warm-up calls of a version in the folder `path`; return how many. Raises RequestError, OSError.

    A warm-up request that fails is an error of the version: it was written with it. Calls with zeros may fail.
    """
    file = os.path.join(path, NAME)
    if not os.path.exists(file):
        return sum(_with_zeros(version, each) for each in version.loaded.signatures.values())
    number = 0
    try:
        for record in tf.compat.v1.io.tf_record_iterator(file):
            if number == MOST:
                break
            for signature, outputs, inputs in _calls(version, record):
                version.batcher(signature, outputs).timed(inputs)
            number += 1
    except tf.errors.OpError as error:
        raise invalid(f"{NAME}: {error.message}") from error
    return number


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


def _with_zeros(version: ServedVersion, signature: ServedSignature) -> int:
    """Call a signature with one row of zeros; return how often that was done."""
    inputs = []
    for info in signature.inputs.values():
        kind = tensors.TYPES[info.dtype]
        sizes = info.shape
        if sizes is None or None in sizes[1:] or info.dtype == tensors.STRING:
            return 0
        inputs.append(np.zeros([1 if size is None else size for size in sizes], kind.array))
    try:
        for _ in range(_CALLS):
            version.batcher(signature, tuple(signature.outputs)).timed(inputs)
    except RequestError:
        return 0  # a model may refuse zeros; a client's request says why
    return _CALLS
