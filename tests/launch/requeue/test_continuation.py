"""A requeue during a cancel, or where Slurm is slow. Slurm's commands are fakes."""

from slurm_tf.launch.decide.restarts import Outcome
from slurm_tf.launch.requeue import continuation
from slurm_tf.run import job_chain
from tests.launch.requeue.ended_job import PREEMPTED, EndedJob, ends_early, preemption, quiet


def test_a_cancel_that_comes_while_slurm_is_asked_is_noticed(ended: EndedJob) -> None:
    def is_stopped() -> bool:
        return "squeue" in (ended.kept / "calls").read_text()

    (ended.kept / "calls").touch()
    assert continuation.arrange(ended.context, None, 0.0, is_stopped) == continuation.Continuation(False, "cancelled")
    assert ended.calls == []


def test_the_successor_of_a_cancelled_job_is_cancelled_as_well(ended: EndedJob) -> None:
    ends_early(ended, quiet())
    ended.answer("scontrol-requeue", 1, "", "Requested operation is presently disabled for job 7")
    ended.answer("sbatch", 0, "8")
    assert ended.conclude(PREEMPTED, preemption()).reason.endswith("; cancelled")
    assert ended.calls[-1] == "scancel -- 8"
    assert job_chain.chains(ended.run) == {None: ("7",)}


def test_without_an_answer_of_squeue_that_of_scontrol_counts(ended: EndedJob) -> None:
    ended.answer("squeue", 1, "", "Unable to contact slurm controller")
    assert ended.conclude(PREEMPTED, preemption()) == Outcome(75, "")
    assert ended.calls == ["scontrol requeue incomplete 7"]
