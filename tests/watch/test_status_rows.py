"""Attempts and bad nodes of a run, as status shows them."""

import os
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

from slurm_tf.cli import tables
from slurm_tf.run import bad_nodes, manifest, status
from slurm_tf.run.attempts import AttemptRecorder, EndCause
from slurm_tf.run.status import AttemptState, RunStatus, StagingStatus, TaskState, TaskStatus
from slurm_tf.slurm.job_states import JobState
from slurm_tf.submit import setup_checks
from slurm_tf.watch import reasons, run_overview, status_rows
from slurm_tf.watch.find_run import SelectedRun
from slurm_tf.watch.run_overview import RunOverview
from tests.watch.conftest import MakeRun, Slurm, record


@pytest.fixture
def selected(make_run: MakeRun) -> SelectedRun:
    """Return a run with three attempts, the last of which has not said how it ended."""
    found = make_run("a-1", ("7", (), False), ("8", (), False))
    first = AttemptRecorder(found.run, "7.0", "7", print)
    first.committed(100)
    first.committed(200)
    first.ended(EndCause.PREEMPTION, 75, "preemption: worker:0 got SIGTERM; job 7 waits to be started again\nand more")
    second = AttemptRecorder(found.run, "7.1", "7", print)
    second.committed(300)
    second.ended(EndCause.FAILURE, 9, "")
    AttemptRecorder(found.run, "8.0", "8", print)
    return found


def look(slurm: Slurm, selected: SelectedRun, what: JobState) -> RunOverview:
    slurm.live = [record("8", what)]
    (point,) = run_overview.read_overviews(slurm, [selected])
    return point


def rows(point: RunOverview) -> list[str]:
    """Return the table of attempts, a blank between cells."""
    lines = tables.status([point]).splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("ATTEMPT"))
    return [" ".join(line.split()) for line in lines[first + 1 :]]


