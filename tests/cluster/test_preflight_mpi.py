"""The MPI step of a preflight on a real Slurm: figures of each pair of nodes, a slow node, no mpi4py, a broken MPI."""

import importlib.util
import json
import os
from pathlib import Path

import pytest

from tests.cluster.group import Member
from tests.cluster.test_preflight import said
from tests.conftest import ROOT
from tests.sandbox.cluster import Sandbox

_FOUND = importlib.util.find_spec("mpi4py")
pytestmark = [
    pytest.mark.slurm,
    pytest.mark.mpi,
    pytest.mark.skipif(_FOUND is None and os.environ.get("CI") != "true", reason="mpi4py is not installed"),
]
_JOB = """\
name = "a"
strategy = "multi_worker"
join = "optional"
command = ["python", "-c", "print('it trains')"]
preflight = "mpi"
[roles.worker]
count = 3
ntasks-per-node = 1
mem = "1G"
[launch]
# three processes that wait by asking, on the cores of one machine
preflight-factor = 1000
"""


def environ() -> dict[str, str]:
    assert _FOUND is not None
    assert _FOUND.origin is not None
    return {"PYTHONPATH": f"{ROOT}:{Path(_FOUND.origin).parent.parent}"}


def test_figures_of_each_pair(alice: Member) -> None:
    alice.write("a.toml", _JOB)
    done = alice.type("submit", "a.toml", "--name=r", "--wait", environ=environ(), timeout=200)
    logs = alice.ok("logs", "r")
    assert done.returncode == 0, logs
    assert logs.count("it trains") == 3
    pairs = said(alice)["mpi"]
    assert {(pair["source"], pair["target"]) for pair in pairs} == {
        (one, other) for one in ("node1", "node2", "node3") for other in ("node1", "node2", "node3") if one != other
    }
    assert all(0 < pair["latency"] < 1 and pair["bandwidth"] > 1e5 for pair in pairs), pairs
    table = said(alice)["table"]
    assert "allreduce, MB/s" in table[4]
    assert [line.split()[0] for line in table[5:]] == ["node1", "node2", "node3"]
    assert list(Path(alice.folder / "runs" / "r" / "preflight").iterdir()) == []


def test_without_mpi4py_there_are_fewer_figures(alice: Member) -> None:
    blocked = alice.folder / "blocked" / "mpi4py"
    blocked.mkdir(parents=True)
    (blocked / "__init__.py").write_text("raise ImportError('no mpi4py here')")
    alice.write("a.toml", _JOB)
    path = {"PYTHONPATH": f"{blocked.parent}:{ROOT}"}
    done = alice.type("submit", "a.toml", "--name=r", "--wait", environ=path, timeout=200)
    assert done.returncode == 0, alice.ok("logs", "r")
    assert said(alice)["table"][-1] == "no figures of MPI: no mpi4py here"
    assert alice.ok("logs", "r").count("it trains") == 3


def test_an_mpi_that_does_not_work_is_told_and_no_node_is_blamed(alice: Member, sandbox: Sandbox) -> None:
    alice.write("a.toml", _JOB)
    more = {**environ(), "OMPI_MCA_btl": "no-such-network"}
    done = alice.type("submit", "a.toml", "--name=r", "--wait", environ=more, timeout=200)
    logs = alice.ok("logs", "r")
    assert done.returncode == 76, logs
    assert "the job failed: preflight: the MPI step ended with " in logs
    assert "it trains" not in logs
    assert not (alice.folder / "runs" / "r" / "bad_nodes.json").exists()
    left = sandbox.run("squeue", "--noheader", "--steps").stdout
    assert left == ""


def test_a_job_of_two_components_is_refused(alice: Member) -> None:
    alice.write("a.toml", _JOB + '[roles.chief]\nmem = "2G"\n')
    done = alice.type("submit", "a.toml")
    assert done.returncode == 2
    assert "preflight: found 'mpi'; needed a job of one component" in done.stderr
    assert json.loads(alice.ok("list", "--json", "--all")) == []
