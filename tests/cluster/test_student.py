"""The way of a student with a Keras script of somebody else, on nodes that have Python and a shared folder."""

import json
import re
import shutil
from importlib import metadata
from pathlib import Path

import pytest

from slurm_tf.run import progress
from slurm_tf.run.folder import RunFolder
from tests import snippets, wheel
from tests.cluster.group import Member
from tests.conftest import ROOT
from tests.stopwatch import Stopwatch

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]

# docs/install.md says the same, with an index that pip asks: the login node of the sandbox reaches none.
PIP_INSTALL = ("install", "--quiet", "--no-index", "--find-links")


@pytest.mark.long  # in `make test`: jobs/test_five_lines.py, of the same script
@pytest.mark.timeout(2400)
def test_from_pip_install_to_a_training_on_four_nodes(alice: Member, tmp_path: Path) -> None:
    """Two submissions of the job of docs/keras.md, and at most five lines of the script are changed."""
    home, watch = alice.folder, Stopwatch()

    def types(*words: str, code: int = 0, timeout: float = 400) -> tuple[str, str]:
        done = alice.sandbox.run(
            *words, user=alice.user, cwd=home, timeout=timeout, check=False,
            env={"PATH": f"{home}/.local/bin:/usr/bin:/bin", "HOME": str(home)},
        )  # fmt: skip
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout, done.stderr

    (tmp_path / "source").mkdir()
    packages = alice.sandbox.shared / f"{tmp_path.name}-packages"
    wheel.build(tmp_path / "source", packages)
    (built,) = packages.glob("*.whl")
    tensorflow = f"tensorflow-cpu=={metadata.version('tensorflow-cpu')}"
    with watch.part("this machine downloads slurm-tf's packages and TensorFlow's"):
        wheel.download(tmp_path / "pip", packages, str(built), tensorflow, "scikit-learn")
    with watch.part("pip install slurm-tf"):
        types("python3", "-m", "venv", "slurm-tf")
        types("slurm-tf/bin/pip", *PIP_INSTALL, str(packages), "slurm-tf")
        types("mkdir", "-p", ".local/bin")
        types("ln", "-s", f"{home}/slurm-tf/bin/slurm-tf", ".local/bin/slurm-tf")
    with watch.part("pip install tensorflow scikit-learn"):
        types("python3", "-m", "venv", "venv")
        types("venv/bin/pip", *PIP_INSTALL, str(packages), tensorflow, "scikit-learn", timeout=1200)
    script = (ROOT / "jobs" / "keras_plain.py").read_text()
    alice.write("train.py", script)
    (job,) = snippets.of("toml job", "docs/keras.md")
    alice.write("digits.toml", job.text.replace("~/venv", str(home / "venv")))
    with watch.part("first submission, which says what is wrong"):
        _, told = types("slurm-tf", "submit", "digits.toml", "--wait", code=65)
    # and the command whose page says what to do
    assert "\n  why          none of the 4 tasks has joined the cluster: each trained a model of its own" in told
    assert re.search(r"^  slurm-tf docs train +# the lines with which its tasks train one model$", told, re.MULTILINE)
    page, _ = types("slurm-tf", "docs", "train")
    (change,) = re.findall(r"^```diff\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    added = [line for line in change.splitlines() if re.match(r"\+.", line)]
    assert len(added) <= 5
    alice.write("train.py", snippets.patched(script, change))
    with watch.part("second submission"):
        _, told = types("slurm-tf", "submit", "digits.toml", "--wait")
    (point,) = json.loads(types("slurm-tf", "status", "digits-2", "--json")[0])
    watch.print_sum()
    watch.print("of these the job of the second submission, in which it trains", point["ended"] - point["started"])
    print(f"2 submissions, {len(added)} lines\n{told}")
    run = RunFolder(str(home / "runs" / "digits-2"))
    assert "\n  model        runs/digits-2/export/digits.keras\n" in told
    assert Path(run.exports, "digits.keras").stat().st_size > 0
    shown, _ = types("slurm-tf", "logs", "digits-2")
    accuracies = re.findall(r"^\[worker:\d\] test accuracy (\S+)$", shown, re.MULTILINE)
    assert len(accuracies) == 4
    assert len(set(accuracies)) == 1
    assert float(accuracies[0]) > 0.85
    # of all samples, 64 in each step of all workers together
    assert [each.step for each in progress.read(run.progress)] == [23, 46, 69, 92, 115]
    assert not re.search("WARNING:tensorflow|Traceback", shown)
    for folder in (packages, home / "venv"):
        shutil.rmtree(folder)
