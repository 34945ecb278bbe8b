"""What signals mean, and when programs may be ended: each row of the table of termination.py."""

import dataclasses
import signal
from typing import Any

import pytest

from slurm_tf.launch.decide.termination import Termination, TerminationAction
from slurm_tf.run.attempts import EndCause
from slurm_tf.run.settings import RoleSettings
from slurm_tf.slurm.in_job import JobStatus
from tests.launch.conftest import DEFAULTS

RUNNING, ENDING = JobStatus("RUNNING"), JobStatus("COMPLETING")
PREEMPTED, SILENT = JobStatus("RUNNING", preempted=True), JobStatus("", problem="no answer in time")
SAVE, END = TerminationAction.SAVE, TerminationAction.END
BOTH = ("worker:0", "worker:1")


def termination(listen: bool = True, **changes: Any) -> Termination:
    """Return that of a job of two workers that run, of which the first writes checkpoints if they `listen`."""
    settings = dataclasses.replace(DEFAULTS, local=False, warning=("USR1", 120.0), kill_wait=5.0, **changes)
    made = Termination(settings)
    for name in BOTH:
        made.started(name)
        if listen:
            made.listening(name, name == "worker:0", 0.0)
    return made


def term(made: Termination, who: str = "", now: float = 10.0) -> None:
    made.signal(signal.SIGTERM, who or "the coordinator", not who, now)


def actions(made: Termination, now: float) -> list[TerminationAction]:
    """Return all that is due."""
    return list(iter(lambda: made.due(now), None))


def test_at_the_time_limit_a_second_sigterm_ends_a_program_that_still_saves() -> None:
    made = termination()
    made.signal(signal.SIGUSR1, "worker:0", False, 10.0)
    made.learn(RUNNING, 8.0, 10.0)
    assert actions(made, 14.0) == [SAVE]
    term(made, now=14.0)
    assert (actions(made, 14.0), made.cause) == ([END], EndCause.TIMEOUT)


@pytest.mark.parametrize(
    ("who", "standing", "left", "cause", "code"),
    [
        ("worker:1", PREEMPTED, 5.0, EndCause.PREEMPTION, 75),
        ("", PREEMPTED, 0.0, EndCause.PREEMPTION, 75),
        ("", ENDING, 300.0, EndCause.CANCEL, 143),
        ("", RUNNING, 300.0, EndCause.CANCEL, 143),
        ("", ENDING, -1.0, EndCause.TIMEOUT, 75),
        ("", ENDING, None, EndCause.CANCEL, 143),
        ("", JobStatus("gone"), None, EndCause.CANCEL, 143),
        ("", SILENT, None, EndCause.UNKNOWN, 143),
        ("worker:1", SILENT, None, EndCause.UNKNOWN, 143),
    ],
)
def test_what_sigterm_means_is_squeues_to_say(
    who: str, standing: JobStatus, left: float | None, cause: EndCause, code: int
) -> None:
    made = termination()
    term(made, who)
    assert actions(made, 10.0) == [SAVE]
    assert made.asks
    made.learn(standing, left, 10.1)
    assert made.cause == cause
    assert actions(made, 10.1) == []
    made.saved("worker:0", None)
    assert actions(made, 11.0) == [END]
    assert made.code == code


def test_tasks_that_all_get_the_signal_change_nothing() -> None:
    made = termination()
    for who in BOTH * 3:
        term(made, who)
    assert actions(made, 10.0) == [SAVE]
    made.asks = False
    made.learn(PREEMPTED, 30.0, 10.1)
    for who in BOTH * 3:
        term(made, who, 12.0)
    assert (made.cause, made.asks, actions(made, 12.0)) == (EndCause.PREEMPTION, False, [])


@pytest.mark.parametrize("who", ["", "worker:1"])
def test_the_warning_is_a_timeout_at_once(who: str) -> None:
    made = termination()
    made.signal(signal.SIGUSR1, who or "the coordinator", not who, 10.0)
    assert (made.cause, made.asks) == (EndCause.TIMEOUT, True)
    assert actions(made, 10.0) == [SAVE]


