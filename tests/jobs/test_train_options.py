"""[train] of a job file: accumulation, precision and reduction, without a word in the program."""

import re
from pathlib import Path

import pytest

from tests.jobs.conftest import RunJob
from tests.jobs.test_programs import OWN_LOOP, write

pytestmark = pytest.mark.tensorflow

PROGRAM = """
import numpy as np, keras, tensorflow as tf, sys
options = tf.distribute.experimental.CommunicationOptions
def told(**more):
    print("reduces by", more["bytes_per_pack"], more["implementation"].name)
    return options(**more)
tf.distribute.experimental.CommunicationOptions = told
import slurm_tf.train as train
run = train.init()
x = np.random.default_rng(0).normal(size=(48, 4)).astype("f")
y = (x.sum(1, keepdims=True) > 0).astype("f")
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1, dtype="float32")])
model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
model.fit(run.batches((x, y), batch_size=int(sys.argv[1])), epochs=3, callbacks=run.callbacks(model), verbose=0)
values = [float(value) for variable in model.trainable_variables for value in np.ravel(variable)]
print("computes in", model.layers[0].compute_dtype, type(model.optimizer).__name__, model.variables[0].dtype)
print("variables", values)
"""


def trained(run_job: RunJob, tmp_path: Path, batch_size: int, *options: str) -> tuple[list[float], str]:
    path = write(tmp_path, PROGRAM, "multi_worker", "count = 2")
    command = f'command=["python", "program.py", "{batch_size}"]'
    job = run_job(path, "--set", command, *[word for option in options for word in ("--set", option)])
    assert job.wait() == 0, job.text
    first, second = job.find(r"variables \[(.*)\]")
    assert first == second
    return [float(value) for value in first.split(", ")], job.text


def test_two_half_batches_accumulated_are_one_batch(run_job: RunJob, tmp_path: Path) -> None:
    whole, text = trained(run_job, tmp_path, 16)
    assert len(re.findall(r"reduces by 33554432 RING", text)) == 2
    halves, _ = trained(run_job, tmp_path, 8, "train.accumulate=2")
    assert halves == pytest.approx(whole, abs=1e-6)
    small, _ = trained(run_job, tmp_path, 8)
    assert small != pytest.approx(whole, abs=1e-3)


@pytest.mark.parametrize(("precision", "optimizer"), [("float16", "LossScaleOptimizer"), ("bfloat16", "SGD")])
def test_mixed_precision_with_accumulation_and_another_reduction(
    precision: str, optimizer: str, run_job: RunJob, tmp_path: Path
) -> None:
    options = [f"train.mixed-precision={precision}", "train.accumulate=2", "train.bytes-per-pack=0"]
    _, text = trained(run_job, tmp_path, 8, *options, "train.collective=ring")
    assert len(re.findall(rf"computes in {precision} {optimizer} float32", text)) == 2
    assert len(re.findall(r"reduces by 0 RING", text)) == 2


def test_a_loop_of_its_own_is_told_that_it_must_accumulate_itself(run_job: RunJob, tmp_path: Path) -> None:
    job = run_job(write(tmp_path, OWN_LOOP, "single"), "--set", "train.accumulate=2")
    assert job.wait() == 1
    assert job.find(r"found train.accumulate=2 and run.loop"), job.text
