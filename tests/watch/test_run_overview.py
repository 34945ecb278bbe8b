"""States: from slurmctld, else from slurmdbd, else unknown; and what the run itself wrote."""

import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from slurm_tf.cli import tables
from slurm_tf.errors import SlurmError, UnreachableError, UsageError
from slurm_tf.run import attempts, checkpoint_folder, job_chain, manifest, status
from slurm_tf.run.attempts import Attempt, EndCause
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.manifest import ArrayShape, CodeOrigin
from slurm_tf.run.status import AttemptState, Progress, RunStatus, SlowTask, StragglerReport, TaskState, TaskStatus
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord
from slurm_tf.submit.sbatch import SubmitRequest
from slurm_tf.watch import cancel, reasons, resubmit, run_overview, status_rows
from slurm_tf.watch.find_run import SelectedRun
from tests.conftest import write_manifest
from tests.watch.conftest import MakeRun, Slurm, record

DOWN = UnreachableError("Unable to contact slurm controller (connect failure)")


def again(slurm: Slurm, selected: SelectedRun, failed: bool) -> list[SubmitRequest]:
    return resubmit.submit_requests(resubmit.points_over(slurm, selected, failed))


def test_one_question_for_all_and_accounting_for_what_slurmctld_forgot(make_run: MakeRun, slurm: Slurm) -> None:
    selected_runs = [make_run("a-1", ("1", (), False)), make_run("b-1", ("2", (), False)), make_run("c-1")]
    slurm.live = [record("1")]
    slurm.past = [record("2", JobState.COMPLETED, exit_code=0)]
    points = run_overview.read_overviews(slurm, selected_runs)
    assert [point.state for point in points] == [JobState.RUNNING, JobState.COMPLETED, JobState.UNKNOWN]
    assert [status_rows.state_text(point) for point in points] == ["RUNNING", "COMPLETED", "not submitted"]
    assert slurm.asked == [("squeue", ("1", "2")), ("sacct", ("2",))]


@pytest.mark.parametrize("past", [[], DOWN])
def test_what_nobody_knows_is_unknown_and_never_over(past: object, make_run: MakeRun, slurm: Slurm) -> None:
    slurm.live, slurm.past = DOWN, past  # type: ignore[assignment]
    (point,) = run_overview.read_overviews(slurm, [make_run("a-1", ("1", (), False))])
    assert status_rows.state_text(point) == "unknown"
    assert not point.is_over
    assert point.exit_code is None
    assert status_rows.as_dict(point)["state"] == "UNKNOWN"
    assert "slurmctld does not answer: Unable to contact slurm controller" in reasons.reason_words(point)


