"""Which nodes copy the files of [stage], and where the tasks of each node find them."""

import os
import time
from pathlib import Path

from slurm_tf.launch.coordinator.stage_copies import Outgoing, StageCopies
from slurm_tf.launch.transport.messages import Report
from slurm_tf.launch.transport.stage_messages import Stage, Staged
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.stage_settings import StageSettings

ROLES = dict(enumerate(("chief", "worker", "worker", "ps", "ps")))
NODES = ("n1", "n1", "n2", "n2", "n3")


def begun(copies: StageCopies) -> Outgoing:
    """Return what is sent once it is known what to copy."""
    deadline = time.monotonic() + 10
    while True:
        sent = copies.tick(time.monotonic())
        if sent or time.monotonic() > deadline:
            return sent
        time.sleep(0.01)


def test_a_node_whose_tasks_read_no_data_copies_nothing(tmp_path: Path) -> None:
    (tmp_path / "clicks").write_text("files\n")
    os.mkdir(tmp_path / "run")
    reports = {rank: Report(rank, node, node, 1000 + rank) for rank, node in enumerate(NODES)}
    settings, said = StageSettings(("clicks",), str(tmp_path)), list[str]()
    copies = StageCopies(settings, RunFolder(str(tmp_path / "run")), reports, ROLES, time.monotonic(), said.append)
    sent = begun(copies)
    assert sorted(rank for rank, message in sent if isinstance(message, Stage)) == [0, 2]
    assert said == ["staging 1 files, 6 B, on 2 nodes"]
    for rank in (0, 2):
        copies.answered(rank, Staged(f"/scratch/{NODES[rank]}", 6, 0))
    copies.tick(time.monotonic())
    links = str(tmp_path / "run" / "stage")
    assert copies.folders == {"n1": "/scratch/n1", "n2": "/scratch/n2", "n3": links}
    assert Path(links, "clicks").read_text() == "files\n"
