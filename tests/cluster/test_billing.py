"""The billing that submit announces is the one that Slurm shows for the job."""

import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster.conftest import require
from tests.conftest import ROOT
from tests.sandbox.cluster import Sandbox
from tests.sandbox.shape import Shape

pytestmark = pytest.mark.slurm

WEIGHTS = "TRESBillingWeights=CPU=1.0,Mem=0.25G,GRES/gpu=2.0,GRES/gpu:a100=3"
PARTITIONS = (f"main Default=YES {WEIGHTS}", "dear TRESBillingWeights=CPU=10", "plain MaxTime=1-0")
ONE = """\
name = "one"
strategy = "multi_worker"
join = "optional"
command = ["true"]
time = "30"
[roles.worker]
count = 2
ntasks-per-node = 1
cpus-per-task = 3
mem = "2900M"
gpus-per-node = "a100:2"
"""
HET = """\
name = "het"
strategy = "between_graph"
join = "optional"
command = ["sh", "-c", "case $SLURM_TF_TASK in ps*) exec sleep 300;; esac"]
time = "30"
[roles.worker]
count = 2
mem-per-cpu = "800M"
[roles.ps]
partition = "dear"
"""
ANNOUNCED = re.compile(r"([\d.]+) billing-hours\n")


@pytest.fixture(scope="module")
def weighted() -> Iterator[Sandbox]:
    shape = Shape(nodes=2, partitions=PARTITIONS)
    require(shape)
    running = Sandbox.up(Path(tempfile.mkdtemp(prefix="stf-")), shape, bound=True)
    yield running
    running.down()


def submit(sandbox: Sandbox, text: str, *words: str) -> "subprocess.CompletedProcess[str]":
    folder = sandbox.shared / "billing"
    sandbox.run("mkdir", "-p", str(folder))
    (folder / "job.toml").write_text(text)
    command = [sys.executable, "-m", "slurm_tf", "submit", "job.toml", *words]
    return sandbox.run(*command, cwd=folder, env={"PYTHONPATH": str(ROOT)}, timeout=150)


def billed(sandbox: Sandbox, job: str) -> list[int]:
    """Return what Slurm bills each component of a job that has started."""
    shown = sandbox.run("scontrol", "--oneliner", "show", "job", job).stdout
    return [int(found) for found in re.findall(r" TRES=\S*billing=(\d+)", shown)]


@pytest.mark.parametrize(("text", "billing"), [(ONE, [2 * 3 + 1 + 4 * 5]), (HET, [2, 10])])
def test_it_is_what_slurm_bills(text: str, billing: list[int], weighted: Sandbox) -> None:
    done = submit(weighted, text, "--wait")
    job = done.stdout.split()[-1]
    (announced,) = ANNOUNCED.findall(done.stderr)
    assert float(announced) == sum(billing) / 2
    assert billed(weighted, job) == billing


def test_without_weights_or_under_max_tres_nothing_is_said(
    weighted: Sandbox, start: Callable[[Shape], Sandbox]
) -> None:
    assert not ANNOUNCED.search(submit(weighted, ONE, "--partition=plain", "--hold").stderr)
    other = start(Shape(nodes=2, partitions=PARTITIONS, slurm_conf=("PriorityFlags=MAX_TRES",)))
    assert not ANNOUNCED.search(submit(other, ONE, "--hold").stderr)
