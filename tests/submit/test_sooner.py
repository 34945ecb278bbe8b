"""What would make a job start sooner: which changes are tried, and what the user is told."""

import os
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest

from slurm_tf.jobspec import plan
from slurm_tf.jobspec.configuration import Job
from slurm_tf.run.folder import RunFolder
from slurm_tf.submit import new_run, sooner
from tests.conftest import RECORDED

JOB = (
    'name = "a"\nstrategy = "multi_worker"\ncommand = ["x"]\ntime = {time}\n{more}'
    "[roles.worker]\ncount = 4\nntasks-per-node = 1\n"
)
NOW = datetime.fromisoformat("2026-11-27T22:20:00").astimezone()
LATE = datetime.fromisoformat("2026-11-27T23:59:08").astimezone()
# Answers as sbatch 22.05.8 does: with the start that the test has for this time limit and number of tasks.
SBATCH = """#!/bin/bash
[ "$1" = --test-only ] || exit 9
limit=$(sed -n 's/^#SBATCH --time=//p' "$2") tasks=$(sed -n 's/^#SBATCH --ntasks=//p' "$2")
echo "$limit $tasks" >> "$ASKED"
{answers}
echo "sbatch: Job 7 to start at $start using 4 processors on nodes node[1-4] in partition main" >&2
"""
RESERVED = """  waits   reservation maint begins at 2026-11-27T22:59:08 and ends at 2026-11-27T23:59:08
"""

Told = Callable[..., tuple[str, list[str]]]


@pytest.fixture
def told(load: Callable[..., Job], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Told:
    """Return what is told of a job, and what sbatch was asked, with these answers of sbatch and reservations."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("ASKED", str(tmp_path / "asked"))
    new_run.nodes_of.cache_clear()

    def tell(answers: str, reservations: str, time: object = 60, more: str = "") -> tuple[str, list[str]]:
        shown = f"echo '{reservations}'"
        for name, text in (("sbatch", SBATCH.format(answers=answers)), ("scontrol", f"#!/bin/sh\n{shown}\n")):
            (folder / name).write_text(text)
            (folder / name).chmod(0o755)
        fitted = plan.fit(load(JOB.format(time=time, more=more)), RunFolder(str(tmp_path / "runs" / "a-1")))
        lines = sooner.lines(fitted, LATE, NOW)
        asked = tmp_path / "asked"
        return "".join(f"  {line}\n" for line in lines), asked.read_text().splitlines() if asked.exists() else []

    return tell


MAINT, _ = (RECORDED / "slurm-22.05.8" / "scontrol-reservations.txt").read_text().splitlines()
NONE = "No reservations in the system"
LATER, SOONER, NEXT = "start=2026-11-27T23:59:08", "start=2026-11-27T22:29:10", "start=2026-11-27T22:20:02"


def test_a_time_limit_that_fits_before_a_reservation_and_fewer_workers_with_it(told: Told) -> None:
    text, asked = told(f"{SOONER}; [ $tasks = 2 ] && {NEXT}", MAINT)
    # nodes are free at 22:29:10, 28 minutes and more before the reservation
    assert asked == ["00:38:00 4", "00:28:00 4", "00:38:00 2", "00:38:00 1"]
    assert text == (
        RESERVED
        + "  sooner  --time=00:28:00: would start at 2026-11-27T22:29:10\n"
        + "  sooner  --time=00:38:00 --set roles.worker.count=2: would start at 2026-11-27T22:20:02\n"
    )


def test_without_a_reservation_halves_are_tried(told: Told) -> None:
    text, asked = told(f"{LATER}; [ $tasks = 1 ] && {NEXT}", NONE, time=240)
    assert asked == ["02:00:00 4", "01:00:00 4", "04:00:00 2", "04:00:00 1"]
    assert text == "  sooner  --set roles.worker.count=1: would start at 2026-11-27T22:20:02\n"


def test_a_job_of_its_own_reservation_does_not_wait_for_others(told: Told) -> None:
    text, _ = told(LATER, MAINT, more='sbatch.reservation = "course"\n')
    assert text == (
        "  sooner  none of --time=00:30:00, --time=00:15:00, --set roles.worker.count=2, --set roles.worker.count=1 "
        "would start sooner\n"
    )


def test_a_start_within_the_reservation_is_not_believed(told: Told) -> None:
    # sbatch 22.05.8 says so where other jobs wait
    text, _ = told("start=2026-11-27T22:55:00; [ $limit = 00:19:00 ] && start=2026-11-27T22:29:10", MAINT)
    assert text == RESERVED + "  sooner  --time=00:19:00: would start at 2026-11-27T22:29:10\n"


def test_what_sbatch_refuses_is_not_advised_and_a_silent_one_ends_the_trials(told: Told) -> None:
    text, asked = told("[ $tasks = 4 ] || { echo 'sbatch: error: Invalid account' >&2; exit 1; }; " + SOONER, MAINT)
    assert len(asked) == 4
    assert text == RESERVED + "  sooner  --time=00:28:00: would start at 2026-11-27T22:29:10\n"
    text, asked = told("echo 'Unable to contact slurm controller' >&2; exit 1", MAINT)
    assert len(asked) == 5
    assert text.startswith(RESERVED + "  sooner  what else would start sooner is unknown: Unable to contact")


def test_a_job_that_starts_soon_is_not_tried() -> None:
    assert sooner.try_changes(None, NOW, NOW) == sooner.Trials()  # type: ignore[arg-type]
