"""What docs/horovod.md advises, with Keras 3 and with tf_keras, run as it stands there."""

import re
from pathlib import Path

import pytest

from slurm_tf.launch.agent import program_warnings
from tests import forkserver, horovod, snippets, tf_keras
from tests.conftest import ROOT
from tests.jobs.conftest import RunJob
from tests.jobs.test_programs import write

pytestmark = pytest.mark.tensorflow

PAGE = (ROOT / "docs" / "horovod.md").read_text()
PROGRAMS = [snippet.text for snippet in snippets.of("python horovod")]
TABLE = re.findall(r"^\| `([\w.]+)`.* \| (works|fails) \| (works|fails) \|$", PAGE, re.MULTILINE)

RANK = """
import sys, types
import numpy as np, tensorflow as tf
import horovod.tensorflow as hvd
import horovod.tensorflow.keras as hk, horovod.tensorflow.keras.elastic
hvd.init()
rank = hvd.rank()
data = np.random.default_rng(rank)
x = data.normal(size=(8, 4)).astype("f")
y = x.sum(1, keepdims=True)

for source in {programs!r}:
    tf.keras.utils.set_random_seed(rank)
    found = {{"x": x, "y": y}}
    exec(source, found)
    flat = tf.concat([tf.reshape(tf.convert_to_tensor(v), [-1]) for v in found["model"].trainable_variables], 0)
    each = hvd.allgather(tf.expand_dims(flat, 0))
    print("ranks", len(each), "equal", bool(tf.reduce_all(each[0] == each[-1])))

class State:
    batch = epoch = 0
    def commit(self):
        pass

def callback(make):
    model = tf.keras.Sequential([tf.keras.layers.Input((4,)), tf.keras.layers.Dense(1)])
    model.compile("sgd", "mse", run_eagerly=True)
    model.fit(x, y, epochs=2, verbose=0, callbacks=[make()])

def best_model():
    made = hk.callbacks.BestModelCheckpoint(monitor="loss")
    made.filepath = f"best-{{rank}}.keras"
    return made

def keras_state():
    model = tf.keras.Sequential([tf.keras.layers.Input((4,)), tf.keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    state = hk.elastic.KerasState(model, batch=0)
    state.sync()
    state.commit()

def elastic_run():
    state = hvd.elastic.ObjectState(bcast_object=hvd.broadcast_object, get_rank=hvd.rank, batch=rank)
    hk.elastic.run(lambda state: state.commit())(state)
    assert state.batch == 0, state.batch

broadcast = lambda: hk.callbacks.BroadcastGlobalVariablesCallback(0)
schedule = lambda: hk.callbacks.LearningRateScheduleCallback(0.01, lambda epoch: 0.5**epoch)
warmup = lambda: hk.callbacks.LearningRateWarmupCallback(0.01, warmup_epochs=1, steps_per_epoch=1)
parts = {{
    "callbacks.BroadcastGlobalVariablesCallback": lambda: callback(broadcast),
    "callbacks.MetricAverageCallback": lambda: callback(hk.callbacks.MetricAverageCallback),
    "callbacks.LearningRateScheduleCallback": lambda: callback(schedule),
    "callbacks.LearningRateWarmupCallback": lambda: callback(warmup),
    "callbacks.BestModelCheckpoint": lambda: callback(best_model),
    "elastic.KerasState": keras_state,
    "elastic.CommitStateCallback": lambda: callback(lambda: hk.elastic.CommitStateCallback(State())),
    "elastic.UpdateBatchStateCallback": lambda: callback(lambda: hk.elastic.UpdateBatchStateCallback(State())),
    "elastic.UpdateEpochStateCallback": lambda: callback(lambda: hk.elastic.UpdateEpochStateCallback(State())),
    "elastic.run": elastic_run,
}}
for name, run in parts.items():
    try:
        run()
        print("part", name, "works")
    except (AttributeError, TypeError) as error:
        print("part", name, "fails:", error)
"""


@pytest.mark.parametrize(
    "legacy", [pytest.param(False, id="keras-3"), pytest.param(True, id="tf_keras", marks=pytest.mark.long)]
)
def test_what_is_advised_averages_and_what_is_said_to_fail_fails(
    legacy: bool, run_forked: RunJob, tmp_path: Path
) -> None:
    horovod.require()
    more = forkserver.environ(legacy_keras=True) if legacy else {}
    if legacy:
        tf_keras.require()
        more["TF_USE_LEGACY_KERAS"] = "1"
    programs = [source for source in PROGRAMS if ("tf.keras." in source) == legacy]
    assert len(programs) == (1 if legacy else 2)
    job = run_forked(write(tmp_path, RANK.format(programs=programs), "horovod", "count = 2"), **more)
    assert job.wait() == 0, job.text
    assert job.find(r"ranks (\d equal \w+)") == ["2 equal True"] * 2 * len(programs)
    for rank in range(2):
        found = dict(job.find(rf"^\[worker:{rank}\] part (\S+) (works|fails)"))
        errors = job.find(rf"^\[worker:{rank}\] part \S+ fails: (.*)")
        assert all(re.search(r"'ref'|'keras.backend' has no|not callable|'endswith'", error) for error in errors), (
            errors
        )
        assert found == {name: with_tf_keras if legacy else with_keras_3 for name, with_keras_3, with_tf_keras in TABLE}


def test_the_hint_is_what_the_page_has(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text("import keras, horovod.keras as hvd\nhvd.DistributedOptimizer(o)\n")
    (hint,) = program_warnings.of_program("horovod", [str(tmp_path / "program.py")], {}, lambda _: "")
    (expression,) = re.findall(r"tape.gradient\(.*?\]\)", hint)
    assert any(expression in source for source in PROGRAMS)
