"""Programs of all kinds: with TF_CONFIG only, with a loop of their own, with model.fit in one process."""

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from slurm_tf.run import checkpoint_folder, progress
from slurm_tf.run.folder import RunFolder
from tests import forkserver, tf_keras
from tests.jobs.conftest import JOBS, RunJob, RunningJob

pytestmark = pytest.mark.tensorflow

TF_CONFIG_ONLY = """
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
with strategy.scope():
    w = tf.Variable(1.0)
@tf.function
def step():
    def one():
        context = tf.distribute.get_replica_context()
        w.assign_add(context.all_reduce("SUM", tf.cast(context.replica_id_in_sync_group + 1, tf.float32)))
    strategy.run(one)
for _ in range(3):
    step()
print("w", w.numpy(), strategy.cluster_resolver.task_type, strategy.cluster_resolver.task_id)
"""


def write(tmp_path: Path, program: str, strategy: str, more: str = "") -> str:
    (tmp_path / "program.py").write_text(program)
    (tmp_path / "job.toml").write_text(
        f'name = "a"\nstrategy = "{strategy}"\ncommand = ["python", "program.py"]\n[roles.worker]\n{more}\n'
        '[env]\nTF_CPP_MIN_LOG_LEVEL = "2"\nTF_ENABLE_ONEDNN_OPTS = "0"\n'
    )
    return str(tmp_path / "job.toml")


def check_bars(job: RunningJob, epochs: int) -> None:
    """Rank 0 has drawn the bar of `fit` in each epoch, and the other one none."""
    found = job.find(r"^\[worker:(\d)\] (Epoch \d/\d)$")
    assert found == [("0", f"Epoch {epoch + 1}/{epochs}") for epoch in range(epochs)]
    drawn = job.find(r"^\[worker:(\d)\] .*\d/\d.*(?:━|\[=).*loss: ")
    assert set(drawn) == {"0"}, job.text
    assert len(job.find(r"^\[worker:0\] step \d+/\d+  epoch ")) == epochs, "on lines of their own"


def test_a_program_that_only_reads_tf_config_runs_unchanged(run_forked: RunJob, tmp_path: Path) -> None:
    job = run_forked(write(tmp_path, TF_CONFIG_ONLY, "multi_worker", "count = 2\n[roles.chief]"))
    assert job.wait() == 0, job.text
    # 1 + 3 x (1 + 2 + 3)
    assert sorted(job.find(r"w (\S+ \S+ \S+)")) == ["19.0 chief 0", "19.0 worker 0", "19.0 worker 1"]


def test_a_dead_proxy_does_not_stop_the_workers(run_forked: RunJob, tmp_path: Path) -> None:
    """Without no_proxy TensorFlow's workers would try to reach each other through the proxy for ever."""
    proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "grpc_proxy"), "http://127.0.0.1:9")
    job = run_forked(write(tmp_path, TF_CONFIG_ONLY, "multi_worker", "count = 2"), **proxies)
    assert job.wait(120) == 0, job.text
    # 1 + 3 x (1 + 2)
    assert sorted(job.find(r"w (\S+ \S+ \S+)")) == ["10.0 worker 0", "10.0 worker 1"]


DTENSOR = """
import tensorflow as tf
from tensorflow.experimental import dtensor
dtensor.initialize_accelerator_system("CPU")
mesh = dtensor.create_distributed_mesh([("batch", dtensor.num_global_devices("CPU"))], device_type="CPU")
mine = dtensor.pack([tf.constant([dtensor.client_id() + 1.0])], dtensor.Layout(["batch"], mesh))
total = dtensor.unpack(tf.reduce_sum(mine))[0]
print("client", dtensor.client_id(), "of", dtensor.num_clients(), "sum", total.numpy())
"""


def test_clients_of_dtensor_find_each_other(run_forked: RunJob, tmp_path: Path) -> None:
    job = run_forked(write(tmp_path, DTENSOR, "multi_worker", "[roles.chief]"))
    assert job.wait() == 0, job.text
    found = dict(job.find(r"^\[(\w+:0)\] client (.*)"))
    assert found == {"chief:0": "0 of 2 sum 3.0", "worker:0": "1 of 2 sum 3.0"}


# The variables are those of a step of two tasks on one node.
RESOLVERS = """
import os, tensorflow as tf
os.environ.update(SLURM_STEP_NUM_TASKS="2", SLURM_STEP_NODELIST="n1", SLURM_STEP_TASKS_PER_NODE="2")
try:
    tf.distribute.cluster_resolver.SlurmClusterResolver().cluster_spec()
except ValueError as error:
    print("its own:", error)
strategy = tf.distribute.MultiWorkerMirroredStrategy(tf.distribute.cluster_resolver.TFConfigClusterResolver())
print("replicas", strategy.num_replicas_in_sync)
"""


