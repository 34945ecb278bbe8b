"""Training on prepared data on a real Slurm that takes its nodes away three times: each record once an epoch.

Under multi_worker it ends with the bits of a training that was left alone; under ps workers do not wait for each other.
"""

import re
from pathlib import Path

import pytest

from tests.cluster.group import Member
from tests.cluster.test_interrupted_training import Training, wait_for_step
from tests.cluster.test_interruptions import preempt
from tests.jobs import prepared_training
from tests.sandbox.cluster import Sandbox

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow, pytest.mark.long, pytest.mark.timeout(900)]

EPOCHS, TIMES = 10, 3  # of 5 steps


class PreparedTraining(Training):
    """A run of tests/programs/prepared.py."""

    def __init__(self, member: Member, name: str, job: str, *words: str) -> None:
        self.member, self.name = member, name
        self.job = member.submit(member.write("a.toml", job), "--name", name, *words)
        self.folder = member.folder / "runs" / name


def preempted(alice: Member, sandbox: Sandbox, strategy: str, model: str, loop: str) -> PreparedTraining:
    """Prepare the data of a model, train on it, and take its nodes away three times; return the run."""
    prepared_training.write_sources(alice.folder)
    alice.ok("prepare", f"{model}.toml", timeout=120)
    job = prepared_training.job(strategy, model, loop, EPOCHS, "--pause=0.3")
    run = PreparedTraining(alice, "a-1", job, "--qos=scavenge")
    for number in range(TIMES):
        wait_for_step(run, 12 * number + 6)
        preempt(sandbox)
        run.start_again()
    return run


def check_attempts(run: PreparedTraining) -> None:
    """Each attempt but the last was preempted, and each went on where the one before it had saved."""
    assert [row["cause"] for row in run.attempts()] == ["preemption"] * TIMES + [""]
    resumed = [int(step) for step in re.findall(r"resumed at step (\d+) from", run.output)]
    assert resumed == [row["last"] for row in run.attempts()][:-1]


@pytest.mark.parametrize(("model", "loop"), [("cnn", "fit"), ("wide_and_deep", "fit"), ("cnn", "own")])
def test_workers_in_lockstep_end_with_the_same_bits(
    model: str, loop: str, alice: Member, sandbox: Sandbox, tmp_path: Path
) -> None:
    run = preempted(alice, sandbox, "multi_worker", model, loop)
    found = run.bits()
    check_attempts(run)
    prepared_training.check_once_an_epoch(run.folder, alice.folder / model, EPOCHS)
    assert found == prepared_training.whole(tmp_path, alice.folder / model, loop, EPOCHS)


@pytest.mark.parametrize("model", ["cnn", "wide_and_deep"])
def test_under_ps_each_record_comes_once_an_epoch(model: str, alice: Member, sandbox: Sandbox) -> None:
    run = preempted(alice, sandbox, "ps", model, "own")
    assert alice.type("wait", "a-1", timeout=280).returncode == 0, run.output
    check_attempts(run)
    prepared_training.check_as_often_as_epochs(run.folder, alice.folder / model, EPOCHS)
