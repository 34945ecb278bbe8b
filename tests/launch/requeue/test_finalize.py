"""How an attempt ends: the job is requeued, another job follows it, or the run is over. Slurm's commands are fakes."""

import dataclasses
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import LeaseError
from slurm_tf.launch.coordinator import startup
from slurm_tf.launch.decide.restarts import Outcome, OutcomeCause
from slurm_tf.launch.decide.termination import Termination, TerminationAction
from slurm_tf.launch.job_context import JobContext
from slurm_tf.launch.requeue import continuation
from slurm_tf.run import attempts, job_chain, lease
from slurm_tf.run.attempts import AttemptRecorder, EndCause
from slurm_tf.run.lease import Lease
from slurm_tf.run.serve_settings import ServeSettings
from slurm_tf.run.settings import write_settings
from slurm_tf.slurm.in_job import JobStatus
from tests.launch.requeue.ended_job import (
    PREEMPTED,
    SETTINGS,
    EndedJob,
    cancel,
    ends_early,
    mark,
    preemption,
    quiet,
    signal_late,
)


def test_a_preempted_job_is_requeued(ended: EndedJob) -> None:
    assert ended.conclude(PREEMPTED, preemption()) == Outcome(75, "")
    assert ended.calls == ["scontrol requeue incomplete 7"]
    assert ended.states == ("preemption", "requeued")
    assert ended.said == [
        "preemption: worker:0 got SIGTERM; job 7 waits to be started again; it has told of no checkpoint: unless the "
        "program saves by itself, it starts over"
    ]


def test_only_a_program_of_which_nothing_is_saved_is_said_to_start_over(ended: EndedJob) -> None:
    ended.conclude(PREEMPTED, preemption(), step=3)
    ended.conclude(PREEMPTED, preemption(), checkpoint_signal="USR1")
    assert ended.said == ["preemption: worker:0 got SIGTERM; job 7 waits to be started again"] * 2


def test_a_job_that_slurm_has_requeued_by_itself_is_not_requeued_again(ended: EndedJob) -> None:
    ended.answer("squeue", 0, "PENDING N/A 9999999999 1 10:00 1 0")
    ended.answer("scontrol-requeue", 1, "", "Job is pending execution for job 7")
    assert ended.conclude(PREEMPTED, preemption()) == Outcome(75, "")
    assert ended.calls == ["scontrol requeue incomplete 7"]


def test_another_job_follows_where_a_requeue_is_refused(ended: EndedJob) -> None:
    ended.answer("scontrol-requeue", 1, "", "Requested operation is presently disabled for job 7")
    ended.answer("sbatch", 0, "8;main")
    assert ended.conclude(PREEMPTED, preemption()) == Outcome(75, "")
    output, script = f"{ended.run.logs}/slurm-7.out", ended.context.submission.script
    assert ended.calls[1] == f"sbatch --parsable --output={output} --dependency=afterany:7 {script}"
    assert job_chain.chains(ended.run) == {None: ("7", "8")}
    assert job_chain.read(ended.run)[1].cluster == "main"
    # and the one that follows that
    later = JobContext(ended.run.submission(1), None, {**ended.environ, "SLURM_JOB_ID": "8"})
    assert later.line == ["7", "8"]
    ended.answer("sbatch", 0, "9")
    assert continuation.arrange(later, None, 0.0, lambda: False).is_arranged
    assert ended.calls[-1].startswith(f"sbatch --parsable --output={ended.run.logs}/slurm-7.out ")
    assert job_chain.chains(ended.run) == {None: ("7", "8", "9")}


@pytest.mark.parametrize("array", [True, False])
def test_another_job_follows_for_a_point_alone(array: bool, ended: EndedJob) -> None:
    if array:
        job_chain.add(ended.run, "7", "", (2, 3), array=True, submission=1)
    else:
        for job, point in (("6", 2), ("7", 3)):
            job_chain.add(ended.run, job, "", (point,), array=False, submission=1)
    environ = {**ended.environ, **({"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"} if array else {})}
    os.mkdir(ended.run.point(3).path)
    ended.answer("scontrol-requeue", 1, "", "no")
    ended.answer("sbatch", 0, "8")
    assert continuation.arrange(JobContext(ended.run.submission(1), 3, environ), None, 0.0, lambda: False).is_arranged
    newest = job_chain.newest(ended.run)
    assert (newest[2], newest[3]) == (("7_2", "8_3") if array else ("6", "8"))
    last = ended.calls[-1].split()[-2:]
    assert last == (["--array=3", ended.run.submission(1).script] if array else [ended.run.submission(1).script, "3"])
    assert f"--output={ended.run.logs}/slurm-{'7_3' if array else '7'}.out" in ended.calls[-1]
    # a new submission of it is a new line
    job_chain.add(ended.run, "20", "", (3,), array, submission=1)
    assert job_chain.newest(ended.run)[3] == ("20_3" if array else "20")


