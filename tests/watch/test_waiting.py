"""How long runs have waited and when they start, in status, list and JSON."""

import re
from datetime import datetime, timedelta

import pytest

from slurm_tf.cli import tables
from slurm_tf.slurm import reservations
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord
from slurm_tf.slurm.reservations import Reservation
from slurm_tf.watch import run_overview, status_rows, waiting
from slurm_tf.watch.run_overview import RunOverview
from tests.watch.conftest import MakeRun, Slurm, record

NOW = datetime.now().astimezone().replace(microsecond=0)
# tests may run long after this module was imported
MAINT = Reservation("maint", NOW + timedelta(hours=40), NOW + timedelta(hours=100))
EXPECTED = {
    "submitted": NOW - timedelta(minutes=10),
    "expected_start": MAINT.end,
    "ended": NOW + timedelta(hours=160),
}


@pytest.fixture
def look(make_run: MakeRun, slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> "Look":
    monkeypatch.setattr(reservations, "coming", lambda _: (MAINT,))
    return Look(make_run, slurm)


class Look:
    """Reads runs whose jobs Slurm has these records of."""

    def __init__(self, make_run: MakeRun, slurm: Slurm) -> None:
        self.make_run, self.slurm, self.runs = make_run, slurm, 0

    def __call__(self, *records: JobRecord) -> list[RunOverview]:
        self.slurm.live = list(records)
        points = tuple(int(each.id.partition("_")[2]) for each in records if "_" in each.id)
        self.runs += 1
        return run_overview.read_overviews(self.slurm, [self.make_run(f"a-{self.runs}", ("7", points, bool(points)))])


def text(points: list[RunOverview]) -> list[str]:
    """Return the lines of status about waiting, with each duration as "N"."""
    shown = (
        tables.status(points).replace(f"{MAINT.end:%Y-%m-%dT%H:%M:%S}", "END").replace(f"{MAINT.start:%H:%M}", "START")
    )
    lines = [line for line in shown.splitlines() if line.startswith(("Waited", "Starts", "Sooner"))]
    return [re.sub(r"\d\d:\d\d:\d\d|\d+ [hd]\b|(?<=TimeLimit=)\d+", "N", line) for line in lines]


def test_a_pending_job_has_an_expected_start_and_what_is_sooner(look: Look) -> None:
    (state,) = look(record("7", JobState.PENDING, reason="Resources", **EXPECTED))
    assert text([state]) == [
        "Waited      N",
        "Starts      in N, at END, as Slurm expects now",
        "Sooner      it cannot end before reservation maint begins at START; scontrol update JobId=7 TimeLimit=N "
        "makes it fit",
    ]
    known = status_rows.as_dict(state)
    assert known["started"] is None
    assert known["expected_start"] == MAINT.end.timestamp()
    assert known["reservation"] == {"name": "maint", "start": MAINT.start.timestamp(), "end": MAINT.end.timestamp()}
    assert known["waited"] >= 600
    assert re.search(r"STARTS +NODES .*\n.* PENDING +- +in \d+ [hd] ", tables.run_list([state]))


def test_which_limit_a_run_waits_for(look: Look) -> None:
    (state,) = look(record("7", JobState.PENDING, reason="AssocGrpGRES", submitted=NOW))
    words = "you have 2 GPUs in physics, 2 are in use by run b until about 14:00"
    assert f"\nLimit       {words}\n" in tables.status([state], waits={"7": words})
    assert "Limit" not in tables.status([state], waits={"8": words})
    points = look(*(record(f"7_{n}", JobState.PENDING, reason="AssocGrpGRES", submitted=NOW) for n in range(2)))
    assert f"\nLimit       {words}\n" in tables.status(points, waits={"7_1": words})


def test_what_slurm_does_not_expect_or_did_in_the_past_is_unknown(look: Look) -> None:
    for start in (None, NOW - timedelta(hours=1)):
        (state,) = look(record("7", JobState.PENDING, submitted=NOW, expected_start=start))
        assert text([state])[1:] == ["Starts      unknown: Slurm expects no time yet"]
        assert "STARTS" not in tables.run_list([state])
    (state,) = look(record("7", JobState.PENDING, reason="PartitionNodeLimit", submitted=NOW))
    assert text([state]) == ["Waited      N"]


def test_a_job_that_started_or_ended_has_waited_until_then(look: Look) -> None:
    times = {"submitted": NOW - timedelta(hours=9), "started": NOW - timedelta(hours=8)}
    for state in (JobState.RUNNING, JobState.COMPLETED):
        (point,) = look(record("7", state, **times))
        assert waiting.waited(point) == timedelta(hours=1)
        assert text([point]) == ["Waited      N"]
    (never,) = look(record("7", JobState.CANCELLED, submitted=NOW, ended=NOW + timedelta(hours=2)))
    assert waiting.waited(never) == timedelta(hours=2)


def test_a_sweep_starts_with_the_first_of_its_points(look: Look) -> None:
    later = {**EXPECTED, "expected_start": MAINT.end + timedelta(days=1)}
    points = look(record("7_0", JobState.PENDING, **later), record("7_1", JobState.PENDING, **EXPECTED))
    assert text(points) == [
        "Starts      the next one in N, as Slurm expects now",
        "Sooner      it cannot end before reservation maint begins at START; scontrol update JobId=7 TimeLimit=N "
        "makes it fit",
    ]


def test_components_wait_for_the_last_of_them(look: Look) -> None:
    last = {**EXPECTED, "expected_start": MAINT.end + timedelta(hours=1)}
    (state,) = look(record("7+0", JobState.PENDING, **EXPECTED), record("7+1", JobState.PENDING, **last))
    assert waiting.expected_start(state) == last["expected_start"]
    assert state.reservation is None
