"""What becomes of a run at its job's end: put back, followed, or over; of Slurm there are the commands alone."""

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
from slurm_tf.launch.decide.termination import Termination
from slurm_tf.launch.job_context import JobContext
from slurm_tf.launch.nodes.exclusion import Exclusion
from slurm_tf.launch.requeue import continuation, finalize
from slurm_tf.launch.requeue.finalize import Finalizer
from slurm_tf.launch.transport.signal_pipe import SignalPipe
from slurm_tf.run import attempts, job_chain, lease
from slurm_tf.run.attempts import AttemptRecorder, EndCause
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.lease import Lease
from slurm_tf.run.settings import RetrySettings, write_settings
from slurm_tf.run.status import AttemptState
from slurm_tf.slurm.in_job import JobStatus
from tests.launch.conftest import DEFAULTS

SETTINGS = dataclasses.replace(DEFAULTS, local=False, retry=RetrySettings((2,), (75,), 2, 3, 600.0))
PREEMPTED = Outcome(75, "preemption: worker:0 got SIGTERM", OutcomeCause.TERMINATION)
AGAIN = ["scontrol requeue incomplete 7", "scontrol update JobId=7 StartTime=now+600"]
# Keeps its arguments; answers as the file of its name and first argument says: exit code, output, error text. Put back
# into the queue, unless it is incomplete no more, the job has one restart more; squeue-next is what squeue says then.
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
    """Signals that a test sends: the first read takes them."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = set(numbers)

    def read(self) -> set[int]:
        came, self.numbers = self.numbers, set()
        return came


class Bench:
    """A run whose job has come to its end."""

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
        self.place = JobContext(self.run.submission(1), None, self.environ)
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
        """All that Slurm was asked for, but for what it knows."""
        lines = (self.kept / "calls").read_text().splitlines() if (self.kept / "calls").exists() else []
        return [line for line in lines if not line.startswith(("squeue", "sinfo"))]

    def conclude(self, outcome: Outcome, interruption: Termination, own: int | None = None, **changes: Any) -> Outcome:
        settings = dataclasses.replace(SETTINGS, **changes)
        self.record = AttemptRecorder(self.run, "7.0", "7", self.said.append)
        if own is not None:
            self.record.committed(own)
        self.exclusion = Exclusion(self.place, self.said.append)
        for node, reason in self.bad.items():
            self.exclusion.is_bad(node, reason)
        return Finalizer(self.place, settings, self.record, self.pipe, self.exclusion, self.said.append).conclude(
            outcome, interruption, lambda _, state: self.shown.append(state)
        )

    @property
    def states(self) -> tuple[str, str]:
        """What is written: the attempt's cause, and the state that `status` shows."""
        return self.record.own.cause, (self.shown or [AttemptState.REGISTERING])[-1].value


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def preemption(left: float = 30.0) -> Termination:
    made = Termination(SETTINGS)
    made.started("worker:0")
    made.hello("worker:0", True, 0.0)
    made.signal(signal.SIGTERM, "worker:0", False, time.monotonic())
    made.due(time.monotonic())
    made.learn(JobStatus("RUNNING", preempted=True), left, time.monotonic())
    return made


def quiet() -> Termination:
    return Termination(SETTINGS)


def test_what_is_preempted_puts_itself_back(bench: Bench) -> None:
    assert bench.conclude(PREEMPTED, preemption()) == Outcome(75, "")
    assert bench.calls == ["scontrol requeue incomplete 7"]
    assert bench.states == ("preemption", "requeued")
    assert bench.said == ["preemption: worker:0 got SIGTERM; job 7 waits to be started again"]


def test_slurm_has_put_it_back_already(bench: Bench) -> None:
    bench.answer("squeue", 0, "PENDING N/A 9999999999 1 10:00 1 0")
    bench.answer("scontrol-requeue", 1, "", "Job is pending execution for job 7")
    assert bench.conclude(PREEMPTED, preemption()) == Outcome(75, "")
    assert bench.calls == ["scontrol requeue incomplete 7"]