def test_where_requeue_and_sbatch_fail_both_errors_are_reported(ended: EndedJob) -> None:
    ended.answer("scontrol-requeue", 1, "", "disabled")
    ended.answer("sbatch", 1, "", "sbatch: error: QOSMaxSubmitJobPerUserLimit")
    found = ended.conclude(PREEMPTED, preemption())
    assert found.code == 75
    assert found.reason.endswith("; scontrol requeue: disabled; sbatch: sbatch: error: QOSMaxSubmitJobPerUserLimit")
    assert ended.states == ("preemption", "waits for Slurm")


def test_a_slurmctld_that_did_not_answer_is_asked_again(ended: EndedJob) -> None:
    ended.answer("scontrol-requeue", 1, "", "Unable to contact slurm controller", once=True)
    ended.answer("sbatch", 1, "", "Unable to contact slurm controller", once=True)
    assert ended.conclude(PREEMPTED, preemption()) == Outcome(75, "")
    assert [call.split()[0] for call in ended.calls] == ["scontrol", "sbatch", "scontrol"]


@pytest.mark.parametrize("how", [cancel, mark, signal_late, ends_early])
@pytest.mark.parametrize(
    "outcome", [PREEMPTED, Outcome(1, "lost", OutcomeCause.TASK_LOST), Outcome(75, "a task did not come")]
)
def test_a_cancelled_job_is_never_requeued(
    how: Callable[[EndedJob, Termination], None], outcome: Outcome, ended: EndedJob
) -> None:
    termination = preemption() if outcome is PREEMPTED else quiet()
    how(ended, termination)
    found = ended.conclude(outcome, termination)
    # `requeue incomplete` does nothing to a job that is COMPLETING
    assert ended.calls == (["scontrol requeue incomplete 7"] if how is ends_early else [])
    assert found.code == outcome.code
    assert not Path(ended.run.status).exists() or ended.states[1] != "requeued"


@pytest.mark.parametrize(
    "outcome", [PREEMPTED, Outcome(1, "another attempt has taken over"), Outcome(1, "lost", OutcomeCause.TASK_LOST)]
)
def test_a_job_that_runs_again_elsewhere_is_not_requeued(outcome: Outcome, ended: EndedJob) -> None:
    ended.hold("7.1")
    found = ended.conclude(outcome, preemption() if outcome is PREEMPTED else quiet(), step=3)
    assert ended.calls == []
    assert (found.code, ended.record.attempt.may_go_on) == (outcome.code, False)
    assert "being run by attempt 7.1 on node1" in found.reason


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_sigterm_at_the_time_limit_is_no_cancel(number: int, ended: EndedJob) -> None:
    ended.pipe.numbers = {number}
    ends_early(ended, quiet())
    found = ended.conclude(PREEMPTED, preemption(left=0.0))
    assert (found.reason == "") == (number == signal.SIGTERM)
    assert ended.calls == (["scontrol requeue 7"] if number == signal.SIGTERM else [])


def test_a_run_with_no_requeue_ends(ended: EndedJob) -> None:
    no_requeue = "the run does not go on, as it was submitted with no-requeue"
    lost = Outcome(1, "a node", OutcomeCause.TASK_LOST)
    assert ended.conclude(lost, quiet(), goes_on=False).reason == f"a node; {no_requeue}"
    failed = Outcome(3, "worker:0 ended with exit code 3", OutcomeCause.PROGRAM)
    assert ended.conclude(failed, quiet(), goes_on=False) == failed, "it would not have gone on with requeue either"
    reason = f"{PREEMPTED.reason}; {no_requeue}"
    assert ended.conclude(PREEMPTED, preemption(), goes_on=False) == dataclasses.replace(PREEMPTED, reason=reason)
    assert ended.calls == []
    assert (ended.record.attempt.cause, ended.record.attempt.may_go_on) == (EndCause.PREEMPTION, False)


