"""What becomes of a job when a task ends: the table of restarts.py, row by row, and that every job ends."""

from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_tf.launch.decide.restarts import (
    Action,
    Outcome,
    OutcomeCause,
    RestartPolicy,
    TaskError,
    Verb,
    describe,
    exit_code,
)
from slurm_tf.run.settings import LaunchSettings, RoleSettings
from slurm_tf.run.status import AttemptState
from slurm_tf.run.train_settings import TrainSettings

ROLES = {
    "single": {"worker": 1},
    "multi_worker": {"worker": 3},
    "horovod": {"worker": 3},
    "chief and workers": {"chief": 1, "worker": 2, "evaluator": 1},
    "ps": {"chief": 1, "worker": 2, "ps": 1, "evaluator": 1},
    "between_graph": {"worker": 2, "ps": 1},
    "engine": {"scheduler": 1, "worker": 2, "driver": 1},
    "serve": {"replica": 3},
    "workers and a data service": {"worker": 2, "data-dispatcher": 1, "data-worker": 2},
}


def hosts(name: str) -> dict[str, str]:
    return {task: f"n{task[-1]}" for task in sorted(all_of(name))}


def policy(name: str, max_restarts: int = 0, controller: str = "gloo") -> RestartPolicy:
    """Return one whose tasks run."""
    job = RestartPolicy(settings(name, max_restarts, controller))
    assert starts(job.begin(hosts(name))) == all_of(name)
    return job


def settings(name: str, max_restarts: int, controller: str = "gloo") -> LaunchSettings:
    roles = tuple(RoleSettings(role, count) for role, count in ROLES[name].items())
    values: Any = {
        "run": "r", "local": True, "strategy": "multi_worker" if " and " in name else name, "roles": roles, "env": {},
        "cluster_flags": False, "gpu_sharing": "split", "max_restarts": max_restarts, "register_timeout": 1.0,
        "wait": 60.0, "kill_wait": 5.0, "ports": None, "coordinator_ports": None, "interface": "",
        "train": TrainSettings(),
        "horovod": controller if name == "horovod" else "",
    }  # fmt: skip
    return LaunchSettings(**values)


def ends(actions: list[Action]) -> set[str]:
    assert all(action.verb is Verb.END for action in actions)
    return {action.task for action in actions}


def starts(actions: list[Action]) -> set[str]:
    assert all(action.verb is Verb.START for action in actions)
    return {action.task for action in actions}


def all_of(name: str) -> set[str]:
    return {f"{role}:{index}" for role, count in ROLES[name].items() for index in range(count)}


def test_ps_the_chief_is_done() -> None:
    job = policy("ps")
    # the evaluator may finish its last evaluation, and nobody needs workers any more
    assert ends(job.ended("chief:0", 0, 10.0)) == {"worker:0", "worker:1"}
    assert job.ended("worker:0", -15, 11.0) == job.ended("worker:1", -15, 11.0) == []
    assert ends(job.ended("evaluator:0", 0, 12.0)) == {"ps:0"}
    assert not job.over
    job.ended("ps:0", -15, 13.0)
    assert job.over
    assert job.outcome is not None
    assert job.outcome.code == 0


def test_between_graph_ps_serve_until_the_last_worker_is_done() -> None:
    job = policy("between_graph")
    assert job.ended("worker:0", 0, 10.0) == []
    assert ends(job.ended("worker:1", 0, 20.0)) == {"ps:0"}


def test_stragglers_are_ended_after_a_grace() -> None:
    job = policy("multi_worker")
    assert job.ended("worker:0", 0, 10.0) == []
    assert job.wakes_at == 70.0
    assert job.tick(69.0) == []
    assert ends(job.tick(70.0)) == {"worker:1", "worker:2"}
    assert "stragglers worker:1, worker:2" in job.notes[-1]
    job.ended("worker:1", -15, 71.0)
    job.ended("worker:2", -9, 76.0)
    assert job.over
    assert job.outcome is not None
    assert job.outcome.code == 0


