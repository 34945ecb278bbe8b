"""Job states, against the list in squeue's manual of Slurm 22.05.8."""

import pytest

from slurm_tf.slurm.job_states import JobState
from tests.conftest import RECORDED

ROWS = [line.split() for line in (RECORDED / "slurm-22.05.8" / "squeue-state-codes.txt").read_text().splitlines()]


@pytest.mark.parametrize(("short", "name"), ROWS)
def test_every_state_of_the_manual(short: str, name: str) -> None:
    assert JobState.parse(short) is JobState.parse(name) is JobState[name]


def test_no_state_of_our_own() -> None:
    assert {state.name for state in JobState} == {name for _, name in ROWS} | {"UNKNOWN"}


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("CANCELLED by 1000", JobState.CANCELLED),
        ("CANCELLED+", JobState.CANCELLED),
        ("completed ", JobState.COMPLETED),
        ("", JobState.UNKNOWN),
        ("EXPEDITING", JobState.UNKNOWN),
        ("?", JobState.UNKNOWN),
    ],
)
def test_text_of_sacct(text: str, state: JobState) -> None:
    assert JobState.parse(text) is state


def test_only_completed_succeeded_and_unknown_has_not_ended() -> None:
    assert [state for state in JobState if state.succeeded] == [JobState.COMPLETED]
    assert not JobState.UNKNOWN.ended
    assert JobState.PREEMPTED.ended
    assert not JobState.COMPLETING.ended