def test_a_service_goes_on_in_its_next_job(ended: EndedJob) -> None:
    serve = ServeSettings({"digits": "/models/digits"}, "/runs/digits-1")
    found = ended.conclude(PREEMPTED, preemption(), goes_on=False, serve=serve)
    assert found.reason == f"{PREEMPTED.reason}; the next job of the service takes over"
    assert ended.calls == []


def test_a_signal_of_unknown_cause_waits_for_slurm(ended: EndedJob) -> None:
    termination = Termination(SETTINGS)
    termination.signal(signal.SIGTERM, "the coordinator", True, 0.0)
    termination.learn(JobStatus("", problem="away"), None, 1.0)
    outcome = Outcome(143, "unknown", OutcomeCause.TERMINATION)
    assert ended.conclude(outcome, termination) == outcome
    assert ended.calls == []
    assert ended.states == ("unknown", "waits for Slurm")


def test_a_program_that_saves_nothing_ends_at_the_time_limit(ended: EndedJob) -> None:
    termination = Termination(SETTINGS)
    termination.started("worker:0")
    termination.signal(signal.SIGTERM, "the coordinator", True, 0.0)
    termination.due(0.0)
    termination.learn(JobStatus("COMPLETING"), 0.0, 0.1)
    outcome = Outcome(75, "timeout", OutcomeCause.TERMINATION)
    reason = "timeout; the run does not go on: it has told of no checkpoint, and would start over"
    assert ended.conclude(outcome, termination) == dataclasses.replace(outcome, reason=reason)
    assert ended.calls == []
    assert (ended.record.attempt.cause, ended.record.attempt.may_go_on) == (EndCause.TIMEOUT, False)


def test_a_time_limit_that_comes_while_files_are_staged_is_followed_by_another_attempt(ended: EndedJob) -> None:
    """Whether programs can save or not: none has started. The third one in a row ends the run."""
    for number, name in enumerate(("7.0", "7.1", "7.2")):
        ended.hold(name)
        termination = Termination(dataclasses.replace(SETTINGS, warning=("USR1", 120.0)))
        termination.is_staging = True
        termination.signal(signal.SIGUSR1, "the coordinator", True, 0.0)
        assert [termination.due(0.0) for _ in range(3)] == [TerminationAction.SAVE, TerminationAction.END, None]
        assert termination.reason == "timeout: the coordinator got SIGUSR1 while files were staged"
        outcome = Outcome(termination.code, termination.reason, OutcomeCause.TERMINATION)
        found = ended.conclude(outcome, termination, name=name, only_stages=True)
        if number < 2:
            assert found == Outcome(75, "")
            assert ended.said[-1] == f"{termination.reason}; job 7 waits to be started again"
            ended.answer("squeue", 0, "RUNNING N/A 9999999999 1 10:00 0 0")
    assert found.code == 78
    assert f"the last one: {outcome.reason}" in found.reason


def test_the_third_attempt_without_a_new_checkpoint_ends_the_run(ended: EndedJob) -> None:
    for name in ("6.0", "6.1"):
        ended.hold(name)
        row = AttemptRecorder(ended.run, name, "7", ended.said.append)
        row.tells_of_checkpoints()
        row.ended(EndCause.PREEMPTION, 75, "preempted")
    ended.hold("7.0")
    found = ended.conclude(PREEMPTED, preemption())
    assert found.code == 78
    assert "3 attempts in a row committed no new checkpoint; the last one: preemption: " in found.reason
    assert ended.calls == []
    # a new submission of the run counts from zero
    assert attempts.count_fruitless(attempts.read(ended.run), {"7"}) == 0


def test_a_job_whose_lease_slurm_does_not_confirm_is_requeued(ended: EndedJob, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm_tf.launch.requeue.lease_holder._ANSWER_SECONDS", 0.0)
    submission = ended.run.submission(1)
    os.mkdir(submission.path)
    write_settings(submission, SETTINGS)
    lease.write(ended.run, Lease("3.0", "3", "n", "1-1", 0.0))
    ended.answer("squeue", 1, "", "Unable to contact slurm controller")
    context, settings = startup.open_run(submission.path, None, ended.environ)
    with pytest.raises(LeaseError, match="job 7 waits to be started again, in 600 s"):
        startup.take(context, settings, False, ended.said.append)
    assert ended.calls[0] == "scontrol requeue incomplete 7"
