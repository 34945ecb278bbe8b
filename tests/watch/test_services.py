"""Whether somebody will answer: as Slurm says of the job that runs and of the one that waits."""

import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from slurm_tf.run.serve_settings import ServeSettings
from slurm_tf.serve import endpoint
from slurm_tf.serve.endpoint import Endpoint
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord
from slurm_tf.watch import run_overview, service_rows, services
from slurm_tf.watch.find_run import SelectedRun
from slurm_tf.watch.services import Gap, Service
from tests.watch.conftest import MakeRun, Slurm, record

END = datetime(2026, 11, 28, 12).astimezone()
RUNS = record("1", started=END - timedelta(days=1), ended=END)


def waits(reason: str, start: "datetime | None" = None) -> JobRecord:
    return record("2", JobState.PENDING, reason=reason, expected_start=start)


def with_a_replica(selected: SelectedRun) -> SelectedRun:
    """Have a replica of the run answer."""
    folder = selected.run.endpoints
    Path(folder).mkdir(mode=0o700)
    now = time.time()
    endpoint.write(folder, Endpoint("1-0-0", "1", "127.0.0.1", 1, 2, "", "", False, (), now, now, None))
    return selected


@pytest.mark.parametrize(
    ("jobs", "gap"),
    [
        ([RUNS, waits("Dependency")], None),
        ([RUNS, waits("Resources", END - timedelta(minutes=5))], None),
        ([RUNS, waits("Resources", END)], None),
        ([RUNS, waits("Priority", END + timedelta(hours=1))], Gap(END, END + timedelta(hours=1))),
        # Slurm does not say when, or never will
        ([RUNS, waits("Priority")], Gap(END, None)),
        ([RUNS, waits("DependencyNeverSatisfied")], Gap(END, None)),
        ([RUNS, record("2", JobState.CANCELLED)], Gap(END, None)),
        # two jobs overlap: the one that ends last counts
        ([RUNS, record("2", started=END, ended=END + timedelta(days=1))], Gap(END + timedelta(days=1), None)),
        # a job without a time limit ends never, and of one that has not started nobody knows
        ([record("1", started=END)], None),
        ([record("1", JobState.PENDING, reason="Resources", expected_start=END)], None),
        ([], None),
    ],
)
def test_when_nobody_will_answer(jobs: list[JobRecord], gap: "Gap | None", make_run: MakeRun, slurm: Slurm) -> None:
    submissions = [(each.id, (number,), False) for number, each in enumerate(jobs, 1)]
    selected = with_a_replica(make_run("digits-1", *submissions))
    slurm.live = jobs
    points = run_overview.read_overviews(slurm, [selected]) if jobs else []
    service = Service(selected, ServeSettings({"digits": "/models/digits"}, selected.run.path))
    found = services.overview(service, points)
    assert found.gap == gap
    until = services.as_dict(found)["gap"]
    assert until == (gap and {"begin": gap.begin.timestamp(), "until": gap.until.timestamp() if gap.until else None})


def test_a_job_that_does_not_answer_yet_may_not_have_submitted_the_next_one(make_run: MakeRun, slurm: Slurm) -> None:
    selected, slurm.live = make_run("digits-1", ("1", (1,), False)), [RUNS]
    service = Service(selected, ServeSettings({"digits": "/models/digits"}, selected.run.path))
    assert services.overview(service, run_overview.read_overviews(slurm, [selected])).gap is None
    with_a_replica(selected)
    assert services.overview(service, run_overview.read_overviews(slurm, [selected])).gap == Gap(END, None)


def test_the_words_name_both_ends() -> None:
    words = service_rows.gap_words(Gap(END, END + timedelta(hours=1)))
    assert words == (
        "nobody will answer from 2026-11-28 12:00:00 on, until 2026-11-28 13:00:00: no job takes over in time"
    )
    assert "and Slurm does not say until when" in service_rows.gap_words(Gap(END, None))
