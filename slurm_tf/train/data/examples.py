"""Parses batches of records of tf.train.Example or tf.train.SequenceExample by the schema of their data set."""

from typing import Any, Dict

import numpy as np
import tensorflow as tf

from slurm_tf.dataset.schema import Feature, Kind, Schema

_TYPES = {Kind.INT64: tf.int64, Kind.FLOAT: tf.float32, Kind.BYTES: tf.string}


def parse(schema: Schema, records: tf.Tensor) -> Dict[str, Any]:
    """Return the features of a batch of serialised records, by name.

    A feature of a fixed shape is a tensor [batch, *shape]; one of any number of values a ragged tensor [batch, (n)]. A
    sequence is a ragged tensor [batch, (steps), *shape]. What a record does not have is its default.
    """
    context = {each.name: _parsing(each) for each in schema.features if not each.is_sequence}
    sequences = {each.name: _sequence_parsing(each) for each in schema.features if each.is_sequence}
    if not sequences:
        return dict(tf.io.parse_example(records, context))
    found, steps, lengths = tf.io.parse_sequence_example(records, context or None, sequences)
    for feature in schema.features:
        if feature.is_sequence and feature.shape != (None,):
            steps[feature.name] = tf.RaggedTensor.from_tensor(steps[feature.name], lengths[feature.name])
    return {**found, **steps}


def _parsing(feature: Feature) -> Any:
    kind = _TYPES[feature.kind]
    if feature.shape == (None,):
        return tf.io.RaggedFeature(kind)
    default = (
        None
        if feature.default is None
        else np.full(tuple(size for size in feature.shape if size), feature.default, kind.as_numpy_dtype)
    )
    return tf.io.FixedLenFeature(feature.shape, kind, default)


def _sequence_parsing(feature: Feature) -> Any:
    kind = _TYPES[feature.kind]
    if feature.shape == (None,):
        return tf.io.RaggedFeature(kind)
    return tf.io.FixedLenSequenceFeature(feature.shape, kind, allow_missing=feature.default is not None)
