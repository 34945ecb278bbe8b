"""Bad nodes of a run: where they are known, how they are left out, how they are forgotten."""

import json
from pathlib import Path

import pytest

from slurm_tf.errors import RunError
from slurm_tf.run import bad_nodes
from slurm_tf.run.folder import RunFolder
from slurm_tf.slurm import hostlist


def remember(folder: RunFolder, version: int = 1, **reasons: str) -> None:
    Path(folder.path).mkdir(parents=True, exist_ok=True)
    nodes = {node: {"reason": reason, "at": 0.0} for node, reason in reasons.items()}
    Path(folder.bad_nodes).write_text(json.dumps({"contract": version, "nodes": nodes, "hung": {}, "slow": {}}))


@pytest.mark.parametrize(
    ("own", "bad", "text"),
    [
        ("", {}, ""),
        ("", {"b": "", "a": ""}, "a,b"),
        ("n[1-3]", {}, "n[1-3]"),
        ("n[1-3]", {"n2": "", "n4": ""}, "n[1-3],n4"),
        ("n[1-", {"n2": ""}, "n[1-,n2"),  # sbatch will say what it thinks of that
    ],
)
def test_the_users_own_stay(own: str, bad: dict[str, str], text: str) -> None:
    assert hostlist.extend(own, bad) == text


def test_a_run_knows_what_its_points_found(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path / "r"))
    assert bad_nodes.known(run) == {}
    remember(run, n1="a")
    remember(run.point(0), n2="b")
    remember(run.point(12), n3="c")
    remember(RunFolder(f"{run.path}/submission-1"), n4="d")
    assert bad_nodes.known(run) == {"n1": "a", "n2": "b", "n3": "c"}
    bad_nodes.forget(run)
    assert bad_nodes.known(run) == {}


def test_of_another_version(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path))
    remember(run, version=2, n1="a")
    with pytest.raises(RunError, match="contract version 2"):
        bad_nodes.known(run)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"contract": 1}', '{"contract": 1, "nodes": 3}'])
def test_a_torn_file_is_said(text: str, tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path))
    Path(run.bad_nodes).write_text(text)
    with pytest.raises(RunError, match=r"bad_nodes.json (is not JSON|was written by another release)"):
        bad_nodes.known(run)


def test_what_is_remembered_is_added(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path))
    bad_nodes.remember(run, {"n1": "a"})
    bad_nodes.remember(run, {"n2": "b"})
    assert bad_nodes.known(run) == {"n1": "a", "n2": "b"}
    assert bad_nodes.read(run)["n1"].at > 0


def test_a_node_where_a_task_hung_twice_is_bad(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path))
    assert not bad_nodes.hung(run, "n1")
    bad_nodes.remember(run, {"n2": "b"})
    assert not bad_nodes.hung(run, "n3")
    assert bad_nodes.hung(run, "n1")
    # what is bad is the caller's to say
    assert bad_nodes.known(run) == {"n2": "b"}


def test_a_task_that_is_slow_on_two_nodes_is_so_by_itself(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path))
    assert bad_nodes.slow(run, "worker:1", "n1", "worker:1 is") == ["n1"]
    bad_nodes.remember(run, {"n1": "worker:1 is", "n2": "b"})
    assert bad_nodes.slow(run, "worker:1", "n1", "worker:1 still is") == ["n1"]
    assert bad_nodes.slow(run, "worker:2", "n3", "worker:2 is") == ["n3"]
    assert bad_nodes.known(run) == {"n1": "worker:1 is", "n2": "b"}
    assert bad_nodes.slow(run, "worker:1", "n2", "worker:1 is") == ["n1", "n2"]
    # n2 is a bad one for something else
    assert bad_nodes.known(run) == {"n2": "b"}
    assert bad_nodes.slow(run, "worker:1", "n1", "worker:1 is") == ["n1", "n2"]
