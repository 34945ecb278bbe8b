"""Failed attempts that are retried, and jobs that wait for the job which follows. Slurm's commands are fakes."""

import os

import pytest

from slurm_tf.launch.decide.restarts import Outcome, OutcomeCause
from slurm_tf.launch.job_context import JobContext
from slurm_tf.launch.requeue import continuation
from slurm_tf.run.settings import RetrySettings
from tests.launch.requeue.ended_job import PREEMPTED, EndedJob, preemption, quiet


@pytest.mark.parametrize(
    ("outcome", "step", "calls"),
    [
        (Outcome(0, ""), 5, []),
        (Outcome(1, "bad"), None, []),
        (Outcome(2, "usage"), 5, []),
        (Outcome(1, "bad"), 5, ["scontrol requeue incomplete 7", "scontrol update JobId=7 StartTime=now+600"]),
        (
            Outcome(1, "a node", OutcomeCause.TASK_LOST),
            None,
            ["scontrol requeue incomplete 7", "scontrol update JobId=7 StartTime=now+600"],
        ),
    ],
)
def test_a_failure_is_retried_by_exit_code_and_new_checkpoints(
    outcome: Outcome, step: int | None, calls: list[str], ended: EndedJob
) -> None:
    found = ended.conclude(outcome, quiet(), step)
    assert ended.calls == calls
    assert found == (Outcome(75, "") if calls else outcome)


def test_a_command_that_cannot_be_executed_is_not_retried(ended: EndedJob) -> None:
    outcome = Outcome(127, "worker:0 on n1: cannot start 'pyton'", OutcomeCause.CANNOT_START)
    assert ended.conclude(outcome, quiet(), step=7, retry=RetrySettings((), (127,), 2, 3, 600.0)) == outcome
    assert ended.calls == []


def test_a_retry_that_slurm_refuses_ends_the_run_with_its_exit_code(ended: EndedJob) -> None:
    ended.answer("scontrol-requeue", 1, "", "disabled")
    ended.answer("sbatch", 1, "", "limit")
    found = ended.conclude(Outcome(9, "bad"), quiet(), step=5)
    assert (found.code, found.reason) == (9, "bad; scontrol requeue: disabled; sbatch: limit")


def test_dependent_jobs_wait_for_the_job_that_follows(ended: EndedJob) -> None:
    ended.answer("scontrol-requeue", 1, "", "disabled")
    ended.answer("sbatch", 0, "8")
    rows = [
        "20|afterok:7(unfulfilled)|20_[1-3]",
        "21|afterok:6(unfulfilled)|21",
        "22|(null)|22",
        "8|afterany:7(unfulfilled)|8",
        "20|afterok:7(unfulfilled)|20_5",
        "30|afterany:7(unfulfilled)|30+0",
        "31|afterany:7(unfulfilled)|30+1",
    ]
    ended.answer("squeue-dependants", 0, "\n".join(rows))
    assert ended.conclude(PREEMPTED, preemption()) == Outcome(75, "")
    assert ended.calls[2:] == [
        "scontrol update JobId=20 Dependency=afterok:8",
        "scontrol update JobId=30 Dependency=afterany:8",
    ]
    words = [f"job {job} waits now for job 8, not for job 7" for job in (20, 30)]
    assert f"job 8 follows job 7; {'; '.join(words)}; it has told of no" in ended.said[-1]


def test_dependent_jobs_that_cannot_be_updated_are_reported(ended: EndedJob) -> None:
    environ = {**ended.environ, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    os.mkdir(ended.run.point(3).path)
    context = JobContext(ended.run.submission(1), 3, environ)
    ended.answer("scontrol-requeue", 1, "", "disabled")
    ended.answer("scontrol-update", 1, "", "Access/permission denied")
    ended.answer("sbatch", 0, "8")
    ended.answer("squeue-dependants", 0, "20|afterok:7_*(unfulfilled)|20\n21|afterok:7_3(unfulfilled)|21")
    assert continuation.arrange(context, None, 0.0, lambda: False).description == (
        "job 8_3 follows job 7_3; job 20 waits for all of array 7, and not for job 8_3; "
        "job 21 should wait (Access/permission denied) for job 8_3, not for job 7_3"
    )
    ended.answer("squeue-dependants", 1, "", "away")
    words = continuation.arrange(context, None, 0.0, lambda: False).description
    assert words.endswith("; jobs that wait for job 7_3 may not wait for job 8_3: away")
