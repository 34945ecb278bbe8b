"""Jobs of jobs/ that need a cluster: CIFAR-10 that is preempted, a sweep with its table, an evaluation, MPI."""

import json
import re

import pytest

from tests.cluster.group import Member
from tests.cluster.test_interruptions import Run, preempt
from tests.conftest import CHECKSUM
from tests.horovod import require
from tests.jobs import cifar10_files
from tests.jobs.conftest import through
from tests.sandbox.cluster import Sandbox

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]


class Job(Run):
    """A run, a-1, of a shipped job."""

    def __init__(self, member: Member, *words: str) -> None:
        member.take_jobs()
        self.member, self.folder = member, member.folder / "runs" / "a-1"
        self.job = member.submit(*words, "--name=a-1")

    def wait(self) -> str:
        """Wait until it has ended well; return its output."""
        waited = self.member.type("wait", "a-1", timeout=560)
        assert waited.returncode == 0, self.output
        return self.output


@pytest.mark.long  # its files and its network: jobs/test_cifar10.py; preemptions: test_interruptions.py
@pytest.mark.timeout(900)
def test_a_resnet_learns_from_files_in_a_shared_folder_though_it_is_preempted(alice: Member, sandbox: Sandbox) -> None:
    data = alice.folder / "data"
    alice.run("mkdir", "data")
    cifar10_files.write(data, 60)
    sets = ("roles.worker.ntasks-per-node=1", "roles.worker.cpus-per-task=1")
    run = Job(
        alice, "cifar10.toml", f"data={data}", "depth=8", "epochs=8", "batch-size=60", "--qos=scavenge",
        *[word for each in sets for word in ("--set", each)],
    )  # fmt: skip
    run.wait_for(r"step 10/40  epoch 2/8", timeout=300)
    preempt(sandbox)
    run.start_again()
    text = run.wait()
    assert [row["cause"] for row in run.attempts()] == ["preemption", ""]
    (resumed,) = re.findall(r"resumed at step (\d+) from", text)
    assert 10 <= int(resumed) < 40, text
    epochs = dict(re.findall(r"epoch (\d)/8  accuracy \S+  loss \S+  val_accuracy (\S+)", text))
    assert sorted(epochs) == [str(epoch) for epoch in range(1, 9)]
    assert float(epochs["1"]) < 0.5
    assert float(epochs["8"]) > 0.9
    assert len({*re.findall(r"test accuracy (\S+) on 60 images", text)}) == 1


@pytest.mark.long  # an evaluation: jobs/test_gallery.py; tables: watch/test_results.py
@pytest.mark.timeout(900)
def test_a_sweep_has_a_table_and_its_best_model_is_evaluated(alice: Member) -> None:
    run = Job(alice, "cnn_sweep.toml", "epochs=1", "--set", "sweep.learning-rate=[0.0001, 0.02]")
    run.wait()
    table = alice.ok("results", "a-1", "--sort", "val_accuracy").splitlines()
    assert table[0].split()[:4] == ["RUN", "learning-rate", "batch-size", "STATE"]
    results = json.loads(alice.ok("results", "a-1", "--sort", "val_accuracy", "--json"))
    rates = [each["params"]["learning-rate"] for each in results]
    assert rates == [0.02, 0.02, 0.0001, 0.0001]
    best = results[0]
    assert table[1].split()[0] == best["run"]

    folder = alice.folder / "runs" / best["run"]
    alice.submit("cnn_evaluate.toml", f"run={folder}", "--name=evaluated")
    assert alice.type("wait", "evaluated", timeout=300).returncode == 0, alice.ok("logs", "evaluated")
    (evaluated,) = json.loads(alice.ok("results", "evaluated", "--json"))
    assert evaluated["metrics"]["test_accuracy"]["last"] == best["metrics"]["val_accuracy"]["last"]
    assert evaluated["step"] == best["step"]


@pytest.mark.mpi
def test_the_cnn_over_mpi_ends_with_equal_ranks(alice: Member) -> None:
    require(mpi=True)
    text = Job(alice, "cnn_horovod_mpi.toml", "epochs=1", *through(CHECKSUM)).wait()
    sums = re.findall(r"^\[worker:\d\] rank \d: \d+ variables, checksum (\w+)$", text, re.MULTILINE)
    assert len(sums) == 2
    assert len({*sums}) == 1
