"""Reservations, and the jobs that wait behind one, on what Slurm 22.05.8 printed."""

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest

from slurm_tf.slurm import reservations
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord
from tests.conftest import RECORDED

TEXT = (RECORDED / "slurm-22.05.8" / "scontrol-reservations.txt").read_text()
NOW = datetime.fromisoformat("2026-11-27T22:20:00").astimezone()
MAINT, COURSE = reservations.parse(TEXT)


def test_the_times_of_each_are_read() -> None:
    assert [(each.name, each.start.isoformat()[:16], each.end - each.start) for each in (MAINT, COURSE)] == [
        ("maint", "2026-11-27T22:59", timedelta(hours=1)),
        ("course", "2026-12-01T09:00", timedelta(hours=2)),
    ]
    assert reservations.parse("No reservations in the system\n") == ()
    assert (MAINT.minutes_until(NOW), MAINT.minutes_until(MAINT.start)) == (38, 0)


def pending(limit: int, start: datetime, reason: str = "Resources", state: JobState = JobState.PENDING) -> JobRecord:
    return JobRecord("7", state, reason, expected_start=start, ended=start + timedelta(minutes=limit))


@pytest.mark.parametrize(
    ("record", "found"),
    [
        (pending(60, MAINT.end), True),
        (pending(60, MAINT.end + timedelta(hours=1)), False),  # it waits for something else as well
        (pending(60, MAINT.end + timedelta(hours=1), "ReqNodeNotAvail, Reserved for maintenance"), True),
        (pending(30, MAINT.end), False),  # it would fit
        (pending(60, NOW + timedelta(minutes=3)), False),  # on nodes that are not reserved
        (pending(60, MAINT.end, state=JobState.RUNNING), False),
        (JobRecord("7", JobState.PENDING), False),
    ],
)
def test_a_job_waits_behind_a_reservation_only_if_that_is_certain(
    record: JobRecord, found: bool, program: Callable[[str, str], None]
) -> None:
    program("scontrol", f"#!/bin/sh\necho '{TEXT}'\n")
    assert reservations.in_the_way([record], NOW) == ({"7": MAINT} if found else {})


def test_without_pending_jobs_slurm_is_not_asked(program: Callable[[str, str], None]) -> None:
    program("scontrol", "#!/bin/sh\nexit 1\n")
    assert reservations.in_the_way([JobRecord("7", JobState.RUNNING)], NOW) == {}
