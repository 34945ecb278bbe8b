"""A small convolutional network on scikit-learn's digits, with model.fit: one program for one worker or many."""

import argparse
import hashlib

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import slurm_tf.train as train

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch-size", type=int, default=64, help="samples in a global batch")
options = parser.parse_args()

run = train.init()
keras.utils.set_random_seed(100 + run.rank)  # other variables in every worker: training starts from those of rank 0

digits = load_digits()
images = (digits.images / 16.0).astype("float32")[..., np.newaxis]
x, x_test, y, y_test = train_test_split(images, digits.target, test_size=360, random_state=0)

with run.scope():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(momentum=0.9, synchronized=True),
            keras.layers.Activation("gelu"),
            keras.layers.Conv2D(32, 3, padding="same", use_bias=False),
            keras.layers.BatchNormalization(momentum=0.9, synchronized=True),
            keras.layers.Activation("gelu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    model.compile(keras.optimizers.SGD(0.02, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"])

data = run.batches((x, y), batch_size=options.batch_size)
model.fit(data, epochs=options.epochs, callbacks=run.callbacks(model), verbose=0)

variables = [np.asarray(variable) for variable in [*model.variables, *model.optimizer.variables]]
checksum = hashlib.sha256(b"".join(variable.tobytes() for variable in variables)).hexdigest()
print(f"rank {run.rank}: {len(variables)} variables, checksum {checksum[:16]}")
loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"rank {run.rank}: test loss {loss:.6f}, test accuracy {accuracy:.4f}")
if run.is_chief:
    path = run.export_path()
    model.export(path, verbose=False)
    print(f"SavedModel {path}")
