"""Why a run ended, in the one line that status, list and the end of wait show."""

import os
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import click
import pytest

from slurm_tf.cli import run_end, tables
from slurm_tf.run import manifest, status
from slurm_tf.run.attempts import AttemptRecorder, EndCause
from slurm_tf.run.status import AttemptState, RunStatus, TaskState, TaskStatus
from slurm_tf.slurm import sacct
from slurm_tf.slurm.job_states import JobState
from slurm_tf.submit import setup_checks
from slurm_tf.watch import reasons, run_overview
from slurm_tf.watch.find_run import SelectedRun
from slurm_tf.watch.run_overview import RunOverview
from tests.watch.conftest import MakeRun, Slurm, record

STARTED = datetime(2026, 11, 27, 12).astimezone()
ENDED = STARTED + timedelta(minutes=10)


@pytest.fixture
def selected(make_run: MakeRun) -> SelectedRun:
    return make_run("a-1", ("7", (), False))


def end(slurm: Slurm, selected: SelectedRun, what: JobState, code: int = 0, **more: object) -> RunOverview:
    """Return what is known once Slurm says that job 7 has ended so."""
    values = {"exit_code": code, "signalled": code > 128, "nodes": "node[1-2]", "started": STARTED, "ended": ENDED}
    slurm.live = [record("7", what, **{**values, **more})]
    (point,) = run_overview.read_overviews(slurm, [selected])
    return point


def attempt(
    selected: SelectedRun, state: AttemptState, reason: str, cause: EndCause = EndCause.NONE, failed: str = ""
) -> None:
    """Write what a coordinator does about the newest attempt; without a reason it has not said how it ended."""
    made = AttemptRecorder(selected.run, "7.0", "7", print)
    made.committed(40)
    if reason:
        made.ended(cause, 1, reason)
    tasks = {"worker:1": TaskStatus(TaskState.ENDED, "node2", 0, 1)}
    status.write(selected.run, RunStatus("a-1", "7", 0, "node1", 0.0, state, 0, 1, reason, failed, None, tasks))


ERROR = "worker:1 on node2 ended with exit code 1: KeyError: 'rate' (train.py, line 3)"
FRUITLESS = "3 attempts in a row committed no new checkpoint; the last one: preemption: worker:0 got SIGTERM"


@pytest.mark.parametrize(
    ("what", "code", "said", "line"),
    [
        (JobState.FAILED, 1, ERROR, ERROR),
        (JobState.FAILED, 78, FRUITLESS, FRUITLESS),
        (JobState.TIMEOUT, 0, "", "its time limit of 10 minutes was reached before it had ended"),
        (JobState.NODE_FAIL, 0, "", "a node failed (node[1-2]), and the job was not requeued"),
        (JobState.PREEMPTED, 0, "", "preempted by a job of higher priority, and not requeued"),
        (JobState.DEADLINE, 0, "", "it could not end before its deadline"),
        (JobState.BOOT_FAIL, 0, "", "its nodes did not boot (node[1-2])"),
        (JobState.FAILED, 137, "", "its batch script was killed by SIGKILL (FAILED, ExitCode 0:9): by the kernel for "
         "its memory, or by hand"),
        (JobState.FAILED, 3, "", "it did not write how it ended (FAILED, ExitCode 3:0): its log has its last lines"),
        (JobState.CANCELLED, 0, "", "cancelled by scancel, or by Slurm"),
        (JobState.COMPLETED, 0, "", ""),
    ],
)  # fmt: skip
def test_how_it_ended(
    what: JobState,
    code: int,
    said: str,
    line: str,
    selected: SelectedRun,
    slurm: Slurm,
    capsys: pytest.CaptureFixture[str],
) -> None:
    attempt(selected, AttemptState.ENDED if said else AttemptState.RUNNING, said)
    point = end(slurm, selected, what, code)
    assert reasons.reason_words(point) == line
    assert (f"\nWhy         {line}\n" in tables.status([point])) == bool(line)
    assert tables.run_list([point]).rstrip().endswith(line)
    with click.Context(click.Command("slurm-tf")):
        run_end.print_end([point])
    assert (f"\n  why          {line}\n" in capsys.readouterr().err) == bool(line)


def test_a_reason_does_not_outlive_its_state(selected: SelectedRun, slurm: Slurm) -> None:
    """A run that waits after a preemption, and is cancelled then, was cancelled."""
    attempt(selected, AttemptState.REQUEUED, "preemption: worker:0 got SIGTERM; job 7 waits", EndCause.PREEMPTION)
    waits = end(slurm, selected, JobState.PENDING, reason="Priority")
    assert reasons.reason_words(waits) == ("jobs of higher priority come first; then it starts again after preemption")
    point = end(slurm, selected, JobState.CANCELLED)
    assert reasons.reason_words(point) == "cancelled by scancel, or by Slurm while it waited to go on after preemption"
    Path(selected.run.cancelled).touch()
    point = end(slurm, selected, JobState.CANCELLED)
    assert reasons.reason_words(point) == "cancelled with slurm-tf cancel while it waited to go on after preemption"
    # the next life of the job died without a word
    died = end(slurm, selected, JobState.FAILED, 137, restarts=1)
    assert reasons.reason_words(died).startswith("its batch script was killed by SIGKILL")
    # and one that ends by the cancel says so itself
    attempt(selected, AttemptState.ENDED, "cancel: the coordinator got SIGTERM", EndCause.CANCEL)
    point = end(slurm, selected, JobState.CANCELLED, 15)
    assert reasons.reason_words(point) == "cancel: the coordinator got SIGTERM"


