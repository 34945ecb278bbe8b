"""--dependency by a run's name, and by the id of a job that another one has followed."""

import json
import os
from pathlib import Path

import pytest

from slurm_tf.errors import ConfigError
from slurm_tf.run import job_chain
from slurm_tf.run.folder import RunFolder
from slurm_tf.submit import dependency


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of runs: one job, one that was followed twice, an array of which one task was, two jobs."""

    def make(name: str) -> RunFolder:
        run = RunFolder(str(tmp_path / name))
        os.mkdir(run.path, 0o700)
        return run

    job_chain.add(make("one"), "10", "", (), array=False, submission=1)
    followed = make("followed")
    job_chain.add(followed, "20", "", (), array=False, submission=1)
    job_chain.add(followed, "21", "", (), False, "20", submission=1)
    job_chain.add(followed, "22", "", (), False, "21", submission=1)
    job_chain.add(make("array"), "30", "", (0, 1), array=True, submission=1)
    mixed = make("mixed")
    job_chain.add(mixed, "40", "", (0, 1), array=True, submission=1)
    os.mkdir(mixed.point(1).path, 0o700)
    job_chain.add(mixed.point(1), "41", "", (1,), True, "40_1", submission=1)
    jobs = make("jobs")
    for job, point in (("50", 0), ("51", 1)):
        job_chain.add(jobs, job, "", (point,), array=False, submission=1)
    job_chain.add(make("99"), "60", "", (), array=False, submission=1)
    broken = make("broken")
    Path(broken.jobs).write_text(json.dumps({"contract": 99, "jobs": []}))
    return tmp_path


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ("singleton", "singleton"),
        ("afterok:10", "afterok:10"),
        ("afterok:one", "afterok:10"),
        ("afterok:20", "afterok:22"),
        ("afterany:21,after:10+5", "afterany:22,after:10+5"),
        ("afterok:followed?singleton", "afterok:22?singleton"),
        ("afterok:one:followed:7", "afterok:10:22:7"),
        ("afterok:array", "afterok:30"),
        ("afterok:array/1", "afterok:30_1"),
        ("afterok:30", "afterok:30"),
        # the array's own id would not wait for the job that follows one of its tasks
        ("afterok:40", "afterok:40_0:41_1"),
        ("afterok:mixed", "afterok:40_0:41_1"),
        ("afterok:40_1:mixed/0", "afterok:41_1:40_0"),
        ("afterok:jobs", "afterok:50:51"),
        ("after:one+5", "after:10+5"),
        ("after:followed+5:jobs+1", "after:22+5:50+1:51+1"),
        ("after:20+5,afterok:one", "after:22+5,afterok:10"),
        # a number is a job's
        ("afterok:99", "afterok:99"),
        ("afterok:7_*:8_1", "afterok:7_*:8_1"),
    ],
)
def test_runs_in_a_dependency(asked: str, sent: str, folder: Path) -> None:
    assert dependency.resolve(asked, str(folder)) == sent


@pytest.mark.parametrize(
    ("asked", "name", "hint"),
    [
        ("afterok:nosuch", "nosuch", ""),
        ("afterok:one,after:nosuch+5", "nosuch+5", ""),
        ("afterok:folowed", "folowed", "did you mean 'followed'?"),
        ("afterok:array/7", "array/7", ""),
        ("afterok:broken", "broken", ""),
        ("afterok:1O", "1O", ""),
    ],
)
def test_a_name_that_is_no_runs(asked: str, name: str, hint: str, folder: Path) -> None:
    with pytest.raises(ConfigError, match="no such run") as error:
        dependency.resolve(asked, str(folder), "a.toml: sbatch.dependency")
    assert str(error.value).startswith(f"a.toml: sbatch.dependency: found {name!r}: no such run in {folder}")
    assert hint in str(error.value)


def test_without_runs_nothing_is_read(tmp_path: Path) -> None:
    assert dependency.resolve("afterok:1", str(tmp_path / "none")) == "afterok:1"
