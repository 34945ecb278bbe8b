"""Slurm's commands, as far as one was recorded: real programs in PATH that print what Slurm 22.05.8 printed."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import RECORDED

FILE = RECORDED / "slurm-22.05.8" / "commands" / "jobs.json"
TABLE: dict[str, Any] = json.loads(FILE.read_text())
COMMANDS = ("squeue", "sacct", "sinfo", "scancel", "scontrol", "sbatch")
PLAYER = f"""#!{sys.executable} -IS
import json, os, sys
argv = [os.path.basename(sys.argv[0]), *sys.argv[1:]]
for command in json.load(open({str(FILE)!r}))[os.environ.get("PART", "commands")]:
    if command["argv"] == argv:
        sys.stdout.write(command["stdout"])
        sys.stderr.write(command["stderr"])
        sys.exit(command["exit_code"])
sys.exit(f"never recorded: {{argv}}")
"""


@pytest.fixture
def job() -> Callable[[str], str]:
    """Return the id of a recorded job."""

    def find(name: str) -> str:
        found: str = TABLE["jobs"][name]
        return found

    return find


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """Put a program into PATH, which holds nothing else."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("TZ", TABLE["zone"])

    def write(name: str, text: str) -> None:
        path = tmp_path / name
        path.write_text(text)
        path.chmod(0o755)

    return write


@pytest.fixture
def recorded(program: Callable[[str, str], None]) -> None:
    """Play back what was recorded."""
    for name in COMMANDS:
        program(name, PLAYER)


@pytest.fixture
def lost(recorded: None, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: ARG001 - goes first
    """Play back what was recorded where no daemon answers."""
    monkeypatch.setenv("PART", "lost")