def test_a_worker_that_is_done_first_is_done() -> None:
    job = policy("multi_worker")
    assert job.ended("worker:2", 0, 1.0) == []
    assert job.outcome is None


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("multi_worker", "worker:1"),
        ("horovod", "worker:1"),
        ("chief and workers", "chief:0"),
        ("ps", "chief:0"),
        ("ps", "ps:0"),
    ],
)
@pytest.mark.parametrize("code", [3, -9])
def test_a_fatal_end_without_a_budget(name: str, task: str, code: int) -> None:
    job = policy(name)
    assert ends(job.ended(task, code, 1.0)) == all_of(name) - {task}
    assert job.outcome is not None
    assert job.outcome.code == exit_code(code)
    assert job.outcome.reason.startswith(f"{task} on n{task[-1]} ")


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("multi_worker", "worker:1"),
        ("horovod", "worker:1"),
        ("ps", "chief:0"),
        ("ps", "ps:0"),
        ("engine", "scheduler:0"),
        ("engine", "driver:0"),
    ],
)
def test_a_fatal_end_within_the_budget_starts_all_again(name: str, task: str) -> None:
    job = policy(name, max_restarts=1)
    others = all_of(name) - {task}
    assert ends(job.ended(task, 1, 1.0)) == others
    *first, last = sorted(others)
    for other in first:
        assert job.ended(other, -15, 2.0) == []
    assert starts(job.ended(last, -9, 3.0)) == all_of(name)
    assert "restart 1 of 1" in job.notes[-1]
    job.ended(task, 1, 4.0)
    assert job.outcome is not None
    assert job.outcome.code == 1


@pytest.mark.parametrize("name", ["ps", "between_graph", "engine"])
def test_an_independent_worker_starts_again_alone(name: str) -> None:
    job = policy(name, max_restarts=1)
    assert starts(job.ended("worker:1", -9, 1.0)) == {"worker:1"}
    # with the budget spent the others go on without it
    assert job.ended("worker:1", -9, 2.0) == []
    assert job.outcome is None
    assert "the job goes on without it" in job.notes[-1]


def test_ps_a_worker_may_not_end_even_well_and_the_last_one_counts() -> None:
    job = policy("ps")
    assert job.ended("worker:1", 0, 1.0) == []
    assert "goes on without it" in job.notes[-1]
    assert "chief:0" in ends(job.ended("worker:0", -9, 2.0))
    assert job.outcome is not None
    assert job.outcome.code == 137


def test_an_evaluator_is_never_fatal() -> None:
    job = policy("chief and workers", max_restarts=1)
    assert starts(job.ended("evaluator:0", 1, 1.0)) == {"evaluator:0"}
    assert job.ended("evaluator:0", 1, 2.0) == []
    assert job.outcome is None


LOST = "worker:1 on n1 is lost: its agent's connection ended"


@pytest.mark.parametrize("name", ["multi_worker", "horovod"])
def test_a_lost_task_without_a_budget(name: str) -> None:
    job = policy(name)
    assert ends(job.ended("worker:1", None, 1.0)) == {"worker:0", "worker:2"}
    assert job.outcome is not None
    assert (job.outcome.code, job.outcome.reason) == (1, LOST)


@pytest.mark.parametrize("name", ["multi_worker", "horovod"])
def test_a_lost_task_within_the_budget_takes_a_new_step(name: str) -> None:
    job = policy(name, max_restarts=2)
    assert ends(job.ended("worker:1", None, 1.0)) == {"worker:0", "worker:2"}
    assert job.notes == [f"{LOST}; a new step is started (restart 1 of 2)"]
    assert job.step_is_lost
    assert job.ended("worker:0", -15, 2.0) == []
    assert job.state.value == "restarting"
    assert job.ended("worker:2", None, 3.0) == []
    assert job.state == AttemptState.RENEWING
    job.renewed()
    assert job.state.value == "registering"
    assert not job.step_is_lost
    # the tasks may be elsewhere now
    assert starts(job.begin({**hosts(name), "worker:1": "n7"})) == all_of(name)
    # in the new step all can start again in place
    job.ended("worker:1", 1, 4.0)
    job.ended("worker:0", -15, 5.0)
    assert starts(job.ended("worker:2", -15, 5.0)) == all_of(name)
    assert job.notes[1:] == [
        "worker:1 on n7 ended with exit code 1; all tasks are started again in place (restart 2 of 2)"
    ]
    job.ended("worker:1", None, 6.0)
    assert job.outcome is not None
    assert job.outcome.reason == LOST.replace("n1", "n7")


