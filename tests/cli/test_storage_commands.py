"""The verbs du and rm, as a person types them."""

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.launch.job_context import process_identity
from slurm_tf.run import lease
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.lease import Lease
from slurm_tf.submit import run_index
from tests.conftest import PYTHONPATH, write_manifest
from tests.forkserver import command_line

pytestmark = pytest.mark.slow

Type = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def runs(tmp_path: Path) -> dict[str, RunFolder]:
    """Make runs in two folders: the second one has not changed for 40 days."""
    made = {}
    for name, size, days in (("here/a-1", 300_000, 0), ("here/b-1", 10, 40), ("there/a-1", 200_000, 50)):
        run = RunFolder(str(tmp_path / name))
        os.makedirs(run.checkpoints)
        os.chmod(run.path, 0o700)
        write_manifest(run, "a")
        Path(run.checkpoints, "x").write_bytes(b"x" * size)
        then = time.time() - days * 86400
        for path in (run.manifest, f"{run.checkpoints}/x", run.checkpoints, run.path):
            os.utime(path, (then, then))
        made[name] = run
    run_index.add([run.path for run in made.values()])
    return made


@pytest.fixture
def typed(tmp_path: Path) -> Type:
    """Type `slurm-tf WORDS`, where nobody can be asked unless `stdin` is given."""

    def run(*words: str, stdin: int = subprocess.DEVNULL) -> "subprocess.CompletedProcess[str]":
        variables = {**os.environ, "PYTHONPATH": PYTHONPATH, "SLURM_TF_RUNS": str(tmp_path / "here")}
        if stdin == subprocess.DEVNULL:
            return command_line.slurm_tf(words, variables, tmp_path)
        return subprocess.run(
            [sys.executable, "-m", "slurm_tf", *words], cwd=tmp_path, stdin=stdin, capture_output=True, text=True,
            timeout=120, check=False, env=variables,
        )  # fmt: skip

    return run


def there(runs: dict[str, RunFolder]) -> list[str]:
    return [name for name, run in runs.items() if os.path.exists(run.path)]


def test_du_shows_all_runs_the_largest_first(runs: dict[str, RunFolder], typed: Type) -> None:
    rows = [line.split("  ") for line in typed("du").stdout.splitlines()]
    assert [row[0] for row in rows] == [
        "RUN", runs["here/a-1"].path, runs["there/a-1"].path, "b-1", "TOTAL",
    ]  # fmt: skip
    (row,) = json.loads(typed("du", "b-1", "--json").stdout)
    assert (row["run"], row["folder"], row["code"], row["files"]) == ("b-1", runs["here/b-1"].path, 0, 4)
    assert row["size"] >= row["checkpoints"] >= 4096


def test_rm_says_what_goes_and_removes_it_only_when_told_to(runs: dict[str, RunFolder], typed: Type) -> None:
    for words in (("--dry-run",), ()):
        done = typed("rm", "a-1", "--checkpoints", *words)
        assert done.stdout.splitlines()[1].split()[:2] == ["a-1", "checkpoints"]
        assert done.stdout.splitlines()[1].endswith(runs["here/a-1"].path)
        assert os.listdir(runs["here/a-1"].checkpoints) == ["x"]
    assert (done.returncode, done.stderr) == (
        2, "slurm-tf: nobody can be asked here; needed --yes, to remove what is listed, or --dry-run\n",
    )  # fmt: skip
    assert "removed checkpoints of a-1\n" in typed("rm", "a-1", "--checkpoints", "--yes").stdout
    assert os.listdir(runs["here/a-1"].checkpoints) == []
    assert typed("rm", "a-1", "-y").stdout.endswith("removed a-1\n")
    assert there(runs) == ["here/b-1", "there/a-1"]


def test_rm_older_than(runs: dict[str, RunFolder], typed: Type) -> None:
    assert typed("rm", "a-1", "--older-than", "12h", "--yes").stderr == "slurm-tf: nothing to remove\n"
    assert there(runs) == list(runs)
    done = typed("rm", "--older-than", "30d", "--yes")
    assert there(runs) == ["here/a-1"], done.stderr
    assert "no RUN" in typed("rm", "--yes").stderr
    assert "needed hours, days or weeks: 12h, 30d or 2w" in typed("rm", "--older-than", "30", "--yes").stderr


def test_an_attempt_that_lives_is_left(runs: dict[str, RunFolder], typed: Type) -> None:
    held = Lease("1.0", "", os.uname().nodename, process_identity(os.getpid()), time.time())
    for name in ("here/b-1", "here/a-1"):
        lease.write(runs[name], held)
        for path in (runs[name].lease, runs[name].path):
            os.utime(path, (1e9, 1e9))
    done = typed("rm", "b-1", "a-1", "--yes")
    assert (done.returncode, done.stdout) == (73, "")
    assert f"run b-1 is being run by process {os.getpid()}" in done.stderr
    swept = typed("rm", "--older-than", "30d", "--yes")
    assert "b-1 is left: run b-1 is being run by" in swept.stderr
    assert there(runs) == ["here/a-1", "here/b-1"]


@pytest.mark.parametrize(("answer", "left"), [(b"\n", 3), (b"y\n", 2)])
def test_it_asks_on_a_terminal(answer: bytes, left: int, runs: dict[str, RunFolder], typed: Type) -> None:
    ours, its = pty.openpty()
    os.write(ours, answer)
    done = typed("rm", "b-1", stdin=its)
    assert done.returncode == (left == 3), done.stderr
    assert "Remove this? [y/N]" in done.stderr
    assert len(there(runs)) == left
    os.close(ours)
    os.close(its)