def test_another_job_follows_where_it_cannot_be_put_back(bench: Bench) -> None:
    bench.answer("scontrol-requeue", 1, "", "Requested operation is presently disabled for job 7")
    bench.answer("sbatch", 0, "8;main")
    assert bench.conclude(PREEMPTED, preemption()) == Outcome(75, "")
    output, script = f"{bench.run.logs}/slurm-7.out", bench.place.submission.script
    assert bench.calls[1] == f"sbatch --parsable --output={output} --dependency=afterany:7 {script}"
    assert job_chain.chains(bench.run) == {None: ("7", "8")}
    assert job_chain.read(bench.run)[1].cluster == "main"
    # and the one that follows that
    later = JobContext(bench.run.submission(1), None, {**bench.environ, "SLURM_JOB_ID": "8"})
    assert later.line == ["7", "8"]
    bench.answer("sbatch", 0, "9")
    assert continuation.arrange(later, None, 0.0, lambda: False).is_arranged
    assert bench.calls[-1].startswith(f"sbatch --parsable --output={bench.run.logs}/slurm-7.out ")
    assert job_chain.chains(bench.run) == {None: ("7", "8", "9")}


@pytest.mark.parametrize("array", [True, False])
def test_another_job_follows_for_a_point_alone(array: bool, bench: Bench) -> None:
    if array:
        job_chain.add(bench.run, "7", "", (2, 3), array=True, submission=1)
    else:
        for job, point in (("6", 2), ("7", 3)):
            job_chain.add(bench.run, job, "", (point,), array=False, submission=1)
    environ = {**bench.environ, **({"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"} if array else {})}
    os.mkdir(bench.run.point(3).path)
    bench.answer("scontrol-requeue", 1, "", "no")
    bench.answer("sbatch", 0, "8")
    assert continuation.arrange(JobContext(bench.run.submission(1), 3, environ), None, 0.0, lambda: False).is_arranged
    newest = job_chain.newest(bench.run)
    assert (newest[2], newest[3]) == (("7_2", "8_3") if array else ("6", "8"))
    last = bench.calls[-1].split()[-2:]
    assert last == (["--array=3", bench.run.submission(1).script] if array else [bench.run.submission(1).script, "3"])
    assert f"--output={bench.run.logs}/slurm-{'7_3' if array else '7'}.out" in bench.calls[-1]
    # a new submission of it is a new line
    job_chain.add(bench.run, "20", "", (3,), array, submission=1)
    assert job_chain.newest(bench.run)[3] == ("20_3" if array else "20")


def test_where_nothing_can_be_done_both_reasons_are_told(bench: Bench) -> None:
    bench.answer("scontrol-requeue", 1, "", "disabled")
    bench.answer("sbatch", 1, "", "sbatch: error: QOSMaxSubmitJobPerUserLimit")
    found = bench.conclude(PREEMPTED, preemption())
    assert found.code == 75
    assert found.reason.endswith("; scontrol requeue: disabled; sbatch: sbatch: error: QOSMaxSubmitJobPerUserLimit")
    assert bench.states == ("preemption", "waits for Slurm")


def test_a_slurmctld_that_comes_back_is_asked_again(bench: Bench) -> None:
    bench.answer("scontrol-requeue", 1, "", "Unable to contact slurm controller", once=True)
    bench.answer("sbatch", 1, "", "Unable to contact slurm controller", once=True)
    assert bench.conclude(PREEMPTED, preemption()) == Outcome(75, "")
    assert [call.split()[0] for call in bench.calls] == ["scontrol", "sbatch", "scontrol"]


def cancel(_: Bench, interruption: Termination) -> None:
    interruption.signal(signal.SIGTERM, "the coordinator", True, time.monotonic())


def mark(bench: Bench, _: Termination) -> None:
    Path(bench.run.cancelled).touch()


def signal_late(bench: Bench, _: Termination) -> None:
    bench.pipe.numbers = {signal.SIGTERM}


def ends_early(bench: Bench, _: Termination) -> None:
    bench.answer("squeue", 0, f"COMPLETING {int(time.time())} {int(time.time())} 1 10:00 0 0")


