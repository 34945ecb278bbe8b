"""A program exports versions of its model: while it trains, at its end, and from a checkpoint."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from slurm_tf.models import model_versions
from slurm_tf.models.model_versions import Version
from tests.conftest import ROOT
from tests.jobs.conftest import RunJob, RunningJob

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
