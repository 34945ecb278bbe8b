"""Shows the params of a run in TensorBoard's HParams, beside the metrics that its program writes.

It is one event file, as tensorboard.plugins.hparams writes it (2.20); that package need not be installed. The message
SessionStartInfo has the map of hyperparameters as field 1, as google.protobuf.Struct has its own map, of the same type.
"""

import os
import time
from typing import Any, Mapping

import tensorflow as tf
from google.protobuf import struct_pb2

from slurm_tf.train.train_log import log

# Before all names of event files, which have the time instead of the 0: TensorBoard reads the files of a folder in the
# order of their names, and goes on to the next one for good.
FILE = "events.out.tfevents.0.params"
_TAG = "_hparams_/session_start_info"
# Field 3 of HParamsPluginData, session_start_info, as a message: (3 << 3) | 2.
_SESSION_START_INFO = b"\x1a"


def write(folder: str, params: Mapping[str, Any]) -> None:
    """Write the event file into `folder`, in place of one of an earlier attempt; print why where that fails."""
    # Neither a summary writer nor a tensor: both would start TensorFlow before its strategy is made.
    metadata = tf.compat.v1.SummaryMetadata()
    metadata.plugin_data.plugin_name = "hparams"
    metadata.plugin_data.content = _plugin_data(params)
    value = tf.compat.v1.Summary.Value(
        tag=_TAG, metadata=metadata, tensor=tf.make_tensor_proto([], dtype=tf.float32, shape=(0,))
    )
    summary = tf.compat.v1.Summary(value=[value])
    path = os.path.join(folder, FILE)
    try:
        with tf.io.TFRecordWriter(path) as file:
            for event in ({"file_version": "brain.Event:2"}, {"summary": summary}):
                file.write(tf.compat.v1.Event(wall_time=time.time(), **event).SerializeToString())
    except tf.errors.OpError as error:  # training is worth more than a table
        log(f"cannot write {path}: {error.message}")


def _plugin_data(params: Mapping[str, Any]) -> bytes:
    """Return HParamsPluginData with the SessionStartInfo of these params."""
    hyperparameters = struct_pb2.Struct()
    hyperparameters.update(params)
    info: bytes = hyperparameters.SerializeToString(deterministic=True)
    return _SESSION_START_INFO + _varint(len(info)) + info


def _varint(number: int) -> bytes:
    """Return a length as protobuf writes it: seven bits a byte, the lowest first."""
    text = bytearray()
    while number > 127:
        text.append(number & 127 | 128)
        number >>= 7
    return bytes([*text, number])
