"""What the GPUs of a run did, in status and in results."""

import re
import time

import pytest

from slurm_tf.cli import tables
from slurm_tf.run import gpu_record, status
from slurm_tf.run.attempts import AttemptRecorder, EndCause
from slurm_tf.run.gpu_record import GpuSample, GpuState
from slurm_tf.run.status import AttemptState, RunStatus, TaskState, TaskStatus
from slurm_tf.slurm.job_states import JobState
from slurm_tf.watch import gpu_use, results, results_rows, run_overview, status_rows
from slurm_tf.watch.find_run import SelectedRun
from slurm_tf.watch.run_overview import RunOverview
from tests.watch.conftest import MakeRun, Slurm, record

OLD, NOW = time.time() - 4000, time.time() + 4000  # the test may run long after this module was imported


@pytest.fixture
def selected(make_run: MakeRun) -> SelectedRun:
    """Return a run of a worker with two GPUs, one with a part of one, and a ps, in its second attempt."""
    found = make_run("a-1", ("7", (), False))
    AttemptRecorder(found.run, "7.0", "7", print).ended(EndCause.PREEMPTION, 75, "")
    AttemptRecorder(found.run, "7.1", "7", print)
    tasks = {name: TaskStatus(TaskState.RUNNING) for name in ("worker:0", "worker:1", "ps:0")}
    status.write(found.run, RunStatus("a-1", "7", 1, "n1", 1.0, AttemptState.RUNNING, tasks=tasks))
    for attempt, at, busy in (("7.0", OLD, 10), ("7.1", OLD, 30), ("7.1", NOW, 80)):
        states = (GpuState("A100", busy, 1024, 40960), GpuState("A100", busy + 10, 31027, 40960))
        gpu_record.add(found.run, "worker:0", attempt, GpuSample(at, states))
    gpu_record.add(found.run, "worker:1", "7.1", GpuSample(NOW, (GpuState("A100 MIG 3g.20gb", None, 812, 19968),)))
    return found


def look(slurm: Slurm, selected: SelectedRun) -> RunOverview:
    slurm.live = [record("7", JobState.RUNNING)]
    (point,) = run_overview.read_overviews(slurm, [selected])
    return point


def rows(point: RunOverview) -> list[str]:
    lines = tables.status([point]).splitlines()
    first = next(number for number, line in enumerate(lines) if line.startswith("ROLE"))
    return [" ".join(line.split()) for line in lines[first : first + 3]]


def test_a_living_run_shows_the_last_minutes_of_its_attempt(selected: SelectedRun, slurm: Slurm) -> None:
    point = look(slurm, selected)
    assert rows(point) == [
        "ROLE REGISTERED RUNNING GPU GPU-MEM RESTARTS",
        "worker 2/2 2/2 85% 30.3/40G 0",
        "ps 1/1 1/1 - - 0",
    ]
    known = status_rows.as_dict(point)
    assert known["gpus"]["worker:0"]["attempt"] == {
        "attempt": "7.1", "devices": 2, "samples": 4, "busy": 60.0, "memory_used": 31027, "memory_total": 40960,
    }  # fmt: skip
    assert known["gpus"]["worker:1"]["last"]["devices"] == [
        {"name": "A100 MIG 3g.20gb", "busy": None, "memory_used": 812, "memory_total": 19968}
    ]
    assert known["roles"][0]["gpu_busy"] == 85.0


def test_later_the_whole_attempt_counts_and_why_it_is_not_known_any_more(selected: SelectedRun, slurm: Slurm) -> None:
    gpu_record.add(selected.run, "worker:0", "7.2", GpuSample(OLD, (GpuState("A100", 20, None, None),)))
    AttemptRecorder(selected.run, "7.2", "7", print)
    for task in ("worker:0", "worker:1"):
        gpu_record.stop(selected.run, task, "nvidia-smi on n1: it does not answer in 10 s")
    point = look(slurm, selected)
    assert rows(point)[:2] == ["ROLE REGISTERED RUNNING GPU RESTARTS", "worker 2/2 2/2 20% 0"]
    # that of worker:1 is of an attempt before
    said = re.findall(r"^GPUs +(.*)$", tables.status([point]), re.MULTILINE)
    assert said == ["worker:0: not known any more: nvidia-smi on n1: it does not answer in 10 s"]


def test_without_gpus_there_is_no_column(make_run: MakeRun, slurm: Slurm) -> None:
    found = make_run("b-1", ("7", (), False))
    tasks = {"worker:0": TaskStatus(TaskState.RUNNING)}
    status.write(found.run, RunStatus("b-1", "7", 0, "n1", 1.0, AttemptState.RUNNING, tasks=tasks))
    point = look(slurm, found)
    assert rows(point)[0] == "ROLE REGISTERED RUNNING RESTARTS"
    assert results.of_overview(point).gpu_busy is None
    assert status_rows.as_dict(point)["gpus"] == {}


def test_results_have_the_mean_of_all_attempts(selected: SelectedRun, slurm: Slurm) -> None:
    result = results.of_overview(look(slurm, selected))
    assert result.gpu_busy == 45.0
    (column,) = (each for each in results_rows.columns([result], "") if each.head == "GPU")
    assert column.cells == ["45%"]
    assert gpu_use.cells({"gpu_busy": None, "gpu_memory_used": 512, "gpu_memory_total": None}) == ["-", "0.5G"]
