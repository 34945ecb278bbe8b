"""The jobs that are shipped, trained on a real Slurm by an ordinary user."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import tomllib

from tests.cluster.group import JOBS, Member
from tests.conftest import CHECKSUM
from tests.sandbox.shape import address

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]


def cluster(member: Member, run: str) -> list[dict[str, Any]]:
    tasks: list[dict[str, Any]] = json.loads((member.folder / "runs" / run / "cluster.json").read_text())["tasks"]
    return tasks


def check_places(member: Member, run: str) -> None:
    """Each task is on the node whose address its entry in the cluster names."""
    for task in cluster(member, run):
        host, _, port = task["address"].rpartition(":")
        assert host == address(task["node"]), task
        assert port.isdigit()
        log = (member.folder / "runs" / run / "logs" / f"{task['role']}-{task['index']}.node").read_text()
        assert log == f"{task['node']}\n"


# What each task says about where it is, before its program starts.
WRAP = ["bash", "-c", 'echo $SLURMD_NODENAME > $SLURM_TF_RUN_FOLDER/logs/${SLURM_TF_TASK/:/-}.node; exec "$0" "$@"']


def wrapped(job: str, *programs: str) -> tuple[str, str]:
    """Return a shipped job, and its command in which each task writes down its node: `programs` run its program."""
    python, *command = tomllib.loads((JOBS / job).read_text())["command"]
    return job, f"command={json.dumps([*WRAP, python, *programs, *command])}"


@pytest.mark.long  # in `make test`: the same roles in test_shared_nodes.py, the training in jobs/test_wide_and_deep.py
def test_chief_workers_and_ps_as_a_heterogeneous_job(alice: Member) -> None:
    alice.take_jobs()
    more = ["roles.worker.gpus-per-task=1", "roles.worker.ntasks-per-node=1", "roles.ps.partition=cpu"]
    more.append("gpus-optional=true")  # the sandbox's GPUs have no driver
    job, command = wrapped("wide_and_deep.toml")
    number = alice.submit(job, *[word for each in (command, *more) for word in ("--set", each)])
    waited = alice.type("wait", "wide-and-deep-1", timeout=300)
    text = alice.ok("logs", "wide-and-deep-1")
    assert waited.returncode == 0, text
    assert alice.sacct(number, 3) == ["COMPLETED"] * 3
    accuracy = re.search(r"test accuracy (\d\.\d+)", text)
    assert accuracy is not None, text
    assert float(accuracy[1]) >= 0.93
    tasks = cluster(alice, "wide-and-deep-1")
    assert len({task["node"] for task in tasks}) >= 3
    assert {task["name"]: bool(task["gpus"] is None or task["gpus"]) for task in tasks} == {
        "chief:0": False, "worker:0": True, "worker:1": True, "ps:0": False,
    }  # fmt: skip
    check_places(alice, "wide-and-deep-1")
    (point,) = alice.status("wide-and-deep-1")
    assert point["step"] == point["checkpoint"]["step"] == 600
    assert point["values"]["accuracy"] > 0.9
    assert "600" in alice.ok("status", "wide-and-deep-1")


@pytest.mark.long  # two of them: tests/faults/test_representative.py
def test_four_workers_on_two_nodes_end_with_equal_variables(alice: Member) -> None:
    alice.take_jobs()
    more = ["roles.worker.count=4", "roles.worker.ntasks-per-node=2"]
    job, command = wrapped("cnn.toml", CHECKSUM)
    number = alice.submit(job, *[word for each in (command, *more) for word in ("--set", each)])
    waited = alice.type("wait", "cnn-1", timeout=300)
    text = alice.ok("logs", "cnn-1")
    assert waited.returncode == 0, text
    assert alice.sacct(number) == ["COMPLETED"]
    sums = re.findall(r"^\[worker:(\d)\] .*checksum (\S+)", text, re.MULTILINE)
    assert sorted(index for index, _ in sums) == ["0", "1", "2", "3"], text
    assert len({checksum for _, checksum in sums}) == 1
    accuracy = re.search(r"test accuracy (\d\.\d+)", text)
    assert accuracy is not None, text
    assert float(accuracy[1]) >= 0.95
    assert len({task["node"] for task in cluster(alice, "cnn-1")}) == 2
    check_places(alice, "cnn-1")
    assert Path(alice.folder, "runs", "cnn-1", "checkpoints", "latest").exists()


RESOLVER = """
import tensorflow as tf
tf.distribute.cluster_resolver.SlurmClusterResolver().cluster_spec()
"""


@pytest.mark.long  # tests/jobs/test_programs.py has it without Slurm, and what works instead
def test_tensorflows_resolver_of_slurm_divides_gpus_once_more(alice: Member) -> None:
    """As it is with two tasks on a node and a GPU each, of Slurm's own variables."""
    alice.write("program.py", RESOLVER)
    asked = "[roles.worker]\ncount = 2\nntasks-per-node = 2\ngpus-per-task = 1\n"
    text = f'name = "a"\nstrategy = "multi_worker"\ngpus-optional = true\ncommand = ["python", "program.py"]\n{asked}'
    done = alice.type("submit", alice.write("job.toml", text), "--wait", timeout=120)
    assert done.returncode == 1, done.stderr
    text = alice.ok("logs", "a-1")
    assert "slurm-tf: warning: program.py:3 uses SlurmClusterResolver" in text
    assert "ValueError: range() arg 3 must not be zero" in text
