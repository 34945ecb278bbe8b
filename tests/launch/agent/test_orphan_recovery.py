"""Agents whose coordinator is gone; of Slurm there are the commands alone."""

from pathlib import Path

import pytest

from slurm_tf.launch.agent.orphan_recovery import OrphanRecovery
from tests.launch.requeue.test_finalize import Bench


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def agent(bench: Bench) -> OrphanRecovery:
    return OrphanRecovery(bench.place, "7.0", "worker:0", 0, writes=True, may_live=False, goes_on=True)


def test_the_one_that_saves_puts_the_job_back(bench: Bench) -> None:
    agent(bench).see_to_the_run(bench.said.append)
    assert bench.calls == ["scontrol requeue incomplete 7"]
    assert bench.said == ["the coordinator is gone; job 7 waits to be started again"]


def test_slurm_hears_that_the_batch_script_was_killed_after_it_was_asked(bench: Bench) -> None:
    bench.answer("squeue", 0, "COMPLETING N/A 9999999999 1 10:00 0 0")
    bench.answer("squeue-next", 0, "COMPLETING N/A 9999999999 1 10:00 0 9")
    agent(bench).see_to_the_run(bench.said.append)
    assert bench.calls == ["scontrol requeue incomplete 7", "scontrol requeue 7"]
    assert bench.said == ["the coordinator is gone; job 7 waits to be started again"]


def test_a_job_that_is_cancelled_at_that_moment_stays_cancelled(bench: Bench) -> None:
    bench.answer("squeue", 0, "COMPLETING N/A 9999999999 1 10:00 0 0")
    agent(bench).see_to_the_run(bench.said.append)
    assert bench.calls == ["scontrol requeue incomplete 7"]
    assert bench.said == ["the coordinator is gone; cancelled"]
