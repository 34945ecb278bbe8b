"""Requests that warm a version up before it is served: assets.extra/tf_serving_warmup_requests, as TFRecord.

A replica, or tensorflow_model_server, runs them when it has loaded the version. Each is a PredictionLog of TensorFlow
Serving (apis/prediction_log.proto, predict.proto, model.proto). The few fields that it has are encoded here, as
programs have TensorFlow alone.
"""

import os
from typing import Any, Iterator, Mapping, Tuple

import tensorflow as tf

from slurm_tf.models import model_manifest

# Numbers of fields: PredictionLog.predict_log, PredictLog.request, PredictRequest.model_spec and inputs, whose entries
# have a key and a value, ModelSpec.name and signature_name.
_PREDICT_LOG, _REQUEST, _MODEL_SPEC, _INPUTS, _KEY, _VALUE, _NAME, _SIGNATURE = 6, 1, 1, 2, 1, 2, 1, 3
_LENGTH_DELIMITED = 2


def write(version: str, model: str, inputs: Mapping[str, Mapping[str, Any]]) -> None:
    """Write a request for each signature; `inputs`: the tensors of each signature by name."""
    os.makedirs(os.path.join(version, model_manifest.EXTRA), exist_ok=True)
    with tf.io.TFRecordWriter(os.path.join(version, model_manifest.WARMUP_REQUESTS)) as writer:
        for signature, tensors in inputs.items():
            writer.write(_request(model, signature, tensors))


def _request(model: str, signature: str, tensors: Mapping[str, Any]) -> bytes:
    spec = _field(_NAME, model.encode()) + _field(_SIGNATURE, signature.encode())
    entries = b"".join(_field(_INPUTS, b"".join(_entry(*each))) for each in tensors.items())
    return _field(_PREDICT_LOG, _field(_REQUEST, _field(_MODEL_SPEC, spec) + entries))


def _entry(name: str, tensor: Any) -> Iterator[bytes]:
    yield _field(_KEY, name.encode())
    yield _field(_VALUE, tf.make_tensor_proto(tensor).SerializeToString())


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | _LENGTH_DELIMITED) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    low: Tuple[int, ...] = ()
    while value > 0x7F:
        low, value = (*low, value & 0x7F | 0x80), value >> 7
    return bytes((*low, value))