@pytest.mark.parametrize("how", [cancel, mark, signal_late, ends_early])
@pytest.mark.parametrize(
    "outcome", [PREEMPTED, Outcome(1, "lost", OutcomeCause.TASK_LOST), Outcome(75, "a task did not come")]
)
def test_what_is_cancelled_is_never_put_back(
    how: Callable[[Bench, Termination], None], outcome: Outcome, bench: Bench
) -> None:
    interruption = preemption() if outcome is PREEMPTED else quiet()
    how(bench, interruption)
    found = bench.conclude(outcome, interruption)
    # asked at the very moment, slurmctld does nothing to a job that is being ended
    assert bench.calls == (["scontrol requeue incomplete 7"] if how is ends_early else [])
    assert found.code == outcome.code
    assert not Path(bench.run.status).exists() or bench.states[1] != "requeued"


@pytest.mark.parametrize(
    "outcome", [PREEMPTED, Outcome(1, "another attempt has taken over"), Outcome(1, "lost", OutcomeCause.TASK_LOST)]
)
def test_a_job_that_runs_again_elsewhere_is_not_put_back(outcome: Outcome, bench: Bench) -> None:
    bench.hold("7.1")
    found = bench.conclude(outcome, preemption() if outcome is PREEMPTED else quiet(), own=3)
    assert bench.calls == []
    assert (found.code, bench.record.own.cause) == (outcome.code, "")
    assert "being run by attempt 7.1 on node1" in found.reason


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_at_its_end_slurms_own_sigterm_is_no_cancel(number: int, bench: Bench) -> None:
    bench.pipe.numbers = {number}
    ends_early(bench, quiet())
    found = bench.conclude(PREEMPTED, preemption(left=0.0))
    assert (found.reason == "") == (number == signal.SIGTERM)
    assert bench.calls == (["scontrol requeue 7"] if number == signal.SIGTERM else [])


def test_nothing_goes_on_where_it_is_not_to(bench: Bench) -> None:
    assert bench.conclude(PREEMPTED, preemption(), goes_on=False) == PREEMPTED
    assert bench.calls == []
    assert bench.record.own.cause == ""


def test_what_nobody_explained_waits_for_slurm(bench: Bench) -> None:
    interruption = Termination(SETTINGS)
    interruption.signal(signal.SIGTERM, "the coordinator", True, 0.0)
    interruption.learn(JobStatus("", problem="away"), None, 1.0)
    outcome = Outcome(143, "unknown", OutcomeCause.TERMINATION)
    assert bench.conclude(outcome, interruption) == outcome
    assert bench.calls == []
    assert bench.states == ("unknown", "waits for Slurm")


def test_at_its_time_limit_a_program_that_saves_nothing_is_over(bench: Bench) -> None:
    interruption = Termination(SETTINGS)
    interruption.started("worker:0")
    interruption.signal(signal.SIGTERM, "the coordinator", True, 0.0)
    interruption.due(0.0)
    interruption.learn(JobStatus("COMPLETING"), 0.0, 0.1)
    outcome = Outcome(75, "timeout", OutcomeCause.TERMINATION)
    assert bench.conclude(outcome, interruption) == outcome
    assert bench.calls == []