@pytest.mark.parametrize(("ago", "newest"), [(timedelta(), "8"), (timedelta(hours=1), "7")])
def test_a_job_that_ends_while_slurm_is_asked_may_have_submitted_the_next(
    ago: timedelta, newest: str, make_run: MakeRun, slurm: Slurm, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, answer = make_run("a-1", ("7", (), False)), slurm.jobs
    slurm.live = [record("7", JobState.COMPLETED, ended=datetime.now().astimezone() - ago), record("8")]

    def jobs(ids: Sequence[str]) -> tuple[JobRecord, ...]:
        if job_chain.newest(run.run) == {None: "7"}:
            job_chain.add(run.run, "8", "", (), False, after="7", submission=1)
        return answer(ids)

    monkeypatch.setattr(slurm, "jobs", jobs)
    (point,) = run_overview.read_overviews(slurm, [run])
    assert point.job == newest
    assert len(slurm.asked) == int(newest) - 6  # one that ended long ago is not read twice


def test_a_job_that_slurm_has_forgotten(make_run: MakeRun, slurm: Slurm) -> None:
    selected = make_run("a-1", ("1", (), False))
    (point,) = run_overview.read_overviews(slurm, [selected])
    assert reasons.reason_words(point) == "Slurm has no record of job 1"
    with pytest.raises(SlurmError, match="Slurm knows nothing of job 1"):
        run_overview.wait_until_over(slurm, selected)
    with pytest.raises(SlurmError, match="run b-1, which was not submitted"):
        run_overview.wait_until_over(slurm, make_run("b-1"))


NO_ACCOUNTING = SlurmError("Slurm accounting storage is disabled (sacct ended with exit code 1)")


def write_end(folder: RunFolder, job: str, code: int, cause: EndCause = EndCause.NONE) -> None:
    """Write what a coordinator does of the end of its attempt."""
    os.makedirs(folder.path, exist_ok=True)
    attempts.write(folder, [Attempt(f"{job}.0", job, 1.0, 2.0, cause, code, "worker:0 on n1 ended")])
    write_status(folder, state=AttemptState.ENDED, code=code, reason="worker:0 on n1 ended" if code else "")


@pytest.mark.parametrize("past", [NO_ACCOUNTING, [], DOWN])
@pytest.mark.parametrize(
    ("code", "cause", "state"),
    [
        (0, EndCause.NONE, JobState.COMPLETED),
        (7, EndCause.NONE, JobState.FAILED),
        (143, EndCause.CANCEL, JobState.CANCELLED),
    ],
)
def test_what_the_run_wrote_counts_where_slurmctld_has_forgotten_the_job(
    code: int, cause: EndCause, state: JobState, past: object, make_run: MakeRun, slurm: Slurm
) -> None:
    selected = make_run("a-1", ("1", (0, 1), True))
    slurm.past = past  # type: ignore[assignment]
    for point in (0, 1):
        write_end(selected.run.point(point), f"1_{point}", code, cause)
    points = run_overview.wait_until_over(slurm, selected)
    assert [(point.exit_code, point.state) for point in points] == [(code, state)] * 2
    assert "what the run wrote of its end" in reasons.reason_words(points[0])


def test_what_the_run_wrote_does_not_count_of_another_job_or_while_slurmctld_is_away(
    make_run: MakeRun, slurm: Slurm
) -> None:
    selected = make_run("a-1", ("2", (), False))
    slurm.past = NO_ACCOUNTING
    write_end(selected.run, "1", 0)
    (point,) = run_overview.read_overviews(slurm, [selected])
    assert (point.is_over, point.state) == (False, JobState.UNKNOWN)
    write_end(selected.run, "2", 75, EndCause.RETRY)
    write_status(selected.run, state=AttemptState.REQUEUED, code=75)
    (point,) = run_overview.read_overviews(slurm, [selected])
    assert not point.is_over
    write_end(selected.run, "2", 0)
    slurm.live = DOWN
    (point,) = run_overview.read_overviews(slurm, [selected])
    assert not point.is_over


def test_waiting_for_a_forgotten_job_without_accounting_ends(make_run: MakeRun, slurm: Slurm) -> None:
    slurm.past = NO_ACCOUNTING
    selected = make_run("a-1", ("1", (), False))
    with pytest.raises(SlurmError, match="Slurm knows nothing of job 1"):
        run_overview.wait_until_over(slurm, selected)
    # one that was cancelled before it started has written nothing
    Path(selected.run.cancelled).touch()
    assert [point.exit_code for point in run_overview.wait_until_over(slurm, selected)] == [1]


@pytest.mark.parametrize(
    ("records", "code"),
    [
        ([record("1", JobState.COMPLETED, exit_code=0)], 0),
        ([record("1", JobState.FAILED, exit_code=3)], 3),
        ([record("1", JobState.FAILED, exit_code=137, signalled=True)], 1),
        ([record("1", JobState.FAILED, exit_code=137)], 137),
        ([record("1", JobState.CANCELLED, exit_code=0)], 1),
        ([record("1", JobState.TIMEOUT, exit_code=0)], 1),
        ([record("1+0", JobState.COMPLETED, exit_code=0), record("1+1", JobState.FAILED, exit_code=4)], 4),
        ([record("1+0", JobState.FAILED, exit_code=4), record("1+1", JobState.RUNNING)], None),
    ],
)
def test_exit_codes_are_those_of_sbatch_wait(
    records: list[object], code: int | None, make_run: MakeRun, slurm: Slurm
) -> None:
    slurm.live = records  # type: ignore[assignment]
    (point,) = run_overview.read_overviews(slurm, [make_run("a-1", ("1", (), False))])
    assert point.exit_code == code


def test_a_job_that_slurm_ended_has_the_code_that_its_run_wrote(make_run: MakeRun, slurm: Slurm) -> None:
    selected = make_run("a-1", ("1", (), False))
    write_end(selected.run, "1", 75, EndCause.TIMEOUT)
    # as slurmctld has it, then as slurmdbd alone knows it
    for live, past in (
        ([record("1", JobState.TIMEOUT, exit_code=75)], []),
        ([], [record("1", JobState.TIMEOUT, exit_code=0)]),
    ):
        slurm.live, slurm.past = live, past
        (point,) = run_overview.read_overviews(slurm, [selected])
        assert (point.state, point.exit_code) == (JobState.TIMEOUT, 75)
    # what it wrote of an earlier job, or a success, does not count
    for job, code in (("0", 75), ("1", 0)):
        write_end(selected.run, job, code, EndCause.TIMEOUT)
        (point,) = run_overview.read_overviews(slurm, [selected])
        assert point.exit_code == 1


@pytest.mark.slow
def test_waiting_survives_an_outage_and_ends_with_the_last_point(make_run: MakeRun, slurm: Slurm) -> None:
    selected = make_run("a-1", ("1", (0, 1), True))
    slurm.live = DOWN
    slurm.past = DOWN
    done: list[list[run_overview.RunOverview]] = []
    waiter = threading.Thread(
        target=lambda: done.append(run_overview.wait_until_over(slurm, selected, 0.2)), daemon=True
    )
    waiter.start()
    slurm.live = [record("1_0", JobState.COMPLETED, exit_code=0), record("1_1", JobState.PENDING)]
    waiter.join(1.0)
    assert waiter.is_alive()
    slurm.live = [record("1_0", JobState.COMPLETED, exit_code=0), record("1_1", JobState.FAILED, exit_code=5)]
    waiter.join(30.0)
    assert [point.exit_code for point in done[0]] == [0, 5]


def write_status(folder: RunFolder, **values: object) -> None:
    os.makedirs(folder.path, exist_ok=True)
    attempt = RunStatus("a-1", "1", 0, "n1", 0.0, AttemptState.RUNNING)
    status.write(folder, replace(attempt, **values))  # type: ignore[arg-type]


def commit(folder: RunFolder, step: int) -> None:
    """Write a checkpoint of one file."""
    os.makedirs(folder.checkpoints, exist_ok=True)
    prefix = checkpoint_folder.begin(folder.checkpoints, step)
    Path(f"{prefix}.index").write_bytes(b"12345")
    checkpoint_folder.finish(prefix, step, {}, checkpoint_folder.flush_files)


def test_progress_by_role(make_run: MakeRun, slurm: Slurm) -> None:
    selected = make_run("a-1", ("1", (), False))
    progress = Progress(step=300, steps=1000, rate=12.5, values={"loss": 0.25, "accuracy": None}, at=1.0)
    tasks = {
        "ps:0": TaskStatus(TaskState.RUNNING, restarts=0),
        "worker:1": TaskStatus(),
        "worker:0": TaskStatus(TaskState.RUNNING, restarts=2),
        "chief:0": TaskStatus(TaskState.RUNNING, restarts=0, progress=progress),
    }
    write_status(selected.run, restarts=2, tasks=tasks)
    commit(selected.run, 200)
    os.makedirs(f"{selected.run.checkpoints}/step-0000000900.7_temp")
    slurm.live = [record("1", nodes="n[1-2]")]
    (point,) = run_overview.read_overviews(slurm, [selected])
    known = status_rows.as_dict(point)
    assert (known["step"], known["rate"], known["values"]["loss"]) == (300, 12.5, 0.25)
    assert known["checkpoint"]["step"] == 200
    assert abs(known["checkpoint"]["written"] - time.time()) < 60
    assert known["tasks"]["worker:1"] == {"state": "missing"}
    assert known["tasks"]["chief:0"] == {
        "state": "running", "restarts": 0,
        "progress": {"step": 300, "steps": 1000, "rate": 12.5, "values": {"loss": 0.25, "accuracy": None}, "at": 1.0},
    }  # fmt: skip
    assert [(row["role"], row["registered"], row["tasks"], row["restarts"]) for row in status_rows.roles(point)] == [
        ("chief", 1, 1, 0), ("worker", 1, 2, 2), ("ps", 1, 1, 0),
    ]  # fmt: skip
    assert status_rows.roles(point)[1]["step"] is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "MANIFEST.json").unlink(),
        lambda path: (path / "MANIFEST.json").write_text("{"),
        lambda path: (path / "checkpoint.index").write_bytes(b"123"),
        lambda path: (path / "checkpoint.index").unlink(),
    ],
    ids=["no manifest", "torn manifest", "torn file", "file gone"],
)
def test_the_last_checkpoint_is_the_one_that_a_restore_takes(
    damage: Callable[[Path], object], make_run: MakeRun, slurm: Slurm
) -> None:
    selected = make_run("a-1", ("1", (), False))
    slurm.live = [record("1")]
    for step in (100, 200):
        commit(selected.run, step)
    damage(Path(selected.run.checkpoints, "step-0000000200"))
    (point,) = run_overview.read_overviews(slurm, [selected])
    assert status_rows.as_dict(point)["checkpoint"]["step"] == 100
    assert "\nCheckpoint  step 100, " in tables.status([point])
    damage(Path(selected.run.checkpoints, "step-0000000100"))
    (point,) = run_overview.read_overviews(slurm, [selected])
    assert status_rows.as_dict(point)["checkpoint"] is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"contract": 99}'])
