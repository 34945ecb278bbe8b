"""The digits under any strategy, by model.fit or a loop of its own, with a record of every sample that is trained on.

They are arrays, records of a prepared data set with the features image, label and number, or what the job's data
workers compute.

The record lies in the run's folder: `samples`, with their weights, and `losses` of each step, in the order in which
TensorFlow ran them, and what this process had at its start and end. tests/oracle.py reads it. Workers of strategy ps
write into one file, so the losses of a step may follow on the samples of another.
"""

import argparse
import importlib.util
import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import slurm_tf.train as train
from tests.programs import training_steps

parser = argparse.ArgumentParser()
parser.add_argument("--loop", choices=("fit", "own"), default="fit")
parser.add_argument("--records", help="the folder of a prepared data set with the same samples")
parser.add_argument("--distributed", action="store_true", help="by the job's data workers")
parser.add_argument("--shuffle", help="how run.records shuffles them")
parser.add_argument("--samples", type=int, default=482)
parser.add_argument("--batch-size", type=int, default=48, help="samples in a global batch")
parser.add_argument("--epochs", type=int, default=4)
parser.add_argument("--die", type=int, nargs=2, default=(-1, 0), help="rank and step at which it is killed, once")
options = parser.parse_args()
steps_per_epoch = -(-options.samples // options.batch_size)

run = train.init()
keras.utils.set_random_seed(100 + run.rank)

# as sklearn.datasets.load_digits() has them, without the import
sklearn = importlib.util.find_spec("sklearn")
assert sklearn and sklearn.submodule_search_locations
table = np.loadtxt(Path(sklearn.submodule_search_locations[0], "datasets", "data", "digits.csv.gz"), delimiter=",")
images, labels = (table[:, :-1] / 16.0).astype("float32").reshape(-1, 8, 8, 1), table[:, -1].astype(int)
x, x_test = images[: options.samples], images[-360:]
# each label beside the number of its sample
y = np.stack([labels, np.arange(len(images))], axis=1)[: options.samples]
y_test = labels[-360:]

folder = Path(os.environ["SLURM_TF_RUN_FOLDER"], "oracle")
folder.mkdir(exist_ok=True)
life = f"{time.time_ns()}-{run.rank}"


def text_of(values: Any) -> Any:
    return tf.strings.as_string(values, precision=9 if values.dtype.is_floating else -1)


def record(what: str, texts: Any) -> None:
    """Add a line to the record when the step runs, in whichever process and replica that is."""
    context = tf.distribute.get_replica_context()
    if context is None:  # under mirrored Keras 3 first builds the loss outside of the replicas
        return
    replica = tf.strings.as_string(context.replica_id_in_sync_group)
    line = tf.strings.join([what, replica, tf.strings.reduce_join(texts, separator=" ")], separator=" ")
    tf.print(line, output_stream=f"file://{folder}/{life}.steps")


def losses_of(marked: Any, predicted: Any) -> Any:
    losses = keras.losses.sparse_categorical_crossentropy(tf.cast(marked[:, 0], tf.int64), predicted)
    record("losses", text_of(losses))
    return losses


def accuracy(marked: Any, predicted: Any) -> Any:
    return keras.metrics.sparse_categorical_accuracy(marked[:, 0], predicted)


def recorded(marked: Any, weight: Any) -> None:
    record("samples", tf.strings.join([text_of(marked[:, 1]), text_of(weight)], separator="*"))


def die_once(step: int) -> None:
    """Be killed, as by the kernel for memory, in the first life."""
    rank, at = options.die
    killed = folder / "killed"
    if rank == run.rank and step >= at and not killed.exists():
        killed.write_text(str(time.time()))
        os.kill(os.getpid(), signal.SIGKILL)


def begin() -> None:
    """Write down where training starts."""
    place = {"rank": run.rank, "size": run.size, "first": run.step, "variables": untrained}
    (folder / f"{life}.begin").write_text(json.dumps(place))


class Dying(keras.callbacks.Callback):  # type: ignore[misc]
    def on_train_begin(self, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it
        self.step = run.step

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras passes it
        die_once(self.step)
        self.step += 1


def fit(model: Any, data: Any) -> dict[int, float]:
    """Train by model.fit; return the loss of each epoch."""
    with run.scope():
        model.compile(keras.optimizers.SGD(0.02, momentum=0.9), losses_of, metrics=[accuracy], jit_compile=False)
    callbacks = run.callbacks(model)
    begin()
    training_steps.record_steps_of_fit(model, recorded)
    history = model.fit(data, epochs=options.epochs, callbacks=[*callbacks, Dying()], verbose=0)
    return dict(zip(history.epoch, history.history["loss"], strict=True))


def own_loop(model: Any, data: Any) -> dict[int, float]:
    """Train by a loop of the program's own; return the loss of each epoch."""
    step = training_steps.step_of_loop(run, model, losses_of, recorded)
    run.checkpoint(model=model)
    begin()
    losses = {}
    steps = options.epochs * steps_per_epoch
    for done, logs in run.loop(step, data, steps=steps, every=steps_per_epoch):
        run.report(done, steps, **logs)
        losses[done // steps_per_epoch - 1] = logs["loss"]
        die_once(done)
    return losses


# a loop of its own has statistics of each task's samples, which one process would not have
norm = [keras.layers.BatchNormalization(momentum=0.9, synchronized=True)] if options.loop == "fit" else []
with run.scope():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, padding="same"),
            *norm,
            keras.layers.Activation("gelu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
untrained = training_steps.bits_of(model)


def samples_of(features: dict[str, Any]) -> Any:
    return features["image"], tf.stack([features["label"], features["number"]], axis=1)


def distributed() -> tf.data.Dataset:
    """Return this task's part of the samples, each with the weight 1, as data workers deliver them."""
    mine = np.arange(options.samples)[run.rank :: run.size]
    weights = np.ones(len(mine), np.float32)
    part = options.batch_size // run.size
    made = tf.data.Dataset.from_tensor_slices((x[mine], y[mine], weights)).shuffle(len(mine)).batch(5)
    data = run.distribute(made).rebatch(part)
    return data.apply(tf.data.experimental.assert_cardinality(-(-len(mine) // part)))


def data_of_options() -> Any:
    if options.distributed:
        return distributed()
    if options.records:
        return run.records(options.records, options.batch_size, map=samples_of, shuffle=options.shuffle)
    return run.batches((x, y), batch_size=options.batch_size)


data = data_of_options()
losses = (fit if options.loop == "fit" else own_loop)(model, data)

predicted = np.argmax(np.asarray(model(x_test, training=False)), axis=1)
np.savez(folder / f"{life}.npz", **training_steps.values_of(model))
end = {"losses": losses, "accuracy": float(np.mean(predicted == y_test))}
(folder / f"{life}.end").write_text(json.dumps(end))
