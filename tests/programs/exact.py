"""Trains a small model that has all that is hard to resume: dropout, moving statistics, momentum, a decaying rate.

exact.py "[fit|loop] [pipeline] [compile|evaluate]" PAUSE [EPOCHS]: an epoch has 6 steps. pipeline: the data is
a data set of the program's own, of this task's part of the samples.
"""

import hashlib
import sys
import time
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import slurm_tf.train as train

how, pause = sys.argv[1], float(sys.argv[2])
epochs = int(sys.argv[3]) if sys.argv[3:] else 4
tf.config.experimental.enable_op_determinism()
run = train.init()
keras.utils.set_random_seed(10 + run.rank)
random = np.random.default_rng(0)
x = random.normal(size=(90, 6)).astype("float32")
y = (x.sum(1) > 0).astype("float32")[:, None]
model = keras.Sequential(
    [
        keras.Input((6,)),
        keras.layers.Dense(16, "relu"),
        keras.layers.BatchNormalization(momentum=0.7),
        keras.layers.Dropout(0.3),
        keras.layers.Dense(1, "sigmoid"),
    ]
)
optimizer = keras.optimizers.SGD(keras.optimizers.schedules.ExponentialDecay(0.3, 5, 0.8), momentum=0.9)
data: Any
position: dict[str, Any] = {}


def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
    """Return this task's part of the samples, without end."""
    weights = np.ones([len(x), 1], np.float32)
    part = tf.data.Dataset.from_tensor_slices((x, y, weights)).shard(run.size, run.rank).shuffle(30, seed=5)
    return part.repeat().batch(16 // context.num_input_pipelines, drop_remainder=True).prefetch(2)


if how.startswith("fit pipeline"):
    data = run.dataset(make, steps_per_epoch=6)
elif "pipeline" in how:
    data = iter(run.dataset(make))
    position = {"data": data}
else:
    data = run.batches((x, y), batch_size=16, seed=3)


def slowly(step: Any) -> Any:
    print("step", int(step))
    time.sleep(pause)
    return step


class Slow(keras.callbacks.Callback):  # type: ignore[misc]
    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras' names
        if "compile" in how:
            print("compiling")
            time.sleep(60)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras' names
        slowly(int(model.optimizer.iterations))

    def on_test_batch_begin(self, batch: int, logs: Any = None) -> None:  # noqa: ARG002 - Keras' names
        if "evaluate" in how:
            print("evaluating")
            time.sleep(0.2)


if "fit" in how:
    model.compile(optimizer, "binary_crossentropy")
    validation = {"validation_data": (x, y), "validation_batch_size": 1} if "evaluate" in how else {}
    model.fit(data, epochs=epochs, callbacks=[*run.callbacks(model), Slow()], verbose=0, **validation)
else:
    optimizer.build(model.trainable_variables)
    run.checkpoint(model=model, optimizer=optimizer, **position)

    @tf.function  # type: ignore[untyped-decorator]
    def update(batch: Any) -> Any:
        inputs, labels, weight = batch
        with tf.GradientTape() as tape:
            losses = keras.losses.binary_crossentropy(labels, model(inputs, training=True))
            loss = tf.reduce_mean(weight * losses)
        gradients = tape.gradient(loss, model.trainable_variables)
        optimizer.apply(run.mean(gradients), model.trainable_variables)
        return {"loss": loss}

    def step(batch: Any) -> Any:
        number = tf.py_function(slowly, [tf.identity(optimizer.iterations)], tf.int64)
        with tf.control_dependencies([number]):
            return update(batch)

    for done, _ in run.loop(step, data, steps=6 * epochs, every=5):
        if "evaluate" in how and done == 10:
            print("evaluating")
            time.sleep(60)

variables = [np.asarray(variable) for variable in [*model.variables, *optimizer.variables]]
print("bits", hashlib.sha256(b"".join(variable.tobytes() for variable in variables)).hexdigest())
