"""A program exports versions of its model: while it trains, at its end, and from a checkpoint."""

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slurm_tf.models import model_versions
from slurm_tf.models.model_versions import Version
from slurm_tf.run import progress
from tests import forkserver
from tests.conftest import PYTHONPATH, ROOT
from tests.jobs.conftest import SLURM_TF, RunJob, RunningJob

pytestmark = pytest.mark.tensorflow

PROGRAM = ROOT / "tests" / "programs" / "exporting.py"
JOB = """
name = "line"
strategy = "{strategy}"
command = {command}

[roles.worker]
count = {count}

[checkpoint]
every-steps = 20

[export]
metric = "loss"
mode = "min"
{export}
"""

RunLine = Callable[..., RunningJob]


@pytest.fixture
def run_line(run_forked: RunJob, tmp_path: Path) -> RunLine:
    """Return a function that runs the program with these arguments, as the run `line-1`."""

    def start(*arguments: str, strategy: str = "single", count: int = 1, export: str = "") -> RunningJob:
        command = json.dumps(["python", str(PROGRAM), *arguments])
        path = tmp_path / "line.toml"
        path.write_text(JOB.format(strategy=strategy, command=command, count=count, export=export))
        return run_forked(str(path), "--name", "line-1")

    return start


def versions(folder: Path) -> dict[int, Version]:
    return {version.number: version for version in model_versions.versions(str(folder))}


def answer(version: Version, x: float) -> float:
    """Return what the model answers to `x`."""
    import tensorflow as tf

    function = tf.saved_model.load(version.path).signatures["serving_default"]
    (name,) = function.structured_input_signature[1]
    (output,) = function(**{name: tf.constant([[x]])}).values()
    return float(np.ravel(output)[0])


@pytest.mark.long
def test_versions_appear_while_training_goes_on_and_at_its_end(run_line: RunLine, tmp_path: Path) -> None:
    job = run_line("--steps", "20", export="every = '0:00:00'")
    assert job.wait() == 0, job.text
    base = tmp_path / "runs" / "line-1" / "export"
    assert job.find(r"exported (\S+)$") == [str(base / "3")]
    found = versions(base)
    steps = [found[number].manifest.step for number in sorted(found) if found[number].manifest]  # type: ignore[union-attr]
    assert steps == [10, 20, 20]
    last = found[3].manifest
    assert last
    assert (last.run, last.run_folder) == ("line-1", str(base.parent))
    assert last.metrics["loss"] < found[1].manifest.metrics["loss"]  # type: ignore[union-attr]
    assert answer(found[3], 2.0) == pytest.approx(7.0, abs=3)
    assert answer(found[1], 2.0) != answer(found[3], 2.0)
    assert model_versions.damages(found[3]) == []

    # a worse one is kept aside, and the program goes on
    job = run_line("--steps", "20", "--diverge")
    assert job.wait() == 0, job.text
    assert job.find(r"exported (\S+)$") == [str(base / ".rejected" / "4")]
    assert re.search(r"version 4 is kept aside in .*: its loss 1000 is worse than [\d.e-]+ of version 3", job.text)
    assert max(versions(base)) == 3


@pytest.mark.long
def test_one_task_of_several_exports_what_fit_has_trained(run_line: RunLine, tmp_path: Path) -> None:
    job = run_line("--loop", "fit", strategy="multi_worker", count=2, export=f"to = '{tmp_path}/models/line'")
    assert job.wait() == 0, job.text
    base = tmp_path / "models" / "line"
    assert sorted(job.find(r"^\[worker:\d\] exported ?(.*)$")) == ["", str(base / "1")]
    assert job.find(r"^\[(worker:\d)\] slurm_tf.train: version 1 of the model is in") == ["worker:0"]
    (version,) = versions(base).values()
    assert version.manifest
    assert (version.manifest.step, set(version.manifest.metrics)) == (60, {"loss"})
    assert answer(version, 2.0) == pytest.approx(7.0, abs=0.3)


def test_a_checkpoint_is_exported_by_the_program_which_trains_nothing(run_line: RunLine, tmp_path: Path) -> None:
    import tensorflow as tf

    job = run_line("--steps", "40", export=f"to = '{tmp_path}/trained'")
    assert job.wait() == 0, job.text
    before = sorted((tmp_path / "runs" / "line-1").rglob("*"))
    base = tmp_path / "models" / "line"

    def export(*words: str) -> "subprocess.CompletedProcess[str]":
        environ = {**os.environ, "PYTHONPATH": PYTHONPATH, **forkserver.environ()}
        return subprocess.run(
            [*SLURM_TF, "export", "line-1", "--to", str(base), *words],
            cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    done = export("--step", "20", "--json")
    assert done.returncode == 0, done.stderr
    said = {"path": str(base / "1"), "number": 1, "rejected": "", "removed": [], "not_removed": []}
    assert json.loads(done.stdout) == said
    assert "step 30" not in done.stderr
    (version,) = versions(base).values()
    reader = tf.train.load_checkpoint(str(tmp_path / "runs/line-1/checkpoints/step-0000000020/checkpoint"))
    slope, constant = reader.get_tensor("model/weights/.ATTRIBUTES/VARIABLE_VALUE")
    assert answer(version, 2.0) == pytest.approx(2 * slope + constant, rel=1e-6)
    assert version.manifest
    assert (version.manifest.run, version.manifest.step) == ("line-1", 20)
    reports = {each.step: each for each in progress.read(str(tmp_path / "runs/line-1/progress.jsonl"))}
    assert version.manifest.metrics == reports[20].values
    # the run is as it was: its program wrote into a folder of its own
    assert sorted((tmp_path / "runs" / "line-1").rglob("*")) == before

    # what the program has exported is copied; an earlier step is worse
    done = export()
    assert (done.returncode, done.stdout) == (0, "version 2 is in models/line/2\n"), done.stderr
    exported, copied = versions(tmp_path / "trained")[1], versions(base)[2]
    assert copied.manifest
    assert exported.manifest
    for name in ("saved_model.pb", "variables/variables.index", "variables/variables.data-00000-of-00001"):
        assert copied.manifest.files[name] == exported.manifest.files[name]
    done = export("--step", "20")
    assert done.returncode == 65
    assert "version 3 is kept aside" in done.stderr
    assert "is worse than" in done.stderr
    done = export("--step", "30")
    assert done.returncode == 2
    assert "no whole checkpoint '30'" in done.stderr
    assert sorted(os.listdir(base)) == [".rejected", "1", "2"]
