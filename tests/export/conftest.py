"""SavedModels of real TensorFlow, written once, and a Python that checks them without importing TensorFlow anew."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import forkserver

# doubled: of a vector and of text; nan: a variable that is NaN; broken: a signature that fails for an empty text;
# keras: what run.export writes of a model with signatures; without-values: what TensorFlow alone does
_PROGRAM = """
import sys, tensorflow as tf

class Doubled(tf.Module):
    def __init__(self, weight=2.0):
        self.weight = tf.Variable(weight)

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def double(self, x):
        return {"doubled": x * self.weight}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "text")])
    def length(self, text):
        return {"length": tf.strings.length(text)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "examples")])
    def parse(self, examples):
        return tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([3], tf.float32)})

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def logarithm(self, x):
        return {"y": tf.math.log(x)}

folder = sys.argv[1]
model = Doubled()
tf.saved_model.save(model, f"{folder}/doubled", {"serving_default": model.double, "length": model.length})
tf.saved_model.save(model, f"{folder}/parse", {"serving_default": model.parse})
tf.saved_model.save(model, f"{folder}/logarithm", {"serving_default": model.logarithm})
tf.saved_model.save(tf.Module(), f"{folder}/without")
nan = Doubled(float("nan"))
tf.saved_model.save(nan, f"{folder}/nan", {"serving_default": nan.double})

import keras
from slurm_tf.train import model_exports

words = keras.layers.StringLookup(vocabulary=["cat", "dog"])
text = keras.Input((1,), dtype="string")
network = keras.Model(text, keras.layers.Dense(2)(keras.layers.Embedding(3, 4)(words(text))[:, 0]))

@tf.function(input_signature=[tf.TensorSpec([None, 1], tf.string, "word")])
def score(word):
    return {"score": network(word, training=False)}

model_exports.save(network, f"{folder}/keras", score)
tf.saved_model.save(network, f"{folder}/without-values", score)
"""


@pytest.fixture(scope="session")
def saved_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with several SavedModels."""
    folder = tmp_path_factory.mktemp("saved")
    program = folder / "save.py"
    program.write_text(_PROGRAM)
    done = subprocess.run(
        [forkserver.python(), str(program), str(folder)], capture_output=True, text=True, timeout=120, check=False,
        env={**forkserver.VARIABLES, "PATH": str(Path(sys.executable).parent)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def python(monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a Python whose processes start with TensorFlow imported."""
    for name, value in forkserver.VARIABLES.items():
        monkeypatch.setenv(name, value)
    return forkserver.python()
