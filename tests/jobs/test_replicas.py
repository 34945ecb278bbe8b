"""A program whose tasks train several models is stopped in its first steps; one that trains one model is not."""

from pathlib import Path

import pytest

from tests import forkserver, horovod, tf_keras
from tests.jobs.conftest import RunJob
from tests.jobs.test_programs import OWN_LOOP, write

pytestmark = [pytest.mark.tensorflow, pytest.mark.matrix]

FIT = """
import numpy as np, keras, tensorflow as tf
import slurm_tf.train as train
run = train.init()
keras.utils.set_random_seed(run.rank)
x = np.random.default_rng(0).normal(size=(84, 4)).astype("f")
y = (x.sum(1) > 0).astype("f")
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "tanh"), {layer}, keras.layers.Dense(1, "sigmoid")])
model.compile(keras.optimizers.Adam(0.01), "binary_crossentropy")
callbacks = run.callbacks(model)
{change}
class Count(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        print("begins step", batch + 1)
model.fit(run.batches((x, y), batch_size={batch_size}), epochs=1, callbacks=callbacks + [Count()], verbose=0)
own = [float(np.sum(variable)) for variable in model.non_trainable_variables if "seed" in variable.path]
print("trained with seeds", own)
"""
FOUND = r"ReplicaError: the variables of rank 1 are not those of rank 0 after 1 steps: each of them trains a model"


@pytest.mark.parametrize(
    ("layer", "strategy"),
    [
        ("keras.layers.Dropout(0.5)", "multi_worker"),
        # what test_remainder.py and test_oracle.py show of the layer and of the strategy
        pytest.param("keras.layers.BatchNormalization()", "horovod", marks=pytest.mark.long),
        pytest.param("keras.layers.Dropout(0.5)", "horovod", marks=pytest.mark.long),
        pytest.param("keras.layers.BatchNormalization()", "multi_worker", marks=pytest.mark.long),
        pytest.param("keras.layers.Dense(8)", "multi_worker", marks=pytest.mark.long),
        pytest.param("keras.layers.Dense(8)", "horovod", marks=pytest.mark.long),
    ],
)
def test_good_programs_train_to_the_end(layer: str, strategy: str, run_forked: RunJob, tmp_path: Path) -> None:
    """84 samples in batches of 8: more steps than are checked, and a remainder."""
    if strategy == "horovod":
        horovod.require()
    program = FIT.format(layer=layer, change="", batch_size=8).replace(", verbose=0", "")
    job = run_forked(write(tmp_path, program, strategy, "count = 2"))
    assert job.wait() == 0, job.text
    seeds = job.find(r"trained with seeds (\[.*\])")
    assert len(seeds) == 2
    assert len(set(seeds)) == (2 if "Dropout" in layer else 1)
    assert max(int(step) for step in job.find(r"begins step (\d+)")) == 11
    assert set(job.find(r"(?m)^\[(worker:\d)\] .*loss: ")) == {"worker:0"}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param('model.compile("sgd", "mse")', marks=pytest.mark.long),
        "model.optimizer.apply = type(model.optimizer).apply.__get__(model.optimizer)",
    ],
    ids=["compiled again", "an optimizer that averages nothing"],
)
def test_a_replica_that_trains_alone_is_detected_in_step_1(change: str, run_forked: RunJob, tmp_path: Path) -> None:
    program = FIT.format(layer="keras.layers.Dense(8)", change=change, batch_size=12)
    job = run_forked(write(tmp_path, program, "multi_worker", "count = 2"))
    assert job.wait() == 1
    assert job.find(FOUND), job.text
    assert "2" not in job.find(r"begins step (\d+)")
    assert "trained with" not in job.text


def test_a_loop_without_the_mean_is_detected_in_its_first_step(run_forked: RunJob, tmp_path: Path) -> None:
    program = OWN_LOOP.replace("run.mean([tape.gradient(loss, w)])[0]", "tape.gradient(loss, w)")
    job = run_forked(write(tmp_path, program, "multi_worker", "count = 2"))
    assert job.wait() == 1
    assert job.find(FOUND), job.text


def test_a_program_can_check_its_replicas_itself(run_forked: RunJob, tmp_path: Path) -> None:
    program = (
        "import tensorflow as tf\nimport slurm_tf.train as train\nrun = train.init()\n"
        "same = [tf.Variable(tf.range(5.0)), tf.Variable(1.0)]\nrun.check_replicas(same)\nprint('same in', run.rank)\n"
        "same[0].assign(tf.where(tf.range(5.0) == 3.0, 3.0 + 1e-6 * run.rank, tf.range(5.0)))\n"
        "run.check_replicas(same)\nprint('not detected')\n"
    )
    job = run_forked(write(tmp_path, program, "multi_worker", "count = 3"))
    assert job.wait() == 1
    assert sorted(job.find(r"same in (\d)")) == ["0", "1", "2"]
    assert job.find(r"ReplicaError: the variables of rank 1, 2 are not those of rank 0: each"), job.text
    assert "not detected" not in job.text


