"""The way of a student with a Keras script of somebody else, on nodes that have Python and a shared folder."""

import re
import subprocess
import sys
import time
import venv
from pathlib import Path

import pytest

from slurm_tf.run import progress
from slurm_tf.run.folder import RunFolder
from tests import snippets, wheel
from tests.cluster.group import Member
from tests.conftest import ROOT

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]

LIBRARIES = next(path for path in sys.path if path.endswith("site-packages"))


def environment(folder: Path, *packages: Path) -> None:
    """Make an environment with `packages`, and with the libraries of the tests, but without their slurm_tf."""
    venv.create(folder, symlinks=True, with_pip=bool(packages))
    if packages:
        subprocess.run(
            [folder / "bin" / "pip", "install", "--quiet", "--no-deps", "--no-index", *packages],
            check=True, timeout=280,
        )  # fmt: skip
    (found,) = folder.glob("lib/python3*/site-packages")
    # slurm_tf is there as a .pth file, which counts in folders of Python's own alone
    (found / "libraries.pth").write_text(f"{LIBRARIES}\n")


@pytest.fixture
def student(alice: Member, tmp_path: Path) -> Member:
    """Return a user who has installed the wheel, and whose own environment has TensorFlow."""
    (tmp_path / "source").mkdir()
    wheel.build(tmp_path / "source", tmp_path / "dist")
    (package,) = (tmp_path / "dist").glob("*.whl")
    environment(alice.folder / "slurm-tf", package)
    alice.run("mkdir", "-p", ".local/bin")
    alice.run("ln", "-s", str(alice.folder / "slurm-tf" / "bin" / "slurm-tf"), ".local/bin/slurm-tf")
    environment(alice.folder / "tensorflow")
    return alice


@pytest.mark.long  # in `make test`: jobs/test_five_lines.py, of the same script
def test_from_the_wheel_to_a_training_on_four_nodes(student: Member) -> None:
    """Two submissions of the job of docs/keras.md, and at most five lines of the script are changed."""

    def types(*words: str, code: int = 0) -> tuple[str, str]:
        done = student.sandbox.run(
            "slurm-tf", *words, user=student.user, cwd=student.folder, timeout=400, check=False,
            env={"PATH": f"{student.folder}/.local/bin:/usr/bin:/bin", "HOME": str(student.folder)},
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout, done.stderr

    begun = time.monotonic()
    script = (ROOT / "jobs" / "keras_plain.py").read_text()
    student.write("train.py", script)
    (job,) = snippets.of("toml job", "docs/keras.md")
    student.write("digits.toml", job.text.replace("~/venv", str(student.folder / "tensorflow")))
    _, told = types("submit", "digits.toml", "--wait", code=65)
    # it says what is wrong, and the command whose page says what to do
    assert "\n  why          none of the 4 tasks has joined the cluster: each trained a model of its own" in told
    assert re.search(r"^  slurm-tf docs train +# the lines with which its tasks train one model$", told, re.MULTILINE)
    page, _ = types("docs", "train")
    (change,) = re.findall(r"^```diff\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    added = [line for line in change.splitlines() if re.match(r"\+.", line)]
    assert len(added) <= 5
    student.write("train.py", snippets.patched(script, change))
    _, told = types("submit", "digits.toml", "--wait")
    print(f"{time.monotonic() - begun:.0f} s, 2 submissions, {len(added)} lines\n{told}")
    run = RunFolder(str(student.folder / "runs" / "digits-2"))
    assert "\n  model        runs/digits-2/export/digits.keras\n" in told
    assert Path(run.exports, "digits.keras").stat().st_size > 0
    shown, _ = types("logs", "digits-2")
    accuracies = re.findall(r"^\[worker:\d\] test accuracy (\S+)$", shown, re.MULTILINE)
    assert len(accuracies) == 4
    assert len(set(accuracies)) == 1
    assert float(accuracies[0]) > 0.85
    # of all samples, 64 in each step of all workers together
    assert [each.step for each in progress.read(run.progress)] == [23, 46, 69, 92, 115]
    assert not re.search("WARNING:tensorflow|Traceback", shown)
