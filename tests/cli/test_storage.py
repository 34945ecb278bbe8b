"""What the verbs say of folders that they cannot use: another user's, a full disk, one that can only be read."""

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import ROOT

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.getuid() != 0, reason="only root can be another user, and mount"),
]
JOB = 'name = "a"\nstrategy = "single"\ncommand = ["true"]\n[roles.worker]\n'
NOBODY = 65534


@pytest.fixture
def folder() -> Iterator[Path]:
    """Return a folder of everybody's, with a job and code of 300 kB."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        (path / "job.toml").write_text(JOB)
        (path / "code.py").write_text("#" * 300_000)
        (path / "runs").mkdir()
        yield path


def say(folder: Path, *words: str, user: int = 0, before: str = "") -> str:
    """Return what `slurm-tf WORDS` prints to stderr; it must fail with exit code 74."""
    as_user = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups"] if user else []
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f'{before} exec "$@"', "sh", *as_user,
         sys.executable, "-m", "slurm_tf", *words],
        cwd=folder, capture_output=True, text=True, timeout=60, check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "HOME": "/", "PYTHONDONTWRITEBYTECODE": "1"},
    )  # fmt: skip
    assert done.returncode == 74, done.stderr
    assert "SLURM_TF_DEBUG" not in done.stderr
    return done.stderr


SUBMIT = [("submit", "job.toml", "--dry-run"), ("submit", "job.toml"), ("run", "job.toml")]
HINT = "\nHINT: use another folder of runs: export SLURM_TF_RUNS=FOLDER, or `runs` in the user's configuration\n"


@pytest.mark.parametrize("words", SUBMIT)
def test_another_users_folder_of_runs(words: tuple[str, ...], folder: Path) -> None:
    said = say(folder, *words, user=NOBODY)
    assert said.startswith(f"slurm-tf: cannot make the run: {folder}/runs"), said
    assert f": Permission denied ({folder}/runs belongs to root, mode 755); needed permission for it{HINT}" in said


@pytest.mark.parametrize("words", [("status", "a-1"), ("list",), ("logs", "a-1"), ("cancel", "a-1")])
def test_a_folder_of_runs_that_cannot_be_read(words: tuple[str, ...], folder: Path) -> None:
    (folder / "runs").chmod(0o700)
    said = say(folder, *words, user=NOBODY)
    denied = f"Permission denied ({folder}/runs belongs to root, mode 700); needed permission for it{HINT}"
    assert said == f"slurm-tf: cannot list the runs: {folder}/runs: {denied}"


@pytest.mark.parametrize("words", SUBMIT)
def test_a_full_disk_and_one_that_can_only_be_read(words: tuple[str, ...], folder: Path) -> None:
    said = say(folder, *words, before="mount -t tmpfs -o size=64k none runs &&")
    assert f": {folder}/runs" in said
    assert "No space left on device; needed free space\nHINT: " in said
    said = say(folder, *words, before="mount -t tmpfs -o ro none runs &&")
    assert f"slurm-tf: cannot make the run: {folder}/runs" in said
    assert f"Read-only file system; needed a file system that can be written{HINT}" in said


def test_a_file_that_cannot_be_written(folder: Path) -> None:
    said = say(folder, "plugin", "task-prolog", "-o", "runs/x", before="mount -t tmpfs -o size=64k none runs &&")
    assert said.startswith(
        "slurm-tf: cannot write the TaskProlog: runs/x: No space left on device; needed free space\n"
    )
