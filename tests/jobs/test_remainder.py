"""The padded last batch of an epoch: the result is that of one process on the real samples."""

import functools
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests import forkserver, horovod, tf_keras
from tests.jobs.conftest import RunJob
from tests.jobs.test_programs import TWO_DEVICES, write

pytestmark = pytest.mark.tensorflow

# penalties on weights and activations, statistics of batches: weights of 0 alone would not give the right result
MODEL = """
import numpy as np, tensorflow as tf
import {keras} as keras
{devices}
random = np.random.default_rng(0)
x = random.normal(size=({samples}, 4)).astype("f")
y = (x.sum(1, keepdims=True) > 0).astype("f")
own = random.integers(0, 3, len(x)).astype("f")
arrays = (x, y, own) if {weighted} else (x, y)
def make():
    keras.utils.set_random_seed(1)
    l2 = keras.regularizers.L2(0.1)
    model = keras.Sequential([
        keras.Input((4,)),
        keras.layers.Dense(8, "tanh", kernel_regularizer=l2, activity_regularizer={activity}),
        keras.layers.BatchNormalization(momentum=0.5, synchronized=True),
        keras.layers.Dense(1, "sigmoid"),
    ])
    model.compile(
        keras.optimizers.SGD(0.5, momentum=0.9), "binary_crossentropy", metrics=["accuracy", "mae"],
        weighted_metrics=[keras.metrics.MeanSquaredError(name="wmse")],
    )
    return model
def say(model, logs):
    own = [variable for variable in model.variables if "seed" not in getattr(variable, "path", "")]
    values = np.concatenate([np.ravel(variable) for variable in own])
    names = ("accuracy", "mae") if {weighted} else ("accuracy", "mae", "wmse")
    print("variables", [float(value) for value in values], [round(float(logs[name]), 4) for name in names])
"""
TOGETHER = """
import slurm_tf.train as train
run = train.init()
with run.scope():
    model = make()
data = run.batches(arrays, batch_size=8)
history = model.fit(data, epochs=3, callbacks=run.callbacks(model), verbose=0)
say(model, {name: values[-1] for name, values in history.history.items()})
"""
# Keras alone, with the same order of samples as slurm_tf
ALONE = """
from slurm_tf.train.data.sample_orders import WholeOrder
model = make()
order = lambda epoch: WholeOrder(len(arrays[0]), 0).part(epoch, 0, len(arrays[0]))
for epoch in range(3):
    fed = [array[order(epoch)] for array in arrays]
    history = model.fit(*fed[:2], sample_weight=own[order(epoch)] if {weighted} else None, batch_size=8, shuffle=False,
        verbose=0)
say(model, {name: values[-1] for name, values in history.history.items()})
"""


def result(text: str) -> list[tuple[list[float], list[float]]]:
    found = re.findall(r"variables \[(.*?)\] \[(.*?)\]", text)
    return [([float(v) for v in values.split(", ")], [float(v) for v in logs.split(", ")]) for values, logs in found]


CASES = [
    ("keras", "single", "", 21, True),
    ("keras", "multi_worker", "count = 2", 21, False),
    ("keras", "multi_worker", "count = 2", 21, True),
    ("keras", "multi_worker", "count = 2", 17, True),
    ("keras", "multi_worker", "count = 2", 24, True),
    ("keras", "mirrored", "", 21, False),
    ("keras", "mirrored", "", 21, True),
    ("tf_keras", "multi_worker", "count = 2", 17, True),
    ("tf_keras", "multi_worker", "count = 2", 24, False),
    ("tf_keras", "horovod", "count = 2", 21, False),
    ("tf_keras", "mirrored", "", 21, False),
]
MATRIX = {("keras", "multi_worker", 17), *(case[:2] + case[3:4] for case in CASES if case[0] == "tf_keras")}


# pairs of which another shows each half
LONG = {
    ("keras", "multi_worker", 21, False), ("keras", "multi_worker", 24, True), ("keras", "mirrored", 21, True),
    ("keras", "multi_worker", 21, True), ("tf_keras", "multi_worker", 17, True),
    ("tf_keras", "multi_worker", 24, False), ("tf_keras", "horovod", 21, False), ("tf_keras", "mirrored", 21, False),
}  # fmt: skip


