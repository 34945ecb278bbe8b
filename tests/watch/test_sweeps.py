"""Sweeps in status and list: one line, or a line a point, and the params of each point wherever it is named."""

import os
import re
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from slurm_tf.cli import tables
from slurm_tf.run import manifest
from slurm_tf.run.manifest import ArrayShape
from slurm_tf.run.progress import ProgressWriter
from slurm_tf.slurm.job_states import JobState
from slurm_tf.watch import logs, run_overview, status_rows, sweeps
from slurm_tf.watch.find_run import SelectedRun
from tests.watch.conftest import MakeRun, Slurm, record

STARTED = datetime.now().astimezone() - timedelta(hours=1)
STATES = (JobState.COMPLETED, JobState.FAILED, JobState.COMPLETED, JobState.RUNNING, JobState.PENDING, JobState.PENDING)
POINTS = {str(number): {"rate": rate, "units": 32} for number, rate in enumerate((0.1, 0.2, 0.3, 0.4, 0.5, 0.6))}


@pytest.fixture
def sweep(make_run: MakeRun) -> SelectedRun:
    run = make_run("sweep-1", ("7", tuple(range(6)), True), array=ArrayShape(None, True, POINTS))
    for path in (run.run.manifest, run.run.submission(1).manifest):
        manifest.write(path, replace(manifest.read(path), params={"epochs": 20}))
    for number in range(4):
        folder = run.run.point(number)
        Path(folder.path).mkdir(mode=0o700)
        ProgressWriter(folder.progress, "", lambda: None, print).add(10, {"loss": 1 / (number + 1)})
    return run


def write_records(slurm: Slurm) -> None:
    slurm.live = [
        record(
            f"7_{number}", state, exit_code=int(state is JobState.FAILED) if state.ended else None, reason="Priority",
            started=None if state is JobState.PENDING else STARTED, nodes="node1",
            ended=STARTED + timedelta(minutes=10) if state.ended else None,
        )
        for number, state in enumerate(STATES)
    ]  # fmt: skip


def test_a_sweep_is_one_line(sweep: SelectedRun, make_run: MakeRun, slurm: Slurm) -> None:
    write_records(slurm)
    single = make_run("a-1", ("8", (), False))
    assert isinstance(slurm.live, list)
    slurm.live.append(record("8", nodes="node2"))
    points = run_overview.read_overviews(slurm, [sweep, single])
    assert [len(group) for group in sweeps.by_run(points)] == [6, 1]
    best = "best: min loss 0.25 at step 10 of sweep-1/3 (rate=0.4 units=32)"
    assert [re.split(r"  +", line) for line in tables.run_list(points).splitlines()] == [
        ["RUN", "JOB", "STATE", "TIME", "NODES", "REASON"],
        ["sweep-1", "7", "2/6 done, 2 pending, 1 failed, 1 running", "-", "node1", best],
        ["a-1", "8", "RUNNING", "-", "node2"],
    ]
    lines = tables.status(points[:6]).splitlines()
    assert lines[:6] == [
        "Run         sweep-1, 6 points over rate, units",
        "Job         7",
        "State       2/6 done, 2 pending, 1 failed, 1 running",
        "Why         jobs of higher priority come first",
        "Params      epochs=20",
        "Best        min loss 0.25 at step 10 of sweep-1/3 (rate=0.4 units=32)",
    ]
    assert lines[6:8] == ["Nodes       node1", f"Failed      sweep-1/1 (rate=0.2 units=32): {reason(points[1])}"]


def reason(point: run_overview.RunOverview) -> str:
    return str(status_rows.as_dict(point)["reason_words"])


def test_a_point_has_its_params_wherever_it_is(sweep: SelectedRun, slurm: Slurm) -> None:
    write_records(slurm)
    points = run_overview.read_overviews(slurm, [sweep])
    table = tables.status(points, each_point=True).splitlines()
    assert [line.split()[:4] for line in table[1:3]] == [
        ["sweep-1/0", "rate=0.1", "units=32", "7_0"], ["sweep-1/1", "rate=0.2", "units=32", "7_1"],
    ]  # fmt: skip
    assert "Params      rate=0.4 units=32 epochs=20\n" in tables.status([points[3]])
    assert status_rows.as_dict(points[3])["params"] == {"rate": 0.4, "units": 32, "epochs": 20}
    assert [each.heading for each in logs.log_files(SelectedRun(sweep.run, 3), "", None)] == [
        "sweep-1/3 (rate=0.4 units=32)"
    ]
    os.unlink(sweep.run.submission(1).manifest)
    assert "Params" not in tables.status([points[3]])


def test_a_sweep_that_has_reported_nothing_and_of_which_slurm_knows_nothing(make_run: MakeRun, slurm: Slurm) -> None:
    run = make_run("sweep-1", ("7", (0, 1), True), array=ArrayShape(None, True, {"0": {}, "1": {}}))
    points = run_overview.read_overviews(slurm, [run])
    assert tables.status(points).splitlines()[:3] == [
        "Run         sweep-1, 2 points", "Job         7", "State       0/2 done, 2 unknown",
    ]  # fmt: skip