@pytest.mark.parametrize(
    ("outcome", "own", "calls"),
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
def test_a_bad_end_is_retried_where_that_is_worth_it(
    outcome: Outcome, own: int | None, calls: list[str], bench: Bench
) -> None:
    found = bench.conclude(outcome, quiet(), own)
    assert bench.calls == calls
    assert found == (Outcome(75, "") if calls else outcome)


def test_a_command_that_cannot_be_executed_is_not_tried_again(bench: Bench) -> None:
    outcome = Outcome(127, "worker:0 on n1: cannot start 'pyton'", OutcomeCause.CANNOT_START)
    assert bench.conclude(outcome, quiet(), own=7, retry=RetrySettings((), (127,), 2, 3, 600.0)) == outcome
    assert bench.calls == []


def test_a_retry_that_slurm_does_not_take_ends_as_it_would(bench: Bench) -> None:
    bench.answer("scontrol-requeue", 1, "", "disabled")
    bench.answer("sbatch", 1, "", "limit")
    found = bench.conclude(Outcome(9, "bad"), quiet(), own=5)
    assert (found.code, found.reason) == (9, "bad; scontrol requeue: disabled; sbatch: limit")


def test_jobs_that_wait_for_it_wait_for_the_one_that_follows(bench: Bench) -> None:
    bench.answer("scontrol-requeue", 1, "", "disabled")
    bench.answer("sbatch", 0, "8")
    rows = [
        "20|afterok:7(unfulfilled)|20_[1-3]",
        "21|afterok:6(unfulfilled)|21",
        "22|(null)|22",
        "8|afterany:7(unfulfilled)|8",
        "20|afterok:7(unfulfilled)|20_5",
        "30|afterany:7(unfulfilled)|30+0",
        "31|afterany:7(unfulfilled)|30+1",
    ]
    bench.answer("squeue-dependants", 0, "\n".join(rows))
    assert bench.conclude(PREEMPTED, preemption()) == Outcome(75, "")
    assert bench.calls[2:] == [
        "scontrol update JobId=20 Dependency=afterok:8",
        "scontrol update JobId=30 Dependency=afterany:8",
    ]
    words = [f"job {job} waits now for job 8, not for job 7" for job in (20, 30)]
    assert bench.said[-1].endswith(f"job 8 follows job 7; {'; '.join(words)}")


def test_jobs_that_cannot_be_moved_are_told(bench: Bench) -> None:
    environ = {**bench.environ, "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
    os.mkdir(bench.run.point(3).path)
    place = JobContext(bench.run.submission(1), 3, environ)
    bench.answer("scontrol-requeue", 1, "", "disabled")
    bench.answer("scontrol-update", 1, "", "Access/permission denied")
    bench.answer("sbatch", 0, "8")
    bench.answer("squeue-dependants", 0, "20|afterok:7_*(unfulfilled)|20\n21|afterok:7_3(unfulfilled)|21")
    assert continuation.arrange(place, None, 0.0, lambda: False).words == (
        "job 8_3 follows job 7_3; job 20 waits for all of array 7, and not for job 8_3; "
        "job 21 should wait (Access/permission denied) for job 8_3, not for job 7_3"
    )
    bench.answer("squeue-dependants", 1, "", "away")
    words = continuation.arrange(place, None, 0.0, lambda: False).words
    assert words.endswith("; jobs that wait for job 7_3 may not wait for job 8_3: away")


def test_the_third_attempt_in_vain_is_the_last(bench: Bench) -> None:
    for name in ("6.0", "6.1"):
        bench.hold(name)
        row = AttemptRecorder(bench.run, name, "7", bench.said.append)
        row.tells_of_checkpoints()
        row.ended(EndCause.PREEMPTION, 75, "preempted")
    bench.hold("7.0")
    found = bench.conclude(PREEMPTED, preemption())
    assert found.code == 78
    assert "3 attempts in a row committed no new checkpoint; the last one: preemption: " in found.reason
    assert bench.calls == []
    # whoever submits it once more begins anew
    assert attempts.fruitless(attempts.read(bench.run), {"7"}) == 0


def test_a_run_that_nobody_can_take_yet_is_tried_later(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("slurm_tf.launch.requeue.lease_holder._ANSWER_SECONDS", 0.0)
    submission = bench.run.submission(1)
    os.mkdir(submission.path)
    write_settings(submission, SETTINGS)
    lease.write(bench.run, Lease("3.0", "3", "n", "1-1", 0.0))
    bench.answer("squeue", 1, "", "Unable to contact slurm controller")
    place, settings = startup.open_run(submission.path, None, bench.environ)
    with pytest.raises(LeaseError, match="job 7 waits to be started again, in 600 s"):
        startup.take(place, settings, False, bench.said.append)
    assert bench.calls[0] == "scontrol requeue incomplete 7"
