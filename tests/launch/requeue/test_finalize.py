"""How an attempt ends: the job is requeued, another job follows it, or the run is over. Slurm's commands are fakes."""

import dataclasses
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.errors import LeaseError
from slurm_tf.launch.coordinator import startup
from slurm_tf.launch.decide.restarts import Outcome, OutcomeCause
from slurm_tf.launch.decide.termination import Termination, TerminationAction
from slurm_tf.launch.job_context import JobContext
from slurm_tf.launch.nodes.exclusion import Exclusion
from slurm_tf.launch.requeue import continuation, finalize
from slurm_tf.launch.requeue.finalize import Finalizer
from slurm_tf.launch.transport.signal_pipe import SignalPipe
from slurm_tf.run import attempts, job_chain, lease
from slurm_tf.run.attempts import AttemptRecorder, EndCause
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.lease import Lease
from slurm_tf.run.serve_settings import ServeSettings
from slurm_tf.run.settings import RetrySettings, write_settings
from slurm_tf.run.status import AttemptState
from slurm_tf.slurm.in_job import JobStatus
from tests.launch.conftest import DEFAULTS

SETTINGS = dataclasses.replace(DEFAULTS, local=False, retry=RetrySettings((2,), (75,), 2, 3, 600.0))
PREEMPTED = Outcome(75, "preemption: worker:0 got SIGTERM", OutcomeCause.TERMINATION)
AGAIN = ["scontrol requeue incomplete 7", "scontrol update JobId=7 StartTime=now+600"]
# Appends its arguments to the file `calls`; answers as the file of its name and first argument says: exit code, output,
# error text. A requeue gives the job one restart more, unless it is COMPLETING; squeue-next is what squeue says then.
COMMAND = """#!/bin/sh
name=$(basename "$0")
echo "$name $*" >> "$KEPT/calls"
answer="$KEPT/$name"
case "$name $*" in
scontrol*) answer="$answer-$1";;
*--format=%x*) answer="$answer-excluded";;
*--format=%F*) answer="$answer-dependants";;
*--test-only*) answer="$answer-trial";;
esac
[ "$answer" = "$KEPT/scontrol-requeue" ] && [ ! -e "$answer" ] && {
    grep -q COMPLETING "$KEPT/squeue" && [ "$2" = incomplete ] || sed -i 's/ 0 \\([09]\\)$/ 1 \\1/' "$KEPT/squeue"
    [ ! -e "$KEPT/squeue-next" ] || mv "$KEPT/squeue-next" "$KEPT/squeue"
}
[ -e "$answer" ] || exit 0
{ read -r code; read -r errors; output=$(cat); } < "$answer"
[ -z "$output" ] || printf "%s\n" "$output"
[ -z "$errors" ] || echo "$errors" >&2
[ ! -e "$answer-once" ] || rm "$answer" "$answer-once"
exit "$code"
"""


class Pipe(SignalPipe):
    """Signals that a test sends: the first read returns them, later ones return none."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = set(numbers)

    def read(self) -> set[int]:
        came, self.numbers = self.numbers, set()
        return came


class EndedJob:
    """Job 7 of a run, whose programs have ended, with fakes of Slurm's commands."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(continuation, "_PAUSE_SECONDS", 0.0)
        monkeypatch.setattr(finalize, "_END_SECONDS", 0.0)
        self.said = list[str]()
        self.bad = dict[str, str]()
        for name in ("squeue", "scontrol", "sbatch", "scancel", "sinfo"):
            (folder / name).write_text(COMMAND)
            (folder / name).chmod(0o755)
        self.kept = folder / "kept"
        self.kept.mkdir()
        self.environ = {"PATH": f"{folder}:{os.environ['PATH']}", "KEPT": str(self.kept), "SLURM_JOB_ID": "7"}
        self.run = RunFolder(str(folder / "run"))
        os.makedirs(self.run.logs)
        self.hold("7.0")
        job_chain.add(self.run, "7", "", (), array=False, submission=1)
        self.context = JobContext(self.run.submission(1), None, self.environ)
        self.shown: list[AttemptState] = []
        self.pipe = Pipe()
        self.answer("squeue", 0, "RUNNING N/A 9999999999 1 10:00 0 0")

    def hold(self, attempt: str) -> None:
        lease.write(self.run, Lease(attempt, "7", "node1", "1-1", 0.0))

    def answer(self, command: str, code: int, output: str = "", errors: str = "", once: bool = False) -> None:
        (self.kept / command).write_text(f"{code}\n{errors}\n{output}\n")
        if once:
            (self.kept / f"{command}-once").touch()

    @property
    def calls(self) -> list[str]:
        """Calls of Slurm's commands that change something."""
        lines = (self.kept / "calls").read_text().splitlines() if (self.kept / "calls").exists() else []
        return [line for line in lines if not line.startswith(("squeue", "sinfo"))]

    def conclude(
        self,
        outcome: Outcome,
        termination: Termination,
        step: int | None = None,
        name: str = "7.0",
        only_stages: bool = False,
        **changes: Any,
    ) -> Outcome:
        settings = dataclasses.replace(SETTINGS, **changes)
        self.record = AttemptRecorder(self.run, name, "7", self.said.append)
        if only_stages:
            self.record.only_stages()
        if step is not None:
            self.record.committed(step)
        self.exclusion = Exclusion(self.context, self.said.append)
        for node, reason in self.bad.items():
            self.exclusion.is_bad(node, reason)
        return Finalizer(self.context, settings, self.record, self.pipe, self.exclusion, self.said.append).conclude(
            outcome, termination, lambda _, state: self.shown.append(state)
        )

    @property
    def states(self) -> tuple[str, str]:
        """Cause in attempts.json, and the state that `status` shows."""
        return self.record.attempt.cause, (self.shown or [AttemptState.REGISTERING])[-1].value


@pytest.fixture
def ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EndedJob:
    return EndedJob(tmp_path, monkeypatch)


def preemption(left: float = 30.0) -> Termination:
    made = Termination(SETTINGS)
    made.started("worker:0")
    made.listening("worker:0", True, 0.0)
    made.signal(signal.SIGTERM, "worker:0", False, time.monotonic())
    made.due(time.monotonic())
    made.learn(JobStatus("RUNNING", preempted=True), left, time.monotonic())
    return made


def quiet() -> Termination:
    return Termination(SETTINGS)


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


def cancel(_: EndedJob, termination: Termination) -> None:
    termination.signal(signal.SIGTERM, "the coordinator", True, time.monotonic())


def mark(ended: EndedJob, _: Termination) -> None:
    Path(ended.run.cancelled).touch()


def signal_late(ended: EndedJob, _: Termination) -> None:
    ended.pipe.numbers = {signal.SIGTERM}


def ends_early(ended: EndedJob, _: Termination) -> None:
    ended.answer("squeue", 0, f"COMPLETING {int(time.time())} {int(time.time())} 1 10:00 0 0")


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
