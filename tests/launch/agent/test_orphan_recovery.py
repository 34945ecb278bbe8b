"""Agents whose coordinator is gone; of Slurm there are the commands alone."""

from pathlib import Path

import pytest

from slurm_tf.launch.agent.orphan_recovery import OrphanRecovery
from slurm_tf.run.attempts import AttemptRecorder, EndCause
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


def test_a_job_whose_coordinator_recorded_a_cancel_stays_cancelled_though_its_batch_script_was_killed(
    bench: Bench,
) -> None:
    bench.answer("squeue", 0, "COMPLETING N/A 9999999999 1 10:00 0 9")
    AttemptRecorder(bench.run, "7.0", "7", bench.said.append).decided(EndCause.CANCEL, "cancel: got SIGTERM")
    agent(bench).see_to_the_run(bench.said.append)
    assert bench.calls == []
    assert bench.said == ["the run does not go on: cancel: got SIGTERM"]


def test_a_run_whose_end_was_recorded_is_over(bench: Bench) -> None:
    AttemptRecorder(bench.run, "7.0", "7", bench.said.append).ended(EndCause.NONE, 2, "worker:0 ended with exit code 2")
    agent(bench).see_to_the_run(bench.said.append)
    assert bench.calls == []
    assert bench.said == ["the run does not go on: worker:0 ended with exit code 2"]


@pytest.mark.parametrize("cause", [EndCause.NONE, EndCause.PREEMPTION, EndCause.UNKNOWN])
def test_any_other_recorded_cause_lets_the_run_go_on(bench: Bench, cause: EndCause) -> None:
    bench.answer("squeue", 0, "COMPLETING N/A 9999999999 1 10:00 0 9")
    AttemptRecorder(bench.run, "7.0", "7", bench.said.append).decided(cause, "got SIGTERM")
    agent(bench).see_to_the_run(bench.said.append)
    assert bench.calls == ["scontrol requeue 7"]


def test_attempts_that_cannot_be_read_let_the_run_go_on(bench: Bench) -> None:
    Path(bench.run.attempts).write_text("{")
    agent(bench).see_to_the_run(bench.said.append)
    assert bench.calls == ["scontrol requeue incomplete 7"]