def program(text: str, keras: str, strategy: str, samples: int, weighted: bool, devices: str = "") -> str:
    """Return the program of a case: MODEL, then `text`."""
    # Keras 3.15 itself miscounts penalties on activations before a synchronized BatchNormalization under mirrored
    activity = "None" if strategy == "mirrored" else "l2"
    values = {"keras": keras, "samples": samples, "weighted": weighted, "activity": activity, "devices": devices}
    return re.sub(r"\{(\w+)\}", lambda match: str(values[match[1]]), MODEL + text)


def marks(keras: str, strategy: str, samples: int, weighted: bool) -> list[pytest.MarkDecorator]:
    in_matrix, is_long = (keras, strategy, samples) in MATRIX, (keras, strategy, samples, weighted) in LONG
    return [pytest.mark.matrix] * in_matrix + [pytest.mark.long] * is_long


@functools.cache
def alone(keras: str, is_long: bool) -> dict[tuple[int, bool, bool], tuple[list[float], list[float]]]:
    """Return the result of Keras alone, in one process, for each case: by samples, weights, and whether mirrored."""
    cases = [case for case in CASES if case[0] == keras and (case[:2] + case[3:] in LONG) is is_long]
    keys = sorted({(samples, weighted, how == "mirrored") for _, how, _, samples, weighted in cases})
    parts = [program(ALONE, keras, "mirrored" if key[2] else "single", *key[:2]) for key in keys]
    environ = {**os.environ, **forkserver.VARIABLES}
    argv = [forkserver.python(), "-c", "\n".join(parts)]
    done = subprocess.run(argv, env=environ, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    return dict(zip(keys, result(done.stdout), strict=True))


@pytest.mark.parametrize(
    ("keras", "strategy", "more", "samples", "weighted"),
    [pytest.param(*case, marks=marks(*case[:2], *case[3:])) for case in CASES],
)
def test_fit_on_a_padded_batch_is_training_on_the_real_samples(
    keras: str, strategy: str, more: str, samples: int, weighted: bool, run_forked: RunJob, tmp_path: Path
) -> None:
    """17 samples leave one for two tasks, so that one of them has padding alone."""
    if keras == "tf_keras":
        tf_keras.require()
    if strategy == "horovod":
        horovod.require()
    devices = TWO_DEVICES if strategy == "mirrored" else ""
    many = run_forked(write(tmp_path, program(TOGETHER, keras, strategy, samples, weighted, devices), strategy, more))
    assert many.wait() == 0, many.text
    references = alone(keras, (keras, strategy, samples, weighted) in LONG)
    expected, logs = references[samples, weighted, strategy == "mirrored"]
    found = result(many.text)
    assert len(found) == (2 if more else 1)
    for variables, values in found:
        assert variables == pytest.approx(expected, abs=2e-5)
        assert values == pytest.approx(logs, abs=2e-4)


CUSTOM = """
class Own(keras.Sequential):
    def train_step(self, data):
        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        self.optimizer.apply_gradients(zip(tape.gradient(loss, self.trainable_weights), self.trainable_weights))
        return {"loss": loss}
keras.Sequential = Own
"""


@pytest.mark.parametrize(
    ("strategy", "more", "samples", "change", "message"),
    [
        ("multi_worker", "count = 2", 21, CUSTOM, r"5 samples left .*a train_step that does not scale its loss"),
        ("mirrored", "", 17, "", r"1 samples left for the last batch of an epoch, on 2 replicas"),
        ("multi_worker", "count = 2", 24, "executions", r"found steps_per_execution=2 on 2 tasks"),
        ("single", "", 21, "data", r"found several run.batches\(...\) that differ"),
    ],
)
def test_what_would_silently_give_another_result_is_refused(
    strategy: str, more: str, samples: int, change: str, message: str, run_forked: RunJob, tmp_path: Path
) -> None:
    text = (change if "class" in change else "") + TOGETHER
    changed = program(text, "keras", "mirrored", samples, False, TWO_DEVICES if strategy == "mirrored" else "")
    if change == "executions":
        changed = changed.replace("weighted_metrics=", "steps_per_execution=2, weighted_metrics=")
    if change == "data":
        changed = changed.replace("history =", "run.batches((x[:9], y[:9]), batch_size=8)\nhistory =")
    job = run_forked(write(tmp_path, changed, strategy, more))
    assert job.wait() == 1
    assert job.find(message), job.text