def test_over_mpi_every_start_again_takes_a_new_step() -> None:
    job = policy("horovod", max_restarts=1, controller="mpi")
    assert ends(job.ended("worker:1", -9, 1.0)) == {"worker:0", "worker:2"}
    killed = "worker:1 on n1 was ended by signal 9 (SIGKILL)"
    # Slurm kills the others' agents with the step: nothing is said of them, and nobody else is to blame
    job.ended("worker:0", None, 1.0)
    job.ended("worker:2", None, 1.0)
    assert job.notes == [f"{killed}; a new step is started (restart 1 of 1)"]
    assert job.state == AttemptState.RENEWING
    job.renewed()
    assert starts(job.begin(hosts("horovod"))) == all_of("horovod")
    job.ended("worker:1", -9, 2.0)
    job.ended("worker:0", None, 2.0)
    job.ended("worker:2", None, 2.0)
    assert job.over
    assert job.outcome is not None
    assert (job.outcome.code, job.outcome.reason) == (137, killed)


def test_who_would_start_again_alone_is_not_worth_a_new_step() -> None:
    job = policy("ps", max_restarts=5)
    assert job.ended("worker:1", None, 1.0) == job.ended("evaluator:0", None, 1.0) == []
    assert (job.state.value, job.restarts) == ("running", 0)
    assert all("the job goes on without it" in note for note in job.notes)
    # but the last worker is, and brings all back
    assert ends(job.ended("worker:0", None, 2.0)) == {"chief:0", "ps:0"}
    job.ended("chief:0", -15, 3.0)
    job.ended("ps:0", -15, 3.0)
    assert job.state == AttemptState.RENEWING
    assert starts(job.begin(hosts("ps"))) == all_of("ps")


def test_a_task_that_is_missing_since_long_takes_a_new_step_with_the_next_restart_of_all() -> None:
    job = policy("ps", max_restarts=1)
    job.ended("worker:1", None, 1.0)
    job.ended("chief:0", 1, 2.0)
    assert "a new step is started" in job.notes[-1]


def test_srun_ends_an_allreduce_step_with_its_evaluator() -> None:
    job = policy("chief and workers", max_restarts=1)
    assert ends(job.ended("evaluator:0", None, 1.0)) == {"chief:0", "worker:0", "worker:1"}
    assert "a new step is started" in job.notes[-1]


def test_a_task_lost_during_a_restart_makes_it_one_in_a_new_step() -> None:
    job = policy("multi_worker", max_restarts=5)
    job.ended("worker:1", 1, 1.0)
    assert not job.step_is_lost
    job.ended("worker:0", None, 2.0)
    assert job.step_is_lost
    assert job.ended("worker:2", -15, 3.0) == []
    assert job.state == AttemptState.RENEWING
    assert job.restarts == 1
    lost = "worker:0 on n0 is lost: its agent's connection ended"
    assert job.notes[1:] == [f"{lost}; a new step is started (restart 1 of 5)"]


def test_a_task_that_does_not_end_counts_as_lost() -> None:
    job = policy("multi_worker", max_restarts=5)
    job.ended("worker:1", 1, 1.0)
    job.ended("worker:0", -15, 2.0)
    assert job.wakes_at == 21.0
    assert job.tick(21.0) == []
    assert job.state == AttemptState.RENEWING
    assert "worker:2 on n2 is lost" in job.notes[-1]
    assert job.wakes_at is None


def test_stopping_keeps_the_first_reason() -> None:
    job = policy("multi_worker")
    job.ended("worker:1", 7, 1.0)
    job.stop(143, "the coordinator got SIGTERM", 2.0)
    assert job.outcome is not None
    assert job.outcome.code == 7