def test_tensorflows_resolver_of_slurm_fails_and_what_the_warning_advises_works(
    run_forked: RunJob, tmp_path: Path
) -> None:
    job = run_forked(write(tmp_path, RESOLVERS, "multi_worker", "count = 2"))
    assert job.wait() == 0, job.text
    assert job.find(r"its own: (.*)") == ["range() arg 3 must not be zero"] * 2
    assert job.find(r"replicas (\d)") == ["2", "2"]
    assert job.text.count("slurm-tf: warning: program.py:5 uses SlurmClusterResolver") == 1


# TensorFlow's tutorial "Multi-worker training with Keras", shortened.
WITH_KERAS = """
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
with strategy.scope():
    model = tf.keras.Sequential([tf.keras.layers.Input((4,)), tf.keras.layers.Dense(1)])
    model.compile("sgd", "mse")
data = tf.data.Dataset.from_tensors((tf.ones((8, 4)), tf.ones((8, 1)))).repeat()
model.fit(data, epochs=1, steps_per_epoch=2, verbose=0)
print("fitted by", model.__module__.partition(".")[0])
"""


@pytest.mark.parametrize(
    "legacy", [pytest.param(False, id="keras-3"), pytest.param(True, id="tf_keras", marks=pytest.mark.long)]
)
def test_the_multi_worker_tutorial_fails_with_keras_3_as_the_warning_says_and_works_with_tf_keras(
    legacy: bool, run_forked: RunJob, tmp_path: Path
) -> None:
    more = {}
    if legacy:
        tf_keras.require()
        more = {**forkserver.environ(legacy_keras=True), "TF_USE_LEGACY_KERAS": "1"}
    job = run_forked(write(tmp_path, WITH_KERAS, "multi_worker", "count = 2"), **more)
    assert (job.wait() == 0) == legacy, job.text
    warned = job.find(
        r"^slurm-tf: warning: program.py:8 calls fit, program.py:3 uses (\w+), and its Python has Keras 3"
    )
    assert warned == ([] if legacy else ["MultiWorkerMirroredStrategy"])
    assert len(job.find("fitted by tf_keras")) == (2 if legacy else 0)
    assert ("PerReplica" in job.text.replace("value (PerReplica: ...)", "")) != legacy


# The two programs of TensorFlow's tutorial "Parameter server training with ParameterServerStrategy", shortened.
SERVER = """
import tensorflow as tf
resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
tf.distribute.Server(
    resolver.cluster_spec(), job_name=resolver.task_type, task_index=resolver.task_id, protocol="grpc", start=True
).join()
"""
CHIEF = """
import tensorflow as tf
strategy = tf.distribute.ParameterServerStrategy(tf.distribute.cluster_resolver.TFConfigClusterResolver())
coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
with strategy.scope():
    w = tf.Variable(0.0)
@tf.function
def step():
    w.assign_add(1.0)
for _ in range(20):
    coordinator.schedule(step)
coordinator.join()
print("w", w.numpy(), "of", w.device)
"""


def test_the_server_program_of_tensorflows_tutorial_is_a_command_of_its_roles(
    run_forked: RunJob, tmp_path: Path
) -> None:
    (tmp_path / "server.py").write_text(SERVER)
    server = 'command = ["python", "server.py"]\n'
    job = run_forked(write(tmp_path, CHIEF, "ps", f"{server}[roles.chief]\n[roles.ps]\n{server}"))
    assert job.wait() == 0, job.text
    assert job.find(r"^\[chief:0\] w (\S+) of (\S+)") == [("20.0", "/job:ps/replica:0/task:0/device:CPU:0")]


OWN_LOOP = """
import numpy as np, tensorflow as tf
import slurm_tf.train as train
run = train.init()
x = np.random.default_rng(0).normal(size=(256, 4)).astype("f")
y = x @ np.array([1, -2, 3, 0.5], "f")
with run.scope():
    w = tf.Variable(tf.zeros([4]))
def step(batch):
    x, y, weight = batch
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(weight * (tf.linalg.matvec(x, w) - y) ** 2)
    w.assign_sub(0.1 * run.mean([tape.gradient(loss, w)])[0])
    return {"loss": loss}
run.checkpoint(w=w)
for done, logs in run.loop(step, run.batches((x, y), batch_size=32), steps=60, every=20):
    run.report(done, 60, **logs)
print("rank", run.rank, "w", [round(float(v), 3) for v in w.numpy()])
"""


@pytest.mark.matrix
@pytest.mark.parametrize(("strategy", "more"), [("single", ""), ("mirrored", ""), ("multi_worker", "count = 2")])
def test_a_loop_of_its_own_under_every_strategy(strategy: str, more: str, run_forked: RunJob, tmp_path: Path) -> None:
    job = run_forked(write(tmp_path, OWN_LOOP, strategy, more))
    assert job.wait() == 0, job.text
    results = job.find(r"rank \d w (.*)$")
    assert set(results) == {"[1.0, -2.0, 3.0, 0.5]"}
    assert len(results) == (2 if more else 1)
    assert job.find(r"step (\d+)/60") == ["20", "40", "60"]
    (found,) = checkpoint_folder.complete(str(tmp_path / "runs" / "a-1" / "checkpoints"))
    assert found.step == 60


