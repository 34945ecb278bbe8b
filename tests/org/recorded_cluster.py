"""A cluster with organizations, whose Slurm says what one printed (tests/recorded/record_organizations.py)."""

import json
import pwd
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest

from slurm_tf.errors import UnreachableError
from slurm_tf.slurm import associations, client
from tests.conftest import RECORDED

TEXTS: dict[str, dict[str, str]] = json.loads((RECORDED / "slurm-22.05.8" / "organizations.json").read_text())


class RecordedCluster:
    """What Slurm's commands print for a user. `changes`: text to replace by other text in all that is printed.

    `silent`: commands that do not answer.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, user: str = "alice") -> None:
        self.user = user
        self.changes: dict[str, str] = {}
        self.silent: tuple[str, ...] = ()
        self.asked: list[str] = []
        monkeypatch.setattr(client, "run", self.run)
        monkeypatch.setattr(associations, "me", lambda: self.user)
        monkeypatch.setattr(pwd, "getpwuid", lambda _: pwd.struct_passwd((self.user, "x", 1, 1, "", "/", "/bin/sh")))

    def run(self, argv: Sequence[str], *_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
        """Return what was recorded of a command."""
        typed = " ".join(argv)
        self.asked.append(typed)
        if argv[0] in self.silent:
            raise UnreachableError(f"{argv[0]} did not answer in 10 s")
        text = TEXTS[self.user][typed]
        for old, new in self.changes.items():
            text = text.replace(old, new)
        return subprocess.CompletedProcess(argv, 0, text, "")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> RecordedCluster:
    """Return the cluster, as alice sees it."""
    return RecordedCluster(monkeypatch)
