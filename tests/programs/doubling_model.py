"""Saves a model that doubles numbers, as version VERSION in FOLDER; with a third argument one that multiplies by it.

doubling_model.py FOLDER VERSION [FACTOR]
"""

import os
import sys

import tensorflow as tf


class Doubling(tf.Module):  # type: ignore[misc]  # TensorFlow has no types
    """y = factor * x."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = tf.Variable(factor)

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, name="x")])  # type: ignore[untyped-decorator]
    def serve(self, x: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"y": self.factor * x}


if __name__ == "__main__":
    folder, version, *factor = sys.argv[1:]
    os.umask(0o022)
    model = Doubling(float(factor[0]) if factor else 2.0)
    tf.saved_model.save(model, os.path.join(folder, version), signatures={"serving_default": model.serve})
