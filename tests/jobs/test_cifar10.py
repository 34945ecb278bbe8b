"""The ResNet of jobs/cifar10.py: its files, its network and its augmentation. Its training: cluster/test_gallery.py."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import forkserver
from tests.jobs import cifar10_files
from tests.jobs.conftest import JOBS

pytestmark = pytest.mark.tensorflow

# Prints what the program's functions do.
PROBE = """
import os, shutil, sys
import keras, numpy as np, tensorflow as tf
import cifar10

keras.utils.set_random_seed(0)

def show(case, change):
    shutil.copytree("data", case)
    change(case)
    try:
        cifar10.check_files(case)
        cifar10.read(case, cifar10.TRAINING + cifar10.TEST)
        print(f"{case}: read")
    except SystemExit as error:
        print(f"{case}: {error.code}")

def cut(name, count):
    return lambda folder: os.truncate(f"{folder}/{name}", count)

def relabel(folder):
    with open(f"{folder}/test_batch.bin", "r+b") as file:
        file.write(bytes([19]))

show("whole", lambda folder: None)
show("missing", lambda folder: os.remove(f"{folder}/data_batch_2.bin"))
show("cut-within-a-record", cut("data_batch_3.bin", 10 * 3073 - 1))
show("cut-between-records", cut("test_batch.bin", 9 * 3073))
show("empty", cut("data_batch_5.bin", 0))
show("other-labels", relabel)

images, labels = cifar10.read("data", cifar10.TRAINING)
print("images", images.shape, images.dtype, "labels", labels[:11])
first = np.fromfile("data/data_batch_1.bin", np.uint8)[1:3073]
print("colours of row 1, column 2 are", images[0, 1, 2] - first[32 + 2::1024], "off")

model = cifar10.resnet(20, np.zeros((32, 32, 3)))
print("parameters", sum(int(np.prod(each.shape)) for each in model.trainable_variables))
print("layers with weights", sum("conv" in each.name or "dense" in each.name for each in model.layers))

small = cifar10.resnet(8, images.mean(axis=0))
small.save("small.keras")
loaded = keras.models.load_model("small.keras")
print("as it was saved", bool(tf.reduce_all(loaded(images) == small(images))))

layer = cifar10.RandomCropAndFlip()
image = tf.reshape(tf.range(1, 1025, dtype=tf.float32), [32, 32, 1])
batch = tf.stack([image] * 64)
padded = np.pad(image[:, :, 0], 4)
windows = {
    padded[row:row + 32, column:column + 32][:, ::way].tobytes(): (row, column, way)
    for row in range(9) for column in range(9) for way in (1, -1)
}
crops = [windows[crop[:, :, 0].numpy().tobytes()] for crop in layer(batch, training=True)]
for name, each in zip(("rows", "columns", "ways"), zip(*crops)):
    print("crops:", name, sorted(set(each)))
print("not in tests", bool(tf.reduce_all(layer(batch, training=False) == batch)))
"""


def test_files_network_and_augmentation(tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    """Table 6 of the paper has 0.27 million parameters for 20 layers, section 4.2 the rest."""
    (tmp_path / "data").mkdir()
    cifar10_files.write(tmp_path / "data", 10)
    variables = forkserver.VARIABLES
    environ = {**forkserver.environ(), **variables, "PYTHONPATH": f"{variables['PYTHONPATH']}:{JOBS}"}
    done = subprocess.run(
        [forkserver.python(), "-c", PROBE], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=200,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    golden("cifar10.txt", done.stdout)
