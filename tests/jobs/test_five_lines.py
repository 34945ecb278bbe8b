"""A Keras script with the five lines of slurm_tf.train: what it prints, and where its model is."""

import os
import shutil
from pathlib import Path

import pytest

from slurm_tf.run.folder import RunFolder
from slurm_tf.watch import status_rows
from slurm_tf.watch.find_run import SelectedRun
from slurm_tf.watch.run_overview import RunOverview
from tests import forkserver, horovod, tf_keras
from tests.jobs.conftest import JOBS, RunJob
from tests.jobs.test_programs import check_bars

pytestmark = [pytest.mark.tensorflow, pytest.mark.matrix]

# Every task does all of it. The model of the script has no keras.Input.
CHECKS = """
model.load_weights("best.weights.h5")
evaluated = model.evaluate(x_test, y_test)
model.save("digits.keras")
if run.is_chief:
    loaded = tf.keras.models.load_model("digits.keras")
    assert loaded.evaluate(x_test, y_test, verbose=0) == evaluated
    loaded = tf.keras.models.load_model(run.model_path("digits.keras"))
    assert (loaded.predict(x_test, verbose=0) == model.predict(x_test, verbose=0)).all()
"""
BEST = "tf.keras.callbacks.ModelCheckpoint('best.weights.h5', monitor='loss', save_weights_only=True)"
CALLBACKS = "callbacks=run.callbacks(model)"


def copied(folder: Path) -> str:
    """Copy the job, whose program has a callback of its own here; return the path of the job file."""
    program = (JOBS / "keras_distributed.py").read_text()
    assert CALLBACKS in program
    changed = program.replace(CALLBACKS, f"callbacks=[*run.callbacks(model), {BEST}]") + CHECKS
    (folder / "keras_distributed.py").write_text(changed)
    return shutil.copy(JOBS / "keras_distributed.toml", str(folder))


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
    job = run_forked(copied(tmp_path), "--set", f'strategy="{strategy}"', **variables)
    assert job.wait() == 0, job.text
    check_bars(job, epochs=5)
    shown = job.find(r"^\[worker:1\] (.*)$")
    assert [line.partition(" ")[0] for line in shown] == ["slurm_tf.train:", "test"], job.text
    first, second = job.find(r"^\[worker:\d\] test accuracy (.*)")
    assert first == second
    assert float(first) > 0.85
    assert not job.find("WARNING:tensorflow|finalizing GeneratorDataset"), job.text
    run = RunFolder(str(tmp_path / "runs" / "keras-distributed-1"))
    assert job.find(r"slurm_tf.train: the model is in (.*)") == [f"{run.exports}/digits.keras"]
    assert os.listdir(run.exports) == ["digits.keras"]
    assert job.find(r"^  model +(\S+)$") == ["runs/keras-distributed-1/export/digits.keras"]
    point = RunOverview(SelectedRun(run), "", (), None, None, False)
    assert status_rows.places(point)["model"] == f"{run.exports}/digits.keras"
