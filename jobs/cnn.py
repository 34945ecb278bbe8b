"""A small convolutional network on scikit-learn's digits, with model.fit: one program for one worker or many."""

import argparse
import os

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import slurm_tf.train as train

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch-size", type=int, default=64, help="samples in a global batch")
parser.add_argument("--learning-rate", type=float, default=0.02)
parser.add_argument("--tensorboard", action="store_true", help="write curves and histograms for TensorBoard")
options = parser.parse_args()

run = train.init()
keras.utils.set_random_seed(run.rank)  # other variables in every worker: training starts from those of rank 0

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
    optimizer = keras.optimizers.SGD(options.learning_rate, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])

data = run.batches((x, y), batch_size=options.batch_size)
callbacks = run.callbacks(model)
if options.tensorboard and run.is_chief:
    callbacks.append(keras.callbacks.TensorBoard(os.environ["SLURM_TF_TENSORBOARD_FOLDER"], histogram_freq=1))
model.fit(data, epochs=options.epochs, validation_data=(x_test, y_test), callbacks=callbacks, verbose=0)

loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"rank {run.rank}: test loss {loss:.6f}, test accuracy {accuracy:.4f}")
model.save(run.model_path())
