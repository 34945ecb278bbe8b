"""Runs as submit leaves them, and a Slurm that says what a test tells it to."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from slurm_tf.errors import SlurmTfError
from slurm_tf.run import job_chain
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.manifest import ArrayShape
from slurm_tf.slurm.client import CommandLineClient
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord
from slurm_tf.submit import run_index
from slurm_tf.watch.find_run import SelectedRun
from tests.conftest import write_manifest


class Slurm(CommandLineClient):
    """JobRecords from lists: what slurmctld and slurmdbd have, or the error that each raises."""

    def __init__(self) -> None:
        self.live: list[JobRecord] | SlurmTfError = []
        self.past: list[JobRecord] | SlurmTfError = []
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.cancelled: list[str] = []

    def jobs(self, ids: Sequence[str]) -> tuple[JobRecord, ...]:
        return self._answer("squeue", self.live, ids)

    def history(self, ids: Sequence[str]) -> tuple[JobRecord, ...]:
        return self._answer("sacct", self.past, ids)

    def cancel(self, ids: Sequence[str]) -> None:
        self.cancelled += ids

    def _answer(self, who: str, records: "list[JobRecord] | SlurmTfError", ids: Sequence[str]) -> tuple[JobRecord, ...]:
        self.asked.append((who, tuple(ids)))
        if isinstance(records, SlurmTfError):
            raise records
        return tuple(record for record in records if {record.id, record.job} & set(ids))


@pytest.fixture(autouse=True)
def _no_other_runs() -> None:
    """There is an index of runs: where there is none, the real Slurm is asked."""
    run_index.add([])


@pytest.fixture
def slurm() -> Slurm:
    return Slurm()


MakeRun = Callable[..., SelectedRun]


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """Make a run's folder with these submissions: (job, points, array)."""

    def make(name: str, *jobs: tuple[str, tuple[int, ...], bool], array: ArrayShape | None = None) -> SelectedRun:
        run = RunFolder(str(tmp_path / "runs" / name))
        Path(run.path).mkdir(mode=0o700, parents=True)
        Path(run.logs).mkdir()
        Path(run.submission(1).path).mkdir(mode=0o700)
        write_manifest(run, name, array)
        write_manifest(run, name, array, 1)
        for job, points, one_job in jobs:
            job_chain.add(run, job, "", points, one_job, submission=1)
        return SelectedRun(run)

    return make


def record(job: str, state: JobState = JobState.RUNNING, **more: object) -> JobRecord:
    return JobRecord(job, state, **more)  # type: ignore[arg-type]
