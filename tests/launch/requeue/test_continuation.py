"""A requeue that meets a cancel, or a Slurm that is slow: of Slurm there are the commands alone."""

from pathlib import Path

import pytest

from slurm_tf.launch.decide.restarts import Outcome
from slurm_tf.launch.requeue import continuation
from slurm_tf.run import job_chain
from tests.launch.requeue.test_finalize import PREEMPTED, Bench, ends_early, preemption, quiet


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    return Bench(tmp_path, monkeypatch)


def test_a_cancel_that_comes_while_slurm_is_asked_is_heard(bench: Bench) -> None:
    def is_stopped() -> bool:
        return "squeue" in (bench.kept / "calls").read_text()

    (bench.kept / "calls").touch()
    assert continuation.arrange(bench.place, None, 0.0, is_stopped) == continuation.Continuation(False, "cancelled")
    assert bench.calls == []


def test_a_job_that_would_follow_one_that_is_cancelled_is_cancelled_as_well(bench: Bench) -> None:
    ends_early(bench, quiet())
    bench.answer("scontrol-requeue", 1, "", "Requested operation is presently disabled for job 7")
    bench.answer("sbatch", 0, "8")
    assert bench.conclude(PREEMPTED, preemption()).reason.endswith("; cancelled")
    assert bench.calls[-1] == "scancel -- 8"
    assert job_chain.chains(bench.run) == {None: ("7",)}


def test_where_squeue_is_silent_slurmctlds_word_counts(bench: Bench) -> None:
    bench.answer("squeue", 1, "", "Unable to contact slurm controller")
    assert bench.conclude(PREEMPTED, preemption()) == Outcome(75, "")
    assert bench.calls == ["scontrol requeue incomplete 7"]