FIT = """
import numpy as np, keras, tensorflow as tf
import slurm_tf.train as train
{devices}
run = train.init()
x = np.random.default_rng(0).normal(size=(256, 4)).astype("f")
y = (x.sum(1) > 0).astype("f")
keras.utils.set_random_seed(1)
with run.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1, "sigmoid")])
    model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy", metrics=["accuracy"])
model.fit(run.batches((x, y), batch_size=32), epochs=6, callbacks=run.callbacks(model), verbose=0)
print("replicas", run.strategy.num_replicas_in_sync, "accuracy", model.evaluate(x, y, verbose=0)[1])
"""
TWO_DEVICES = """
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
make_mirrored = tf.distribute.MirroredStrategy.__init__
tf.distribute.MirroredStrategy.__init__ = lambda self: make_mirrored(self, ["CPU:0", "CPU:1"])
"""


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("strategy", "devices", "replicas"),
    [("single", "", "1"), pytest.param("mirrored", TWO_DEVICES, "2", marks=pytest.mark.long)],
)
def test_fit_of_keras_3(strategy: str, devices: str, replicas: str, run_forked: RunJob, tmp_path: Path) -> None:
    """Under mirrored, two logical CPU devices replace two GPUs."""
    program = FIT.format(devices=devices.replace("\n[0]", "[0]")).replace("=32", '=run.params["batch"]')
    path = write(tmp_path, program, strategy)
    with open(path, "a") as file:
        file.write('BATCH = "{batch}"\n[params]\nbatch = 64\n')
    job = run_forked(path, "batch=32")
    assert job.wait() == 0, job.text
    assert (tmp_path / "runs" / "a-1" / "tensorboard" / "events.out.tfevents.0.params").stat().st_size > 0
    ((found, accuracy),) = job.find(r"replicas (\d) accuracy ([\d.]+)")
    assert found == replicas
    assert float(accuracy) > 0.9
    assert job.find(r"step (\d+)/48  epoch 6/6")
    reported = progress.read(RunFolder(str(tmp_path / "runs" / "a-1")).progress)
    assert [(each.step, sorted(each.values)) for each in reported] == [
        (step, ["accuracy", "loss"]) for step in range(8, 56, 8)
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            "model = keras.Sequential([keras.layers.Dense(1)]); model.compile('sgd', 'mse'); run.callbacks(model)",
            "no variables yet, and the shape of its input is not known",
        ),
        ("run.callbacks(model, max_pixel=1.0)", "found a model with inputs of the shapes"),
        ("x, y = x[:100], y", "arrays of \\[100, 256\\] samples"),
    ],
)
def test_the_error_of_a_wrong_program_is_helpful(change: str, message: str, run_forked: RunJob, tmp_path: Path) -> None:
    program = FIT.format(devices="").replace("model.fit(", f"{change}\nmodel.fit(")
    job = run_forked(write(tmp_path, program, "single"))
    assert job.wait() == 1
    assert job.find(message), job.text


def test_a_program_with_slurm_tf_train_also_runs_without_slurm_tf(tmp_path: Path) -> None:
    done = subprocess.run(
        [forkserver.python(), str(JOBS / "cnn.py"), "--epochs", "1"],
        cwd=tmp_path, capture_output=True, text=True, timeout=200,
        env={"PATH": "/usr/bin:/bin", **forkserver.VARIABLES},
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "step 23/23  epoch 1/1" in done.stdout


TRAVELS = """
import keras, numpy, slurm_tf, sys
import slurm_tf.train as train
run = train.init()
with run.scope():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
x = numpy.ones((64, 4), "float32")
model.fit(run.batches((x, x[:, :1]), batch_size=32), epochs=2, callbacks=run.callbacks(model), verbose=0)
print("slurm_tf is from", slurm_tf.__file__)
"""


@pytest.mark.long  # which slurm_tf a program finds: submit/test_packed_modules.py
def test_slurm_tf_train_travels_with_the_run(run_job: RunJob, tmp_path: Path) -> None:
    """Where the program's Python has TensorFlow, and no slurm_tf."""
    venv.create(tmp_path / "venv")
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "tensorflow.pth").write_text(next(path for path in sys.path if path.endswith("site-packages")))
    file = write(tmp_path, TRAVELS, "single")
    Path(file).write_text(Path(file).read_text() + 'PYTHONPATH = ""\n')
    job = run_job(file, PATH=f"{tmp_path}/venv/bin:{os.environ['PATH']}", VIRTUAL_ENV=f"{tmp_path}/venv")
    assert job.wait() == 0, job.text
    (run,) = (tmp_path / "runs").iterdir()
    assert job.find(r"slurm_tf is from (.*)") == [f"{run}/submission-1/train.zip/slurm_tf/__init__.py"]
    assert next(checkpoint_folder.complete(str(run / "checkpoints"))).step == 4