def test_the_task_is_named_whose_error_came_first_even_if_it_ends_last() -> None:
    job = policy("multi_worker")
    job.ended("worker:0", 1, 10.0, TaskError("UnavailableError: failed to connect", 9.5))
    job.ended("worker:1", -15, 11.0, TaskError("KeyError: 'x' (train.py, line 3)", 8.0))
    job.ended("worker:2", -15, 11.0)
    assert job.over
    assert job.failed_task == "worker:1"
    assert job.outcome == Outcome(1, "worker:1 on n1 failed: KeyError: 'x' (train.py, line 3)")


def test_a_later_error_is_only_a_consequence() -> None:
    job = policy("multi_worker")
    job.ended("worker:1", 1, 10.0, TaskError("KeyError: 'x'", 8.0))
    job.ended("worker:0", 1, 11.0, TaskError("UnavailableError: failed to connect", 9.5))
    assert job.failed_task == "worker:1"
    assert job.outcome == Outcome(1, "worker:1 on n1 ended with exit code 1: KeyError: 'x'")
    restarted = policy("multi_worker", max_restarts=1)
    restarted.ended("worker:1", 1, 10.0, TaskError("KeyError: 'x'", 8.0))
    assert restarted.restart_reason == "worker:1 on n1 ended with exit code 1: KeyError: 'x'"
    assert (restarted.failed_task, restarted.outcome) == ("", None)


def test_an_end_that_was_asked_for_has_no_culprit() -> None:
    job = policy("multi_worker")
    job.stop(143, "cancel: the coordinator got SIGTERM", 10.0)
    job.ended("worker:1", 1, 11.0, TaskError("KeyError: 'x'", 8.0))
    assert job.failed_task == ""
    assert job.outcome == Outcome(143, "cancel: the coordinator got SIGTERM", OutcomeCause.TERMINATION)


def test_words() -> None:
    assert describe(-9) == "was ended by signal 9 (SIGKILL)"
    assert describe(-35) == "was ended by signal 35"  # a real-time signal without a name
    assert describe(2) == "ended with exit code 2"
    assert exit_code(-15) == 143


codes = st.sampled_from([0, 1, 3, -9, -15, None])


@given(
    st.sampled_from(sorted(ROLES)),
    st.sampled_from(["gloo", "mpi"]),
    st.integers(0, 3),
    st.lists(codes, min_size=60, max_size=60),
    st.randoms(),
)
def test_every_job_ends_with_nothing_running(
    name: str, controller: str, budget: int, order: list[int | None], random: Random
) -> None:
    """Any tasks end in any way at any time; those told to end do, or are given up."""
    job = RestartPolicy(settings(name, budget, controller))
    running: set[str] = set()

    def carry_out(actions: list[Action]) -> None:
        for action in actions:
            if action.verb is Verb.START:
                assert action.task not in running
                running.add(action.task)
        if job.state == AttemptState.RENEWING:
            # who was given up ends with its step
            running.clear()
            job.renewed()
            carry_out(job.begin(hosts(name)))
            assert running == all_of(name)

    carry_out(job.begin(hosts(name)))
    now = 0.0
    for code in order:
        if job.over:
            break
        now += random.choice([0.0, 1.0, 100.0])
        if running and random.random() < 0.8:
            task = random.choice(sorted(running))
            running.discard(task)
            carry_out(job.ended(task, code, now))
        else:
            carry_out(job.tick(now))
            running &= set(job._running())
    while not job.over and running:
        task = sorted(running)[0]
        running.discard(task)
        carry_out(job.ended(task, 1, now))
    assert job.over
    assert job.restarts <= budget
    assert job.outcome is not None
    assert bool(job.outcome.code) == bool(job.outcome.reason)


@pytest.mark.parametrize(
    ("code", "cause"), [(None, OutcomeCause.TASK_LOST), (1, OutcomeCause.PROGRAM), (-9, OutcomeCause.PROGRAM)]
)
def test_a_job_that_lost_a_task_says_so(code: int | None, cause: OutcomeCause) -> None:
    job = policy("multi_worker")
    job.ended("worker:1", code, 1.0)
    assert job.outcome is not None
    assert job.outcome.cause is cause
