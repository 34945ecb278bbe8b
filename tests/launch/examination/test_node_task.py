"""Whom a node connects to, and how fast its shared folder is."""

import os
from pathlib import Path

import pytest

from slurm_tf.launch.examination import node_task, shared_folder
from slurm_tf.run import examination


@pytest.mark.parametrize("count", [1, 2, 3, 9, 10, 40])
def test_each_node_is_connected_to_by_as_many_as_it_connects_to(count: int) -> None:
    nodes = [f"node{number}" for number in range(count)]
    pairs = [(node, other) for node in nodes for other in node_task.partners(nodes, node)]
    assert len(set(pairs)) == len(pairs) == count * min(8, count - 1)
    assert all(node != other for node, other in pairs)
    assert all(sum(other == node for _, other in pairs) == min(8, count - 1) for node in nodes)


def test_the_shared_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Path(examination.own_file(str(tmp_path), examination.LOGIN)).write_text("token")
    facts = shared_folder.describe(str(tmp_path), "node1", "token")
    assert (facts.error, facts.sees_login, facts.owner) == ("", True, os.getuid())
    assert facts.identity == tmp_path.stat().st_ino
    assert facts.write > 0
    assert facts.files > 0
    assert {path.name for path in tmp_path.iterdir()} == {"node-login", "node-node1"}
    monkeypatch.setattr(shared_folder, "_LOOK_SECONDS", 0.1)
    assert not shared_folder.describe(str(tmp_path), "node1", "other").sees_login
    gone = shared_folder.describe(str(tmp_path / "gone"), "node1", "token")
    assert gone.error.endswith("No such file or directory")
