"""Clusters that were recorded (tests/recorded/record_clusters.py), for tests that ask the cluster of this machine."""

import json
import subprocess
from collections.abc import Sequence

import pytest

from slurm_tf.errors import SlurmError
from slurm_tf.slurm import client, live_cluster
from tests.conftest import RECORDED

NAMES = ("no-gres", "typed", "exclusive")


def play(name: str, monkeypatch: pytest.MonkeyPatch, refused: str = "") -> None:
    """Have Slurm's commands print what they printed to alice on cluster `name`; the command `refused` fails."""
    rows = json.loads((RECORDED / "slurm-22.05.8" / "clusters" / f"{name}.json").read_text())
    printed = {tuple(row["argv"]): row for row in rows}

    def run(argv: Sequence[str], *_: object, **__: object) -> "subprocess.CompletedProcess[str]":
        if argv[0] == refused:
            raise SlurmError(f"{refused}: error:\nno ({refused} ended with exit code 1)")
        row = printed[tuple(argv)]
        return subprocess.CompletedProcess(argv, 0, row["stdout"], row["stderr"])

    monkeypatch.setattr(client, "run", run)
    monkeypatch.setattr(live_cluster, "_user", lambda: "alice")
