"""Trains on a prepared data set: a CNN on images, or wide-and-deep on a joined table; prints the bits of the result.

    prepared.py cnn|wide_and_deep DATA [--loop fit|own] [--epochs N] [--pause SECONDS] [--any-order]

The ids of each step are in the run's folder, in `ids`: LIFE.begin has the first step of this process, LIFE.steps a line
with the ids of each step that ran, in whichever process that was. tests/jobs/prepared_training.py makes the data and
reads this.
"""

import argparse
import json
import os
import time
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

import slurm_tf.train as train
from slurm_tf.dataset import dataset_manifest
from tests.programs import training_steps

parser = argparse.ArgumentParser()
parser.add_argument("model", choices=("cnn", "wide_and_deep"))
parser.add_argument("data")
parser.add_argument("--loop", choices=("fit", "own"), default="fit")
parser.add_argument("--shuffle")
parser.add_argument("--batch-size", type=int, default=24, help="samples in a global batch")
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--pause", type=float, default=0.0, help="seconds after each step")
parser.add_argument("--any-order", action="store_true", help="leave out enable_op_determinism")
options = parser.parse_args()

if not options.any_order:
    tf.config.experimental.enable_op_determinism()
run = train.init()
keras.utils.set_random_seed(10 + run.rank)
is_fit = options.loop == "fit"
rows = dataset_manifest.read(options.data).split("train").rows
steps_per_epoch = -(-rows // options.batch_size)

folder = Path(os.environ["SLURM_TF_RUN_FOLDER"], "ids")
folder.mkdir(exist_ok=True)
life = f"{time.time_ns()}-{run.rank}"


def image_samples(features: dict[str, Any]) -> Any:
    """Return images, and each label beside the id of its sample."""
    spec = tf.TensorSpec((8, 8, 1), tf.uint8)
    images = tf.map_fn(lambda png: tf.io.decode_png(png, channels=1), features["image"], fn_output_signature=spec)
    return tf.cast(images, tf.float32) / 255.0, tf.stack([features["label"], features["id"]], axis=1)


COUNTRIES, AGES = 9, 5  # numbers of words and buckets


def table_samples(features: dict[str, Any]) -> Any:
    """Return the crossed country and age, in one place of many, then the measurements; each label beside an id."""
    crossed = tf.one_hot(features["country"] * AGES + features["age"], COUNTRIES * AGES)
    country, age = tf.one_hot(features["country"], COUNTRIES), tf.one_hot(features["age"], AGES)
    measured = tf.stack([features["price"], features["spent"]], axis=1)
    both = tf.stack([features["clicked"], features["id"]], axis=1)
    return tf.concat([crossed, country, age, measured], axis=1), both


def cnn() -> Any:
    layers: list[Any] = [keras.Input((8, 8, 1)), keras.layers.Conv2D(16, 3, padding="same", activation="gelu")]
    if is_fit:
        layers += [keras.layers.BatchNormalization(momentum=0.9, synchronized=True), keras.layers.Dropout(0.2)]
    layers += [keras.layers.Conv2D(16, 3, activation="gelu"), keras.layers.Flatten()]
    return keras.Sequential([*layers, keras.layers.Dense(10, activation="softmax")])


def wide_and_deep() -> Any:
    """The wide part is linear in what is crossed, the deep part a network of all else."""
    inputs = keras.Input((COUNTRIES * AGES + COUNTRIES + AGES + 2,))
    wide = keras.layers.Dense(2)(inputs[:, : COUNTRIES * AGES])
    deep = keras.layers.Dense(16, activation="relu")(inputs[:, COUNTRIES * AGES :])
    if is_fit:
        deep = keras.layers.Dropout(0.2)(deep)
    return keras.Model(inputs, keras.layers.Softmax()(wide + keras.layers.Dense(2)(deep)))


def recorded(marked: Any, weight: Any) -> None:
    """Add a line to the record when the step runs: the ids of its samples, without padding."""
    ids = tf.strings.as_string(tf.boolean_mask(marked[:, 1], weight > 0))
    tf.print(tf.strings.reduce_join(ids, separator=" "), output_stream=f"file://{folder}/{life}.steps")


def losses_of(marked: Any, predicted: Any) -> Any:
    return keras.losses.sparse_categorical_crossentropy(marked[:, 0], predicted)


def begin() -> None:
    """Write down where training starts."""
    (folder / f"{life}.begin").write_text(json.dumps({"rank": run.rank, "first": run.step}))


def after(step: int) -> None:
    print("step", step, flush=True)
    time.sleep(options.pause)


class Slow(keras.callbacks.Callback):  # type: ignore[misc]
    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras' names
        after(int(model.optimizer.iterations))


def fit(data: Any) -> None:
    """Train by model.fit."""
    model.compile(keras.optimizers.SGD(0.02, momentum=0.9), losses_of, jit_compile=False)
    callbacks = run.callbacks(model)
    begin()
    training_steps.record_steps_of_fit(model, recorded)
    model.fit(data, epochs=options.epochs, callbacks=[*callbacks, Slow()], verbose=0)


def own_loop(data: Any) -> None:
    """Train by a loop of the program's own."""
    step = training_steps.step_of_loop(run, model, losses_of, recorded)
    run.checkpoint(model=model)
    begin()
    for done, _ in run.loop(step, data, steps=options.epochs * steps_per_epoch, every=2):
        after(done)


samples_of, model_of = {"cnn": (image_samples, cnn), "wide_and_deep": (table_samples, wide_and_deep)}[options.model]
with run.scope():
    model = model_of()
data = run.records(options.data, options.batch_size, map=samples_of, shuffle=options.shuffle)
(fit if is_fit else own_loop)(data)
print("bits", training_steps.bits_of(model))
