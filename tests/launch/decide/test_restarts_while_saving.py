"""What becomes of a job whose tasks end while its programs save, to be ended then."""

from slurm_tf.launch.decide.restarts import Outcome, OutcomeCause, RestartPolicy
from slurm_tf.run.status import AttemptState
from tests.launch.decide.test_restarts import ends, policy


def interrupted(name: str, at_signal: tuple[str, ...] = ()) -> RestartPolicy:
    job = policy(name)
    job.save(at_signal)
    assert job.state == AttemptState.SAVING
    return job


def test_what_ends_while_programs_save_is_not_started_again() -> None:
    job = policy("multi_worker", max_restarts=3)
    job.save(())
    assert job.ended("worker:1", -15, 1.0) == job.ended("worker:0", 75, 1.0) == []
    assert not job.over
    assert ends(job.stop(75, "preemption", 2.0)) == {"worker:2"}
    job.ended("worker:2", 75, 3.0)
    assert job.over
    assert job.outcome == Outcome(75, "preemption", OutcomeCause.TERMINATION)


def test_a_restart_that_is_interrupted_does_not_begin() -> None:
    job = policy("multi_worker", max_restarts=1)
    job.ended("worker:1", 1, 1.0)
    job.save(())
    assert job.ended("worker:0", -15, 2.0) == job.ended("worker:2", -15, 2.0) == []
    assert job.stop(75, "preemption", 3.0) == []
    assert job.over


def test_a_lead_that_is_done_while_others_save_is_done() -> None:
    job = interrupted("multi_worker")
    job.ended("worker:0", 0, 1.0)
    assert job.state.value == "finishing"
    assert ends(job.stop(75, "preemption", 2.0)) == {"worker:1", "worker:2"}
    assert job.outcome == Outcome(0, "")


def test_a_lead_that_saves_at_a_signal_is_not_done() -> None:
    job = interrupted("multi_worker", ("worker:0", "worker:1", "worker:2"))
    job.ended("worker:0", 0, 1.0)
    assert job.outcome is None


def test_training_goes_on_after_a_termination_that_was_none() -> None:
    job = policy("multi_worker", max_restarts=1)
    job.save(())
    job.resume()
    assert ends(job.ended("worker:1", None, 1.0)) == {"worker:0", "worker:2"}
    assert job.state.value == "restarting"


def test_a_restart_goes_on_after_a_termination_that_was_none() -> None:
    job = policy("multi_worker", max_restarts=1)
    assert ends(job.ended("worker:1", 1, 1.0)) == {"worker:0", "worker:2"}
    job.save(())
    job.ended("worker:0", -15, 2.0)
    job.resume()
    assert job.ended("worker:2", None, 3.0) == []
    # one restart, of a new step
    assert (job.state, job.restarts) == (AttemptState.RENEWING, 1)
