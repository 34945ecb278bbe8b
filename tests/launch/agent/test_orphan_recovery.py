"""Agents whose coordinator is gone. Slurm's commands are fakes."""

from pathlib import Path

import pytest

from slurm_tf.launch.agent.orphan_recovery import OrphanRecovery
from slurm_tf.run.attempts import AttemptRecorder, EndCause
from tests.launch.requeue.ended_job import EndedJob


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EndedJob:
    return EndedJob(tmp_path, monkeypatch)


def agent(ended: EndedJob) -> OrphanRecovery:
    return OrphanRecovery(ended.context, "7.0", "worker:0", 0, writes=True, may_live=False, goes_on=True)


def test_the_agent_of_the_writer_requeues_the_job(ended: EndedJob) -> None:
    agent(ended).continue_run(ended.said.append)
    assert ended.calls == ["scontrol requeue incomplete 7"]
    assert ended.said == ["the coordinator is gone; job 7 waits to be started again"]


def test_an_agent_in_a_container_without_slurms_commands_says_what_it_cannot_do(
    ended: EndedJob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(ended.context.environ, "PATH", str(tmp_path / "none"))
    orphan = agent(ended)
    orphan.begin(ended.said.append)
    orphan.continue_run(ended.said.append)
    assert ended.calls == []
    assert ended.said == [
        "the run does not go on by itself: this task's container has no scontrol, which would requeue the job; "
        f"to go on: slurm-tf resubmit {ended.context.run.name}"
    ]


def test_a_batch_script_that_is_found_killed_at_the_second_question(ended: EndedJob) -> None:
    ended.answer("squeue", 0, "COMPLETING N/A 9999999999 1 10:00 0 0")
    ended.answer("squeue-next", 0, "COMPLETING N/A 9999999999 1 10:00 0 9")
    agent(ended).continue_run(ended.said.append)
    assert ended.calls == ["scontrol requeue incomplete 7", "scontrol requeue 7"]
    assert ended.said == ["the coordinator is gone; job 7 waits to be started again"]


def test_a_job_that_is_cancelled_at_that_moment_stays_cancelled(ended: EndedJob) -> None:
    ended.answer("squeue", 0, "COMPLETING N/A 9999999999 1 10:00 0 0")
    agent(ended).continue_run(ended.said.append)
    assert ended.calls == ["scontrol requeue incomplete 7"]
    assert ended.said == ["the coordinator is gone; cancelled"]


def test_a_job_whose_coordinator_recorded_a_cancel_stays_cancelled_though_its_batch_script_was_killed(
    ended: EndedJob,
) -> None:
    ended.answer("squeue", 0, "COMPLETING N/A 9999999999 1 10:00 0 9")
    AttemptRecorder(ended.run, "7.0", "7", ended.said.append).decided(EndCause.CANCEL, "cancel: got SIGTERM")
    agent(ended).continue_run(ended.said.append)
    assert ended.calls == []
    assert ended.said == ["the run does not go on: cancel: got SIGTERM"]


def test_a_run_whose_end_was_recorded_is_over(ended: EndedJob) -> None:
    AttemptRecorder(ended.run, "7.0", "7", ended.said.append).ended(EndCause.NONE, 2, "worker:0 ended with exit code 2")
    agent(ended).continue_run(ended.said.append)
    assert ended.calls == []
    assert ended.said == ["the run does not go on: worker:0 ended with exit code 2"]


@pytest.mark.parametrize("cause", [EndCause.NONE, EndCause.PREEMPTION, EndCause.UNKNOWN])
def test_any_other_recorded_cause_lets_the_run_go_on(ended: EndedJob, cause: EndCause) -> None:
    ended.answer("squeue", 0, "COMPLETING N/A 9999999999 1 10:00 0 9")
    AttemptRecorder(ended.run, "7.0", "7", ended.said.append).decided(cause, "got SIGTERM")
    agent(ended).continue_run(ended.said.append)
    assert ended.calls == ["scontrol requeue 7"]


def test_attempts_that_cannot_be_read_let_the_run_go_on(ended: EndedJob) -> None:
    Path(ended.run.attempts).write_text("{")
    agent(ended).continue_run(ended.said.append)
    assert ended.calls == ["scontrol requeue incomplete 7"]
