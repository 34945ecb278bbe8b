"""A Keras script with the five lines of slurm_tf.train: what it prints, and where its model is."""

import os
from pathlib import Path

import pytest

from slurm_tf.run.folder import RunFolder
from slurm_tf.watch import status_rows
from slurm_tf.watch.find_run import SelectedRun
from slurm_tf.watch.run_overview import RunOverview
from tests import forkserver, horovod, tf_keras
from tests.jobs.conftest import RunJob
from tests.jobs.test_programs import check_bars, write

pytestmark = [pytest.mark.tensorflow, pytest.mark.matrix]

# No keras.Input, and every task does all of it.
PROGRAM = """
import numpy as np, tensorflow as tf
import slurm_tf.train as train
keras = tf.keras
run = train.init()
x = np.random.default_rng(0).normal(size=(100, 4)).astype("f")
y = (x.sum(1) > 0).astype("f")
with run.scope():
    model = keras.Sequential([keras.layers.Dense(8, "tanh"), keras.layers.Dense(1, "sigmoid")])
    model.compile("adam", "binary_crossentropy", metrics=["accuracy"])
best = keras.callbacks.ModelCheckpoint("best.weights.h5", monitor="loss", save_weights_only=True)
data = run.batches((x, y), batch_size=16)
model.fit(data, epochs=2, validation_data=(x[:50], y[:50]), callbacks=[*run.callbacks(model), best])
model.load_weights("best.weights.h5")
evaluated = model.evaluate(x, y)
model.save("model.keras")
if run.is_chief:
    assert keras.models.load_model("model.keras").evaluate(x, y, verbose=0) == evaluated
    loaded = keras.models.load_model(run.model_path())
    assert (loaded.predict(x, verbose=0) == model.predict(x, verbose=0)).all()
print("samples", evaluated[1] * 100)
"""


@pytest.mark.parametrize(
    ("library", "strategy"),
    [
        ("keras", "multi_worker"),
        *(
            pytest.param(*case, marks=pytest.mark.long)
            for case in (("tf_keras", "multi_worker"), ("keras", "horovod"), ("tf_keras", "horovod"))
        ),
    ],
)
def test_every_task_runs_the_script_and_one_shows_it_and_saves_the_model(
    library: str, strategy: str, run_forked: RunJob, tmp_path: Path
) -> None:
    variables = {}
    if library == "tf_keras":
        tf_keras.require()
        variables = {**forkserver.environ(legacy_keras=True), "TF_USE_LEGACY_KERAS": "1"}
    if strategy == "horovod":
        horovod.require()
    job = run_forked(write(tmp_path, PROGRAM, strategy, "count = 2"), **variables)
    assert job.wait() == 0, job.text
    check_bars(job, epochs=2)
    shown = job.find(r"^\[worker:1\] (.*)$")
    assert [line.partition(" ")[0] for line in shown] == ["slurm_tf.train:", "samples"], job.text
    assert len(set(job.find(r"^\[worker:\d\] (samples .*)"))) == 1
    assert "WARNING" not in job.text
    run = RunFolder(str(tmp_path / "runs" / "a-1"))
    assert job.find(r"slurm_tf.train: the model is in (.*)") == [f"{run.exports}/model.keras"]
    assert os.listdir(run.exports) == ["model.keras"]
    point = RunOverview(SelectedRun(run), "", (), None, None, False)
    assert status_rows.places(point)["model"] == f"{run.exports}/model.keras"