def test_each_attempt_has_a_line(selected: SelectedRun, slurm: Slurm) -> None:
    point = look(slurm, selected, JobState.RUNNING)
    first, second, last = rows(point)
    assert first.startswith("7.0 ")
    assert first.endswith(" 100-200 preemption preemption: worker:0 got SIGTERM; job 7 waits to be started again")
    assert second.endswith(" s ago 00:00:00 300 failure exit code 9")
    assert last.endswith(" s ago - - -")
    known = status_rows.as_dict(point)["attempts"]
    assert [(row["id"], row["cause"], row["first"], row["last"]) for row in known] == [
        ("7.0", "preemption", 100, 200), ("7.1", "failure", 300, 300), ("8.0", "", None, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("what", "cause"),
    [
        (JobState.PENDING, "-"),
        (JobState.FAILED, "-"),
        (JobState.NODE_FAIL, "node failure"),
        (JobState.TIMEOUT, "timeout"),
        (JobState.CANCELLED, "cancel"),
    ],
)
def test_one_that_said_nothing_at_its_end_was_killed_and_slurm_says_why(
    what: JobState, cause: str, selected: SelectedRun, slurm: Slurm
) -> None:
    assert rows(look(slurm, selected, what))[-1].endswith(f" unknown - {cause} was killed, or its node died")


def test_of_a_program_that_tells_nothing_only_what_is_known_is_shown(make_run: MakeRun, slurm: Slurm) -> None:
    silent = make_run("silent-1", ("9", (), False))
    AttemptRecorder(silent.run, "9.0", "9", print)
    tasks = {"worker:0": TaskStatus(TaskState.RUNNING, "n1", 0)}
    status.write(silent.run, RunStatus("silent-1", "9", 0, "n1", 0.0, AttemptState.RUNNING, tasks=tasks))
    slurm.live = [record("9", nodes="n1")]
    points = run_overview.read_overviews(slurm, [silent])
    text = tables.status(points)
    assert "ROLE    REGISTERED  RUNNING  RESTARTS\nworker  1/1         1/1      0\n" in text
    assert "CHECKPOINTS" not in text
    assert not {"unknown", "Checkpoint", "STEP", "LOSS"} & set(text.split())
    assert tables.run_list(points).split()[:6] == ["RUN", "JOB", "STATE", "TIME", "NODES", "REASON"]


def test_how_far_the_nodes_copies_are(make_run: MakeRun, slurm: Slurm) -> None:
    stages = make_run("stages-1", ("9", (), False))
    staging = StagingStatus(bytes=3_435_973_837, wanted=8 << 30, nodes=2, all_nodes=4)
    now = RunStatus("stages-1", "9", 0, "n1", 0.0, AttemptState.STAGING, staging=staging, written=time.time())
    status.write(stages.run, now)
    slurm.live = [record("9", nodes="n[1-4]")]
    points = run_overview.read_overviews(slurm, [stages])
    assert " staging 3.2 GiB of 8.0 GiB, 2 of 4 nodes done, 0 restarts, as of " in tables.status(points)
    assert status_rows.as_dict(points[0])["staging"] == vars(staging)


def test_a_heterogeneous_job_that_waits_says_how_many_nodes_it_needs(make_run: MakeRun, slurm: Slurm) -> None:
    waits = make_run("het-1", ("9", (), False))
    words = "4 or more, as 3 components have nodes of their own"
    manifest.write(waits.run.manifest, replace(manifest.read(waits.run.manifest), nodes=words))
    slurm.live = [record(f"9+{number}", JobState.PENDING, reason="Resources") for number in range(3)]
    (point,) = run_overview.read_overviews(slurm, [waits])
    assert reasons.reason_words(point).endswith(f"; nodes: {words}")
    slurm.live = slurm.live[:1]
    (point,) = run_overview.read_overviews(slurm, [waits])
    assert "nodes:" not in reasons.reason_words(point)


@pytest.mark.parametrize(("what", "end"), [
    (JobState.RUNNING, " - - timeout timeout: worker:0 got SIGUSR1"),
    (JobState.TIMEOUT, " unknown - timeout timeout: worker:0 got SIGUSR1; was killed, or its node died"),
])  # fmt: skip
def test_a_cause_is_told_before_the_end_is_known(what: JobState, end: str, selected: SelectedRun, slurm: Slurm) -> None:
    AttemptRecorder(selected.run, "8.0", "8", print).decided(EndCause.TIMEOUT, "timeout: worker:0 got SIGUSR1")
    assert rows(look(slurm, selected, what))[-1].endswith(end)


def test_the_newest_are_shown(selected: SelectedRun, slurm: Slurm) -> None:
    for number in range(20):
        AttemptRecorder(selected.run, f"8.{number}", "8", print).ended(EndCause.TIMEOUT, 75, "limit")
    point = look(slurm, selected, JobState.RUNNING)
    assert [row.split()[0] for row in rows(point)] == [f"8.{number}" for number in range(10, 20)]
    assert len(status_rows.as_dict(point)["attempts"]) == 22


def test_bad_nodes_are_told_with_their_reason(selected: SelectedRun, slurm: Slurm) -> None:
    point = look(slurm, selected, JobState.RUNNING)
    assert status_rows.as_dict(point)["bad_nodes"] == {}
    assert "Bad node" not in tables.status([point])
    bad_nodes.remember(selected.run, {"n3": "draining: fan"})
    point = look(slurm, selected, JobState.RUNNING)
    found = status_rows.as_dict(point)["bad_nodes"]["n3"]
    assert found["reason"] == "draining: fan"
    assert abs(found["at"] - time.time()) < 60
    assert "\nBad node    n3  draining: fan, " in tables.status([point])


def test_what_cannot_be_read_is_unknown(selected: SelectedRun, slurm: Slurm) -> None:
    for path in (selected.run.attempts, selected.run.bad_nodes):
        Path(path).write_text("{")
    point = look(slurm, selected, JobState.RUNNING)
    assert (status_rows.as_dict(point)["attempts"], status_rows.as_dict(point)["bad_nodes"]) == (None, None)
    text = tables.status([point])
    assert "\nAttempts    unknown\nBad node    unknown\n" in text


@pytest.mark.parametrize("job", ["7", "6"])
def test_a_job_without_an_attempt_has_slurms_reason(job: str, make_run: MakeRun, slurm: Slurm) -> None:
    """Nor is an attempt of an earlier job of the run taken for its own."""
    selected = make_run("a-1", ("7", (), False))
    if job == "6":
        AttemptRecorder(selected.run, "6.0", "6", print).ended(EndCause.FAILURE, 9, "an earlier end")
    log = f"{selected.run.logs}/slurm-7.out"

    def why(code: int, state: JobState = JobState.FAILED, restarts: int | None = None) -> str:
        started, signalled = datetime.now().astimezone(), code > 128
        slurm.live = [
            record("7", state, exit_code=code, signalled=signalled, nodes="node1", started=started, restarts=restarts)
        ]
        (point,) = run_overview.read_overviews(slurm, [selected])
        return reasons.reason_words(point)

    assert why(128 + 53) == (
        f"Slurm could not open its log {log} on node1 (FAILED, ExitCode 0:53): its folder is not there or cannot be "
        "written, as where a node does not share it, or the disk is full"
    )
    assert why(1) == f"it ended before it wrote anything to {log} (FAILED, ExitCode 1:0)"
    assert why(0, JobState.NODE_FAIL) == "a node failed (node1), and the job was not requeued"
    assert why(0, JobState.COMPLETED) == ""
    line = "exit code 1 of line 9 of the script: source nosuch/bin/activate"
    Path(log).write_text(f"loading\n{setup_checks.STOPPED}an earlier life\n{setup_checks.STOPPED}{line}\nHINT: x\n")
    assert why(1) == f"the program does not start: {line}"
    AttemptRecorder(selected.run, "7.0", "7", print).ended(EndCause.PREEMPTION, 75, "preempted")
    unknown = "it did not write how it ended (FAILED, ExitCode 1:0): its log has its last lines"
    assert why(1) == unknown
    assert why(1, restarts=1) == f"the program does not start: {line}", "of the job's next life"
    Path(log).write_text(f"{setup_checks.STOPPED}{line}\nHINT: x\nslurm-tf: all 2 tasks registered\n")
    assert why(1, restarts=2) == unknown, "of an earlier one"
    os.unlink(selected.run.attempts)
    Path(log).write_text("setup failed")
    assert why(1) == f"it ended before the launcher started (FAILED, ExitCode 1:0): {log} has its output"
