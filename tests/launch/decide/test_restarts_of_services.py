"""Ends of replicas: they do not need each other, and the job is over with the last one."""

from slurm_tf.launch.decide.restarts import Outcome
from tests.launch.decide.test_restarts import policy, starts


def test_a_service_is_over_when_all_replicas_are_done() -> None:
    job = policy("serve")
    assert job.ended("replica:0", 0, 1.0) == job.ended("replica:2", 0, 2.0) == []
    assert not job.over
    assert job.ended("replica:1", 0, 90.0) == []
    assert job.over
    assert job.outcome == Outcome(0, "")


def test_a_replica_starts_again_alone_and_without_a_budget_the_others_go_on() -> None:
    job = policy("serve", max_restarts=1)
    assert starts(job.ended("replica:0", -9, 1.0)) == {"replica:0"}
    assert job.ended("replica:0", -9, 2.0) == []
    assert job.ended("replica:1", None, 3.0) == []  # its node is gone
    assert job.outcome is None
    assert "the job goes on without it" in job.notes[-1]
    job.ended("replica:2", 69, 4.0)
    assert job.outcome is not None
    assert job.outcome.code == 69