def test_a_status_file_that_says_nothing(text: str, make_run: MakeRun, slurm: Slurm) -> None:
    selected = make_run("a-1", ("1", (), False))
    Path(selected.run.status).write_text(text)
    (point,) = run_overview.read_overviews(slurm, [selected])
    assert point.attempt is None
    assert status_rows.roles(point) == []


def test_cancel_marks_first_and_ends_what_lives(make_run: MakeRun, slurm: Slurm) -> None:
    selected = make_run("a-1", ("1", (0, 1), True), ("2", (1,), True))
    slurm.live = [record("1_0", JobState.COMPLETED, exit_code=0), record("2_1", JobState.PENDING)]
    assert cancel.cancel(slurm, selected) == ["2_1"]
    assert slurm.cancelled == ["2_1"]
    assert os.path.exists(selected.run.cancelled)


def test_all_of_an_array_is_cancelled_by_its_own_id(make_run: MakeRun, slurm: Slurm) -> None:
    selected = make_run("a-1", ("1", (0, 1), True))
    slurm.live = [record("1_0"), record("1_1", JobState.PENDING)]
    assert cancel.cancel(slurm, selected) == ["1"]


def test_a_cancel_that_slurm_does_not_take_is_marked_all_the_same(make_run: MakeRun, slurm: Slurm) -> None:
    selected = make_run("a-1", ("1", (), False))
    slurm.live = slurm.past = DOWN
    assert cancel.cancel(slurm, selected) == ["1"]
    assert os.path.exists(selected.run.cancelled)
    (point,) = run_overview.read_overviews(slurm, [selected])
    assert status_rows.state_text(point) == "unknown (cancelled)"


