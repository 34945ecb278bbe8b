"""A model with one version, of real TensorFlow."""

import os
import subprocess
import sys
from pathlib import Path

from slurm_tf.export import exporter
from slurm_tf.export.exporter import Origin
from slurm_tf.run.train_settings import ExportSettings
from tests import forkserver

# vector: of 3 numbers above -100; named: of a number and a text; image: the mean of each channel
_PROGRAM = """
import sys, tensorflow as tf

class Model(tf.Module):
    def __init__(self):
        self.weight = tf.Variable(tf.random.stateless_normal([3, 8], [1, 2]))

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def vector(self, x):
        tf.debugging.assert_greater(x, -100.0)
        return {"y": tf.nn.softmax(tf.matmul(x, self.weight))}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.int64, "n"), tf.TensorSpec([None], tf.string, "text")])
    def named(self, n, text):
        return {"twice": 2 * n, "joined": tf.strings.join([text, tf.strings.as_string(n)])}

    @tf.function(input_signature=[tf.TensorSpec([None, 4, 4, 3], tf.float32, "image")])
    def image(self, image):
        return {"mean": tf.reduce_mean(image, [1, 2])}

model = Model()
signatures = {"serving_default": model.vector, "named": model.named, "image": model.image}
tf.saved_model.save(model, sys.argv[1], signatures)
"""


def write(folder: Path) -> Path:
    """Write a model with one version; return its folder."""
    program = folder / "save.py"
    program.write_text(_PROGRAM)
    environ = {**forkserver.VARIABLES, "PATH": str(Path(sys.executable).parent)}
    argv = [forkserver.python(), str(program), str(folder / "saved")]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, env=environ)
    assert done.returncode == 0, done.stderr
    before = dict(os.environ)
    os.environ.update(forkserver.VARIABLES)
    try:
        exported = exporter.export(
            str(folder / "numbers"), exporter.copy_of(str(folder / "saved")), Origin(), ExportSettings(),
            python=forkserver.python(),
        )  # fmt: skip
    finally:
        os.environ.clear()
        os.environ.update(before)
    assert exported.rejected == ""
    return folder / "numbers"