LATE = """
import os, tempfile, sys
import tensorflow as tf
if os.environ["SLURM_TF_TASK"] == "worker:1":
    os.environ["SLURM_TF_CHECKPOINT_FOLDER"] = tempfile.mkdtemp(dir=os.environ["SLURM_TF_RUN_FOLDER"])
import slurm_tf.train as train
run = train.init()
w = [tf.Variable(10.0 * run.rank), tf.Variable(run.rank == 0)]
run.checkpoint(w=w)
print("rank", run.rank, "begins at", run.step, w[0].numpy(), w[1].numpy())
def step(batch):
    w[0].assign_add(1.0)
    return {"w": w[0]}
for done, logs in run.loop(step, run.dataset(lambda context: tf.data.Dataset.range(10)), steps=run.step + 5):
    pass
"""


def test_a_task_that_does_not_see_the_checkpoint_begins_where_rank_0_does(run_forked: RunJob, tmp_path: Path) -> None:
    """As on an NFS client that does not see the new files yet."""
    path = write(tmp_path, LATE, "multi_worker", "count = 2")
    for begin in ("0 0.0", "5 5.0"):
        job = run_forked(path, "--name", "a-1")
        assert job.wait() == 0, job.text
        found = job.find(r"rank \d begins at (\S+ \S+) True")
        assert found == [begin, begin], job.text


# like Horovod's own examples for Keras 2; each rank has its own part of the samples
HOROVOD_EXAMPLE = """
import os, hashlib
import numpy as np, tensorflow as tf
import horovod.tensorflow.keras as hvd
{begin}
keras = tf.keras
keras.utils.set_random_seed(1)
x = np.random.default_rng(hvd.rank()).normal(size=(64, 4)).astype("f")
y = x.sum(1, keepdims=True)
model = keras.Sequential([keras.layers.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1)])
model.compile(hvd.DistributedOptimizer(keras.optimizers.SGD(0.05)), "mse")
class ReplicaCheck(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        print("done step", batch + 1)
        {check}
history = model.fit(x, y, batch_size=8, epochs=4, verbose=0, callbacks=[ReplicaCheck()])
assert history.history["loss"][-1] < 0.5 * history.history["loss"][0]
digest = hashlib.sha256(b"".join(weights.tobytes() for weights in model.get_weights())).hexdigest()
print("Keras", 2 if keras.Model.__module__.startswith("tf_keras") else 3, "ends with", digest)
"""
WARNING = r"warning: program.py:\d+ uses Horovod's DistributedOptimizer, and its Python has Keras 3\.\d+\.\d+: "


@pytest.mark.long  # in `make test`: the replica check below, the warning in launch/agent/test_program_warnings.py
@pytest.mark.parametrize(("keras", "models"), [("3", 2), ("2", 1)])
def test_horovods_optimizer_trains_a_model_in_each_rank_with_keras_3_and_the_agent_warns(
    keras: str, models: int, run_forked: RunJob, tmp_path: Path
) -> None:
    """Losses fall and the job succeeds all the same. With tf_keras, which the warning names, it trains one model."""
    horovod.require()
    if keras == "2":
        tf_keras.require()
    program = HOROVOD_EXAMPLE.format(begin="hvd.init()", check="")
    environ = {**forkserver.environ(legacy_keras=True), "TF_USE_LEGACY_KERAS": "1"} if keras == "2" else {}
    job = run_forked(write(tmp_path, program, "horovod", "count = 2"), **environ)
    assert job.wait() == 0, job.text
    digests = job.find(rf"Keras {keras} ends with (\w+)")
    assert len(digests) == 2
    assert len(set(digests)) == models
    assert len(job.find(WARNING)) == models - 1, job.text


def test_the_replica_check_detects_horovods_optimizer_with_keras_3(run_forked: RunJob, tmp_path: Path) -> None:
    horovod.require()
    begin, check = "import slurm_tf.train as train\nrun = train.init()", "run.check_replicas(model.trainable_variables)"
    job = run_forked(write(tmp_path, HOROVOD_EXAMPLE.format(begin=begin, check=check), "horovod", "count = 2"))
    assert job.wait() == 1
    assert job.find(r"ReplicaError: the variables of rank 1 are not those of rank 0: each of them trains a model")
    assert set(job.find(r"done step (\d+)")) == {"1"}
    assert "ends with" not in job.text
    assert not job.find(WARNING)