def test_a_point_that_was_cancelled_before_it_started_is_forgotten_by_slurm_and_over(
    make_run: MakeRun, slurm: Slurm
) -> None:
    selected = make_run("a-1", ("1", (0, 1), True))
    slurm.live = [record("1_0", JobState.COMPLETED, exit_code=0)]
    with pytest.raises(SlurmError, match="Slurm knows nothing of job 1_1"):
        run_overview.wait_until_over(slurm, selected)
    os.makedirs(selected.run.point(1).path)
    Path(selected.run.point(1).cancelled).touch()
    assert [point.exit_code for point in run_overview.wait_until_over(slurm, selected)] == [0, 1]
    slurm.past = DOWN
    assert not run_overview.read_overviews(slurm, [selected])[1].is_over


def test_failed_points_alone_are_submitted_again(make_run: MakeRun, slurm: Slurm) -> None:
    selected = make_run("a-1", ("1", (0, 1, 2, 3), True), array=ArrayShape(2, True))
    slurm.live = [
        record("1_0", JobState.COMPLETED, exit_code=0), record("1_1", JobState.FAILED, exit_code=1),
        record("1_2", JobState.RUNNING), record("1_3", JobState.TIMEOUT, exit_code=0),
    ]  # fmt: skip
    (request,) = again(slurm, selected, failed=True)
    assert (request.points, request.limit, request.one_job) == ((1, 3), 2, True)
    assert [each.points for each in again(slurm, selected, failed=False)] == [(0, 1, 3)]
    slurm.live = [record(f"1_{point}", JobState.COMPLETED, exit_code=0) for point in range(4)]
    with pytest.raises(UsageError, match="no job of run a-1 has failed"):
        again(slurm, selected, failed=True)


