"""model.fit and a loop of a program's own with tf_keras, Keras 2 for TensorFlow 2.16 and later.

test_remainder.py checks the result on padded batches.
"""

from pathlib import Path

import pytest

from slurm_tf.run import checkpoint_folder
from tests import horovod, tf_keras
from tests.jobs.conftest import RunJob, RunningJob
from tests.jobs.test_programs import check_bars, write

pytestmark = [pytest.mark.tensorflow, pytest.mark.matrix]

BEGIN = """
import os, signal, sys
import numpy as np, tensorflow as tf
import slurm_tf.train as train
run = train.init()
keras = tf.keras
assert keras.Model.__module__.startswith("tf_keras"), keras.Model.__module__
keras.utils.set_random_seed(run.rank)
x = np.random.default_rng(0).normal(size=(60, 4)).astype("f")
y = (x.sum(1, keepdims=True) > 0).astype("f")
model = keras.Sequential([
    keras.layers.Dense(8, "tanh", input_shape=(4,)),
    keras.layers.BatchNormalization(synchronized=True),
    keras.layers.Dense(1, dtype="float32"),
])
def say():
    values = np.concatenate([np.ravel(variable) for variable in model.variables])
    print("variables", [float(value) for value in values])
"""
FIT = """
{before}
model.compile({optimizer}, "mse", metrics=["mae"])
callbacks = run.callbacks(model)
{after}
class Die(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if run.rank == 1 and "die" in sys.argv and os.environ["SLURM_TF_RESTARTS"] == "0":
            if model.optimizer.iterations == 14:
                os.kill(os.getpid(), signal.SIGKILL)
history = model.fit(run.batches((x, y), batch_size=8), epochs=3, callbacks=callbacks + [Die()], verbose=0{more})
say()
print("optimizer", type(model.optimizer).__name__, "steps", int(model.optimizer.iterations))
print("mae", history.history["mae"][-1], "computes in", model.layers[0].compute_dtype)
"""
LOOP = """
keras.utils.set_random_seed(1)
model.build((None, 4))
optimizer = keras.optimizers.Adam(0.05)
def step(batch):
    x, y, weight = batch
    with tf.GradientTape() as tape:
        # outputs alone: its own statistics of batches see the padding
        loss = tf.reduce_mean(weight * tf.square(model.layers[2](model.layers[0](x)) - y)[:, 0])
    variables = model.layers[0].trainable_variables + model.layers[2].trainable_variables
    optimizer.apply_gradients(zip(run.mean(tape.gradient(loss, variables)), variables))
    return {"loss": loss}
run.checkpoint(model=model, optimizer=optimizer)
for done, logs in run.loop(step, run.batches((x, y), batch_size=8), steps=20, every=10):
    run.report(done, 20, **logs)
say()
"""
LONG = pytest.mark.long  # as the other, but for what tests of Keras 3 have


@pytest.fixture(autouse=True)
def _tf_keras(monkeypatch: pytest.MonkeyPatch) -> None:
    tf_keras.require()
    monkeypatch.setenv("TF_USE_LEGACY_KERAS", "1")


def fit(optimizer: str = "keras.optimizers.Adam(0.05)", before: str = "", after: str = "", more: str = "") -> str:
    return BEGIN + FIT.format(optimizer=optimizer, before=before, after=after, more=more)


def variables(job: RunningJob) -> list[list[float]]:
    """Return the values that each rank ended with."""
    return [[float(value) for value in values.split(", ")] for values in job.find(r"variables \[(.*)\]")]


@pytest.mark.long  # in test-matrix as well
def test_after_a_kill_within_an_epoch_the_result_is_the_same(run_forked: RunJob, tmp_path: Path) -> None:
    """24 steps, 8 an epoch; the optimizer's moments and the order of samples continue as well."""
    horovod.require()
    path = write(tmp_path, fit(), "horovod", "count = 2")
    whole = run_forked(path)
    assert whole.wait() == 0, whole.text
    expected, other = variables(whole)
    assert expected == other
    (found,) = checkpoint_folder.complete(str(tmp_path / "runs" / "a-1" / "checkpoints"))
    assert found.step == 24
    options = ["launch.max-restarts=1", "checkpoint.every-steps=5", 'command=["python", "program.py", "die"]']
    killed = run_forked(path, *[word for option in options for word in ("--set", option)])
    assert killed.wait() == 0, killed.text
    ((step),) = killed.find(r"resumed at step (\d+) from")
    # ranks with local statistics come together one step after a save is due
    assert step in ("6", "11")
    assert killed.find(r"optimizer (\w+ steps \d+)") == ["Adam steps 24"] * 2
    assert variables(killed) == [pytest.approx(expected, abs=1e-6)] * 2
    assert len(set(killed.find(r"mae (\S+) computes"))) == 1


@LONG
@pytest.mark.parametrize("strategy", ["multi_worker", pytest.param("horovod", marks=LONG)])
def test_mixed_precision_keeps_ranks_equal_and_rank_0_alone_shows_a_bar(
    strategy: str, run_forked: RunJob, tmp_path: Path
) -> None:
    if strategy == "horovod":
        horovod.require()
    program = fit().replace("verbose=0", "verbose='auto'")
    job = run_forked(write(tmp_path, program, strategy, "count = 2"), "--set", "train.mixed-precision=float16")
    assert job.wait() == 0, job.text
    check_bars(job, epochs=3)
    first, second = variables(job)
    assert first == second
    assert job.find(r"optimizer (\w+ steps \d+)") == ["LossScaleOptimizerV3 steps 24"] * 2
    assert job.find(r"computes in (\w+)") == ["float16"] * 2


@pytest.mark.parametrize("strategy", [pytest.param(each, marks=LONG) for each in ("multi_worker", "horovod")])
def test_a_loop_of_its_own_ends_as_one_process_does(strategy: str, run_forked: RunJob, tmp_path: Path) -> None:
    if strategy == "horovod":
        horovod.require()
    path = write(tmp_path, BEGIN + LOOP, strategy, "count = 2")
    many = run_forked(path)
    assert many.wait() == 0, many.text
    first, second = variables(many)
    assert first == second
    alone = run_forked(path, "--set", "strategy=single", "--set", "roles.worker.count=1")
    assert alone.wait() == 0, alone.text
    assert variables(alone) == [pytest.approx(first, abs=1e-5)]


def test_a_replica_that_trains_alone_is_detected(run_forked: RunJob, tmp_path: Path) -> None:
    job = run_forked(
        write(
            tmp_path, fit(after="model.compile('sgd', 'mse')").replace("size=8", "size=12"), "multi_worker", "count = 2"
        )
    )
    assert job.wait() == 1
    assert job.find(r"ReplicaError: the variables of rank 1 are not those of rank 0 after 1 steps"), job.text


@pytest.mark.parametrize(
    ("program", "options", "message"),
    [
        (fit(), ["--set", "train.accumulate=2"], r"found train.accumulate=2 and a model of tf_keras"),
        (
            fit("keras.optimizers.legacy.SGD(0.1)"),
            [],
            r"found an optimizer tf_keras\S+; needed one of tf_keras.optimizers",
        ),
        (fit(more=", class_weight={0: 1.0, 1: 2.0}"), [], r"found class_weight= beside"),
        (fit(before="model = keras.Sequential([keras.layers.Dense(1)])"), [], r"no variables yet"),
    ],
)
def test_what_is_not_supported_is_refused(
    program: str, options: list[str], message: str, run_forked: RunJob, tmp_path: Path
) -> None:
    job = run_forked(write(tmp_path, program, "single"), *options)
    assert job.wait() == 1
    assert job.find(message), job.text
