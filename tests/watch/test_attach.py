"""Which task a user means, and beside which none can be attached."""

from pathlib import Path

import pytest

from slurm_tf.errors import UsageError
from slurm_tf.run import status
from slurm_tf.run.status import AttemptState, RunStatus, TaskState, TaskStatus
from slurm_tf.slurm.job_states import JobState
from slurm_tf.watch import attach, run_overview
from slurm_tf.watch.attach import LivingTask
from slurm_tf.watch.run_overview import RunOverview
from tests.watch.conftest import MakeRun, Slurm, record

TASKS = {
    "worker:0": TaskStatus(TaskState.RUNNING, "n1"),
    "worker:1": TaskStatus(TaskState.ENDED, "n2", code=0),
    "ps:0": TaskStatus(TaskState.RUNNING, "n3"),
}


@pytest.fixture
def state(make_run: MakeRun, slurm: Slurm) -> RunOverview:
    """Return a run whose ps has a component of its own."""
    found = make_run("a-1", ("7", (), False))
    status.write(found.run, RunStatus("a-1", "7", 0, "n1", 1.0, AttemptState.RUNNING, tasks=TASKS))
    slurm.live = [record("7+0", nodes="n[1-2]"), record("7+1", nodes="n3")]
    (point,) = run_overview.read_overviews(slurm, [found])
    return point


@pytest.mark.parametrize(
    ("wanted", "found"),
    [("", ("worker:0", "n1", "7+0")), ("worker", ("worker:0", "n1", "7+0")), ("ps:0", ("ps:0", "n3", "7+1"))],
)
def test_a_task_is_meant_by_its_name_or_its_role(wanted: str, found: tuple[str, str, str], state: RunOverview) -> None:
    assert attach.find(state, wanted) == LivingTask(*found, state.selected.run.submission(1))


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("worker:1", "worker:1 of run a-1 is ended; needed one of worker:0, ps:0"),
        ("worker:7", "run a-1 has no task worker:7; needed one of worker:0, ps:0"),
        ("chief", "run a-1 has no task chief; needed one of worker:0, ps:0"),
    ],
)
def test_a_task_that_does_not_run(wanted: str, message: str, state: RunOverview) -> None:
    with pytest.raises(UsageError) as caught:
        attach.find(state, wanted)
    assert str(caught.value) == message


def test_a_run_that_does_not_run(make_run: MakeRun, slurm: Slurm) -> None:
    found = make_run("b-1", ("8", (), False))
    for what, message in (
        (JobState.PENDING, "run b-1 is PENDING; needed a run whose job runs\nHINT: slurm-tf status b-1"),
        (JobState.RUNNING, "run b-1 has no task yet; needed a task that runs"),
    ):
        slurm.live = [record("8", what)]
        (point,) = run_overview.read_overviews(slurm, [found])
        with pytest.raises(UsageError) as caught:
            attach.find(point, "")
        assert str(caught.value) == message


def test_an_array_task_has_the_files_of_its_submission(make_run: MakeRun, slurm: Slurm) -> None:
    found = make_run("c-1", ("7", (0, 1), True))
    point = found.points()[1]
    Path(point.folder.path).mkdir()
    status.write(point.folder, RunStatus("c-1", "7_1", 0, "n1", 1.0, AttemptState.RUNNING, tasks=TASKS))
    slurm.live = [record("7_1", nodes="n[1-3]")]
    (state,) = run_overview.read_overviews(slurm, [point])
    assert attach.find(state, "") == LivingTask("worker:0", "n1", "7_1", found.run.submission(1))