def test_each_point_is_submitted_again_as_it_was_submitted_last(make_run: MakeRun, slurm: Slurm) -> None:
    selected = make_run("a-1", ("1", (0, 1, 2), True), array=ArrayShape(2, True))
    os.mkdir(selected.run.submission(2).path)
    write_manifest(selected.run, "a-1", ArrayShape(None, False), 2)
    job_chain.add(selected.run, "2", "", (1,), False, submission=2)
    slurm.live = [record("1_0", JobState.FAILED), record("2", JobState.FAILED), record("1_2", JobState.FAILED)]
    assert again(slurm, selected, failed=True) == [
        SubmitRequest(selected.run.submission(1), (0, 2), 2, True),
        SubmitRequest(selected.run.submission(2), (1,), None, False),
    ]


def test_a_run_whose_code_was_removed_is_not_submitted_again(make_run: MakeRun, slurm: Slurm) -> None:
    selected = make_run("a-1", ("1", (), False))
    path = selected.run.submission(1).manifest
    code = CodeOrigin("/p", "", None, 1, 1, (), ())
    manifest.write(path, replace(manifest.read(path), code=code, job_file="/p/a b.toml"))
    slurm.live = [record("1", JobState.FAILED)]
    with pytest.raises(UsageError, match=r"code was removed: .*\nHINT: slurm-tf submit '/p/a b.toml' --name a-1 makes"):
        again(slurm, selected, failed=True)
    os.mkdir(selected.run.submission(1).code)
    assert len(again(slurm, selected, failed=True)) == 1


SLOW = StragglerReport({}, {"worker:1": SlowTask(0.3, 0.1, 180)})


@pytest.mark.parametrize(
    ("stragglers", "job", "line"),
    [
        (None, JobState.RUNNING, "Slow        unknown"),
        (StragglerReport({}, {}), JobState.RUNNING, "Slow        none"),
        (
            SLOW,
            JobState.RUNNING,
            "Slow        worker:1 on n2 works 0.3 s by itself in each step, "
            "3.0 times the 0.1 s of the others, for 180 s",
        ),
        (SLOW, JobState.COMPLETED, ""),
    ],
)
def test_tasks_that_others_wait_for(
    stragglers: StragglerReport | None, job: JobState, line: str, make_run: MakeRun, slurm: Slurm
) -> None:
    selected = make_run("a-1", ("1", (), False))
    tasks = {f"worker:{index}": TaskStatus(TaskState.RUNNING, f"n{index + 1}") for index in range(2)}
    write_status(selected.run, tasks=tasks, stragglers=stragglers)
    slurm.live = [record("1", job)]
    (point,) = run_overview.read_overviews(slurm, [selected])
    expected = (
        {"own": {}, "slow": {name: asdict(each) for name, each in stragglers.slow.items()}} if stragglers else None
    )
    assert status_rows.as_dict(point)["stragglers"] == expected
    assert [each for each in tables.status([point]).splitlines() if each.startswith("Slow")] == ([line] if line else [])