def test_nobody_who_saves_is_warned_in_vain_until_somebody_can() -> None:
    made = termination(listen=False)
    made.signal(signal.SIGUSR1, "the coordinator", True, 10.0)
    assert (made.cause, made.begun, actions(made, 10.0)) == (EndCause.NONE, False, [])
    assert "no program says that it can save" in made.notes[-1]
    made.listening("worker:0", True, 15.0)
    assert (made.cause, made.asks, actions(made, 15.0)) == (EndCause.TIMEOUT, True, [SAVE])


def test_at_the_limit_nobody_can_save_and_it_is_a_timeout_all_the_same() -> None:
    made = termination(listen=False)
    made.signal(signal.SIGUSR1, "the coordinator", True, 10.0)
    term(made, now=130.0)
    made.learn(ENDING, 0.0, 130.1)
    assert actions(made, 130.1) == [SAVE, END]
    assert (made.cause, made.can_save) == (EndCause.TIMEOUT, False)


@pytest.mark.parametrize(
    ("left", "state", "cause"),
    [(100.0, "RUNNING", EndCause.TIMEOUT), (100.0, "COMPLETING", EndCause.CANCEL), (300.0, "RUNNING", EndCause.CANCEL)],
)
def test_a_warning_by_sigterm_is_told_from_a_cancel(left: float, state: str, cause: EndCause) -> None:
    made = Termination(dataclasses.replace(DEFAULTS, local=False, warning=("TERM", 60.0)))
    made.started("worker:0")
    term(made)
    made.learn(JobStatus(state), left, 10.1)
    assert made.cause == cause


@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGHUP, signal.SIGUSR1])
def test_other_signals_are_as_sigterm(number: int) -> None:
    made = Termination(dataclasses.replace(DEFAULTS, local=False))
    made.signal(number, "the coordinator", True, 1.0)
    made.learn(RUNNING, 500.0, 1.1)
    assert (made.cause, made.code) == (EndCause.CANCEL, 128 + number)


@pytest.mark.parametrize(
    ("number", "changes", "cancelled"),
    [
        (signal.SIGINT, {}, False),
        (signal.SIGTERM, {}, True),
        (signal.SIGUSR1, {}, True),
        (signal.SIGUSR1, {"local": 1}, 0),
    ],
)
def test_a_cancel_that_needs_no_question(number: int, changes: dict[str, Any], cancelled: bool) -> None:
    made = Termination(dataclasses.replace(DEFAULTS, **{"local": False, "warning": ("USR1", 120.0), **changes}))
    made.signal(number, "the coordinator", True, 1.0, cancelled)
    assert (made.cause, made.asks, made.code) == (EndCause.CANCEL, False, 128 + number)


@pytest.mark.parametrize("first", [PREEMPTED, None])
@pytest.mark.parametrize(
    ("after", "cause"), [(5.0, EndCause.CANCEL), (96.0, EndCause.NONE), (100.0, EndCause.NONE), (115.0, EndCause.NONE)]
)
def test_a_scancel_in_the_grace_time_is_told_from_its_end(
    first: JobStatus | None, after: float, cause: EndCause
) -> None:
    made = termination()
    if first:
        term(made, "worker:0", 10.0)
    else:
        made.signal(signal.SIGUSR1, "the coordinator", True, 10.0)
    made.learn(first or RUNNING, 100.0, 10.0)
    before = made.cause
    assert actions(made, 10.0) == [SAVE]
    term(made, now=10.0 + after)
    assert made.cause == (cause or before)
    assert actions(made, 10.0 + after) == ([] if cause else [END])
    # whatever comes later: a cancel stays one
    made.learn(PREEMPTED, 100.0, 120.0)
    assert made.cause == (cause or before)


def test_a_scancel_after_a_warning_that_squeue_did_not_explain() -> None:
    made = termination()
    made.signal(signal.SIGUSR1, "the coordinator", True, 10.0)
    made.learn(SILENT, None, 25.0)
    before = made.cause
    term(made, now=26.0)
    assert (before, made.cause) == (EndCause.TIMEOUT, EndCause.CANCEL)


