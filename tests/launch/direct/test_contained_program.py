"""A program in the container of a run's role, without a job; the runtime is the stand-in of the launcher's tests."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_tf.run.container_settings import ContainerSettings, Runtime
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.settings import RoleSettings, write_settings
from tests.conftest import PYTHONPATH
from tests.launch.conftest import DEFAULTS

STAND_IN = Path(__file__).parents[1] / "programs" / "apptainer.py"
SHOW = "import json, os; print(json.dumps(dict(os.environ)))"


def enter(folder: Path, role: str, *words: str, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Have the launcher enter the container of a role and show its variables, at the point 3 of an array."""
    image = folder / "image"
    image.mkdir(exist_ok=True)
    (image / "environment").write_text("PATH=/usr/bin:/bin\nPYTHONPATH=/of/the/image\nSLURM_TF_TASK=of-the-image:1\n")
    container = ContainerSettings(Runtime.APPTAINER, (sys.executable, str(STAND_IN)), str(image))
    roles = (
        RoleSettings("worker", 1, container=container),
        RoleSettings("ps", 1, container=replace(container, runtime=Runtime.PYXIS)),
    )
    submission = RunFolder(str(folder / "a-1")).submission(1)
    Path(submission.path).mkdir(parents=True, exist_ok=True)
    write_settings(submission, replace(DEFAULTS, roles=roles, env={"RATE": "{rate}"}, points={"3": {"rate": 0.5}}))
    argv = [sys.executable, "-m", "slurm_tf.launch", "enter", submission.path, role, "--point=3", *words, "--"]
    return subprocess.run(
        [*argv, sys.executable, "-c", SHOW], cwd=folder, capture_output=True, text=True, timeout=120, check=False,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": PYTHONPATH, **environ},
    )  # fmt: skip


def test_it_has_the_variables_of_the_image_of_the_job_and_of_slurm_tf(tmp_path: Path) -> None:
    done = enter(tmp_path, "worker", f"--mount={tmp_path}", SLURM_TF_TASK="worker:0", MINE="1")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    names = ("RATE", "SLURM_TF_TASK", "MINE", "PATH", "PYTHONPATH")
    library = f"{tmp_path}/a-1/submission-1/train.zip"
    assert [found.get(name) for name in names] == ["0.5", "worker:0", "1", "/usr/bin:/bin", f"/of/the/image:{library}"]


@pytest.mark.parametrize(
    ("role", "words", "code", "message"),
    [
        ("evaluator", (), 126, "role evaluator of .*/submission-1 has no container that can be entered here"),
        ("ps", (), 126, "role ps of .*/submission-1 has no container that can be entered here"),
        ("worker", ("--mount=/no/folder",), 126, "there is no /no/folder, which is to be mounted at /no/folder"),
    ],
)
def test_what_cannot_be_entered_is_one_error(
    role: str, words: tuple[str, ...], code: int, message: str, tmp_path: Path
) -> None:
    done = enter(tmp_path, role, *words)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.count("\n") == 1
    assert message.replace(".*", f"{tmp_path}/a-1") in done.stderr