def test_a_run_whose_tasks_train_alone_says_so(selected: SelectedRun, slurm: Slurm) -> None:
    attempt(selected, AttemptState.RUNNING, "")
    tasks = {
        "worker:0": TaskStatus(TaskState.RUNNING, joined=True),
        "worker:1": TaskStatus(TaskState.RUNNING, joined=False),
        "worker:2": TaskStatus(TaskState.RUNNING),
        "worker:3": TaskStatus(TaskState.ENDED, joined=False),
    }
    status.write(selected.run, RunStatus("a-1", "7", 0, "node1", 0.0, AttemptState.RUNNING, tasks=tasks))
    point = end(slurm, selected, JobState.RUNNING)
    line = "worker:1 has not joined the cluster: it trains alone"
    assert f"\nWhy         {line}\n" in tables.status([point])
    assert tables.run_list([point]).rstrip().endswith(line)


def test_one_that_is_cancelled_before_it_starts(selected: SelectedRun, slurm: Slurm) -> None:
    point = end(slurm, selected, JobState.CANCELLED, started=None)
    assert reasons.reason_words(point) == "cancelled by scancel, or by Slurm before it started"


def test_a_job_that_ran_out_of_memory(
    selected: SelectedRun, slurm: Slurm, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[Sequence[str]] = []

    def rows(*_: object, jobs: Sequence[str], **__: object) -> list[list[str]]:
        asked.append(jobs)
        return [["7", ""], ["7.batch", "3092K"], ["7.0", "1992294K"]]

    monkeypatch.setattr(sacct, "rows", rows)
    old = manifest.read(selected.run.manifest)
    manifest.write(selected.run.manifest, replace(old, job={"name": "a", "sbatch": {"mem": "2G"}}))
    attempt(selected, AttemptState.RUNNING, "")
    point = end(slurm, selected, JobState.OUT_OF_MEMORY, 0)
    assert asked == [["7"]]
    assert reasons.reason_words(point) == (
        "out of memory: it asked for --mem=2G, and 1946M of it was seen in use; ask for more, --mem=3G at first, or "
        "use a smaller batch"
    )
    with click.Context(click.Command("slurm-tf")):
        run_end.print_next([point])
    assert " submit job.toml --name a-1 --mem=MORE  # starts it again, with what it needs\n" in capsys.readouterr().err


def test_the_end_names_files_and_what_to_type_next(
    selected: SelectedRun, slurm: Slurm, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(selected.run.path).parents[1])
    attempt(selected, AttemptState.ENDED, ERROR, failed="worker:1")
    for folder in selected.run.folders:
        os.makedirs(folder, exist_ok=True)
    for path in (f"{selected.run.logs}/slurm-7.out", selected.run.log("worker", 1), f"{selected.run.exports}/m.keras"):
        Path(path).touch()
    point = end(slurm, selected, JobState.FAILED, 1)
    with click.Context(click.Command("slurm-tf"), info_name="python"):
        run_end.print_end([point])
    assert (
        capsys.readouterr().err
        == f"""\
Run a-1 ended: FAILED, exit code 1, after 00:10:00 (job 7)
  why          {ERROR}
  log          runs/a-1/logs/slurm-7.out
  task log     runs/a-1/logs/worker-1.log
  model        runs/a-1/export/m.keras
Next:
  python logs a-1 --role worker --index 1 --lines 50  # the last lines of the task that failed first
  python resubmit a-1                                 # starts it again, with the same code
"""
    )
    text = tables.status([point])
    assert f"\nLog         {selected.run.logs}/slurm-7.out\nTask log    {selected.run.log('worker', 1)}\n" in text


def test_the_end_of_a_sweep_names_the_points_that_failed(
    make_run: MakeRun, slurm: Slurm, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = make_run("s-1", ("7", (0, 1, 2), True))
    line = "exit code 1 of line 9 of the script: module load nosuch"
    Path(f"{sweep.run.logs}/slurm-7_1.out").write_text(f"{setup_checks.STOPPED}{line}\n")
    slurm.live = [
        record(f"7_{n}", JobState.FAILED if n else JobState.COMPLETED, exit_code=n, started=STARTED, ended=ENDED)
        for n in range(3)
    ]
    points = run_overview.read_overviews(slurm, [sweep])
    with click.Context(click.Command("slurm-tf"), info_name="python"):
        run_end.print_end(points)
    assert (
        capsys.readouterr().err
        == f"""\
Run s-1 ended: 1 of 3 points completed
  s-1/1  FAILED: the program does not start: {line}
  s-1/2  FAILED: it ended before it wrote anything to {sweep.run.logs}/slurm-7_2.out (FAILED, ExitCode 2:0)
Next:
  python status s-1/1           # one that failed
  python status s-1 --points    # each point
  python results s-1            # what the points have reported
  python resubmit s-1 --failed  # submits those that failed again, with the same code
"""
    )


def test_a_good_end(selected: SelectedRun, slurm: Slurm, capsys: pytest.CaptureFixture[str]) -> None:
    point = end(slurm, selected, JobState.COMPLETED)
    with click.Context(click.Command("slurm-tf"), info_name="python"):
        run_end.print_end([point])
    assert (
        capsys.readouterr().err
        == """\
Run a-1 ended: COMPLETED, exit code 0, after 00:10:00 (job 7)
Next:
  python efficiency 7  # what it asked for and what it used
"""
    )