def test_agents_alone_may_be_a_step_that_srun_ends() -> None:
    made = termination()
    term(made, "worker:0")
    assert actions(made, 10.0) == [SAVE]
    made.learn(RUNNING, 500.0, 10.1)
    assert (made.cause, made.wakes_at) == (EndCause.NONE, 12.1)
    assert made.withdraw()
    assert (made.begun, actions(made, 20.0)) == (False, [])
    # the next one counts, and has its own time
    term(made, "", 500.0)
    assert made.asks
    made.learn(RUNNING, 900.0, 500.1)
    assert (made.cause, actions(made, 501.0)) == (EndCause.CANCEL, [SAVE])


def test_a_lost_agent_explains_nothing_where_the_step_goes_on_without_it() -> None:
    made = termination(strategy="ps")
    term(made, "worker:0")
    assert not made.withdraw()
    assert actions(made, 10.0) == [SAVE]


def test_agents_alone_are_a_cancel_where_no_agent_is_lost() -> None:
    made = termination()
    term(made, "worker:0")
    made.learn(RUNNING, 500.0, 10.1)
    made.due(12.0)
    before = made.cause
    made.due(12.1)
    assert (before, made.cause) == (EndCause.NONE, EndCause.CANCEL)
    assert not made.withdraw()


def test_a_lost_agent_does_not_explain_what_reached_the_coordinator() -> None:
    made = termination()
    term(made, "worker:0")
    term(made)
    assert not made.withdraw()
    made.learn(RUNNING, 500.0, 10.1)
    assert made.cause == EndCause.CANCEL


@pytest.mark.parametrize(("left", "until"), [(120.0, 110.0), (40.0, 30.0), (16.0, 12.0), (5.0, 10.0), (0.0, 10.0)])
def test_a_save_has_the_time_that_is_left_but_for_what_comes_after(left: float, until: float) -> None:
    made = termination()
    term(made, "worker:0", 100.0)
    assert actions(made, 100.0) == [SAVE]
    made.learn(PREEMPTED, left, 100.0)
    assert actions(made, 100.0 + until - 0.1) == []
    assert made.wakes_at == 100.0 + until
    assert actions(made, 100.0 + until) == [END]
    assert "worker:0 did not save in time" in made.notes


def test_a_writer_that_ends_or_cannot_save_is_not_waited_for() -> None:
    for ends in (True, False):
        made = termination()
        term(made, "worker:0")
        made.learn(PREEMPTED, 60.0, 10.0)
        assert actions(made, 10.0) == [SAVE]
        if ends:
            made.ended("worker:0")
        else:
            made.saved("worker:0", "disk full")
        assert actions(made, 10.5) == [END]
    assert "worker:0 could not save: disk full" in made.notes


def test_a_program_that_saves_at_a_signal_has_the_time_until_its_end() -> None:
    made = termination(listen=False, checkpoint_signal="USR1", strategy="ps", roles=(RoleSettings("worker", 2),))
    made.started("chief:0")
    made.started("ps:0")
    assert [name for name in ("chief:0", "worker:0", "ps:0") if made.heeds_a_signal(name)] == ["chief:0"]
    term(made, "worker:0")
    made.learn(PREEMPTED, 60.0, 10.0)
    assert actions(made, 10.0) == [SAVE]
    assert actions(made, 50.0) == []
    made.ended("chief:0")
    assert actions(made, 51.0) == [END]
    assert made.can_save


def test_a_second_interrupt_ends_all_at_once() -> None:
    made = termination()
    made.signal(signal.SIGINT, "the coordinator", True, 1.0)
    assert actions(made, 1.0) == [SAVE]
    assert not made.at_once
    made.signal(signal.SIGINT, "the coordinator", True, 2.0)
    assert made.at_once
    assert actions(made, 2.0) == [END, END]
    made.signal(signal.SIGINT, "the coordinator", True, 3.0)
    assert actions(made, 3.0) == []
