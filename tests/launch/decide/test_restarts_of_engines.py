"""Restarts of jobs with roles that do not train: an engine, and TensorFlow's data service."""

import pytest

from slurm_tf.launch.decide.restarts import Outcome, describe
from tests.launch.decide.test_restarts import all_of, ends, policy


def test_an_engine_ends_with_its_driver_at_once() -> None:
    job = policy("engine")
    # as after client.shutdown() of Dask: they are told to end before the driver does
    assert job.ended("scheduler:0", 0, 9.0) == job.ended("worker:1", 0, 9.0) == []
    assert ends(job.ended("driver:0", 0, 10.0)) == {"worker:0"}
    assert job.ended("worker:0", -15, 10.1) == []
    assert job.over
    assert job.outcome == Outcome(0, "")


def test_a_data_service_serves_until_the_last_straggler_is_done() -> None:
    job = policy("workers and a data service")
    assert job.ended("worker:0", 0, 10.0) == []
    assert ends(job.ended("worker:1", 0, 20.0)) == {"data-dispatcher:0", "data-worker:0", "data-worker:1"}


@pytest.mark.parametrize("code", [0, -9])
def test_what_a_data_worker_takes_with_it_is_said(code: int) -> None:
    """It is not started again by itself, whatever is left of the budget."""
    job = policy("workers and a data service", max_restarts=1)
    others = all_of("workers and a data service") - {"data-worker:1"}
    assert ends(job.ended("data-worker:1", code, 1.0)) == others
    lost = f"data-worker:1 on n1 {describe(code)}; what it had read and not delivered is lost"
    assert job.notes == [f"{lost}; all tasks are started again in place (restart 1 of 1)"]
    job = policy("workers and a data service")
    job.ended("data-worker:1", code, 1.0)
    assert job.outcome is not None
    assert (job.outcome.code, job.outcome.reason) == (137 if code else 1, lost)
