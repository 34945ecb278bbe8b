"""Trains a small model under any strategy, as far as a test lets it: held.py FOLDER STEPS.

In FOLDER: `until` is the last step that may be done. While `compile` or `evaluate` are there, the program stays in its
first compilation, or in its evaluation after every third step; while `step` is there, workers of ps stay in their step.
"""

import hashlib
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import slurm_tf.train as train

folder, steps = Path(sys.argv[1]), int(sys.argv[2])
tf.config.experimental.enable_op_determinism()
run = train.init()
served = os.environ["SLURM_TF_STRATEGY"] == "ps"
random = np.random.default_rng(0)
x = random.normal(size=(96, 6)).astype("float32")
y = x.sum(1, keepdims=True) + 0.1 * random.normal(size=(96, 1)).astype("float32")
with run.scope():
    weights = tf.Variable(tf.zeros([6, 1]))
    velocity = tf.Variable(tf.zeros([6, 1]))
    count = tf.Variable(0, dtype=tf.int64, trainable=False)
data = run.batches((x, y), batch_size=16, seed=3)
run.checkpoint(weights=weights, velocity=velocity, count=count)
print("begins at", run.step)


def hold(what: str, step: int) -> None:
    print(what, step)
    while (folder / what).exists():
        time.sleep(0.01)


def allowed(step: Any) -> Any:
    """Return once `step` may be done."""
    print("step", int(step))
    while int((folder / "until").read_text()) < int(step):
        time.sleep(0.01)
    return step


def held_on_worker() -> Any:
    """Stay in a step that is run elsewhere: TensorFlow alone can look at files there."""
    tf.io.write_file(str(folder / "in-step"), "")
    name = str(folder / "step")
    held = tf.while_loop(lambda _: tf.size(tf.io.matching_files(name)) > 0, lambda n: [n + 1], [0])
    return tf.cast(held[0], tf.int64)


def step(batch: Any) -> dict[str, Any]:
    hold("compile", run.step)
    held = held_on_worker() if served else tf.py_function(allowed, [count + 1], tf.int64)
    with tf.control_dependencies([held]):
        inputs, labels, weight = batch
        with tf.GradientTape() as tape:
            errors = tf.reduce_sum((tf.matmul(inputs, weights) - labels) ** 2, axis=1)
            loss = tf.reduce_mean(weight * errors)
        (gradient,) = run.mean(tape.gradient(loss, [weights]))
        velocity.assign(0.9 * velocity - 0.01 * gradient)
        weights.assign_add(velocity)
        count.assign_add(1)
    return {"loss": loss}


if served and run.step < steps:
    allowed(run.step + 1)
for done, _ in run.loop(step, data, steps=steps, every=1 if served else 3):
    if done % 3 == 0:
        hold("evaluate", done)
    if served and done < steps:
        allowed(done + 1)

print("bits", hashlib.sha256(b"".join(each.numpy().tobytes() for each in (weights, velocity, count))).hexdigest())
print("ends at", run.step)
