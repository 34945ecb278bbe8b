"""A model that was just trained answers on this machine: the command that `run` prints serves it."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PYTHONPATH, ROOT

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

JOB = """\
name = "doubling"
strategy = "single"
command = ["{python}", "train.py"]
[roles.worker]
[env]
TF_CPP_MIN_LOG_LEVEL = "2"
TF_ENABLE_ONEDNN_OPTS = "0"
"""
TRAIN = """\
import os, runpy, sys
sys.argv[1:] = [os.environ["SLURM_TF_EXPORT_FOLDER"], "1"]
runpy.run_path("{program}", run_name="__main__")
"""


def test_the_command_that_run_prints_serves_and_the_one_that_serve_prints_answers(tmp_path: Path) -> None:
    program = ROOT / "tests" / "programs" / "doubling_model.py"
    (tmp_path / "doubling.toml").write_text(JOB.format(python=sys.executable))
    (tmp_path / "train.py").write_text(TRAIN.format(program=program))
    environ = {
        **os.environ, "PYTHONPATH": PYTHONPATH, "XDG_STATE_HOME": str(tmp_path / "state"), "TF_CPP_MIN_LOG_LEVEL": "2",
    }  # fmt: skip
    slurm_tf = [sys.executable, "-m", "slurm_tf"]
    trained = subprocess.run(
        [*slurm_tf, "run", "doubling.toml"], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120,
        check=True,
    )  # fmt: skip
    typed = re.search(r" (serve doubling=\S+ --local)  +# its model answers requests here$", trained.stderr.rstrip())
    assert typed, trained.stderr
    argv = [*slurm_tf, *shlex.split(typed[1]), "--port", "0"]
    with subprocess.Popen(argv, cwd=tmp_path, env=environ, stderr=subprocess.PIPE, text=True) as serving:
        assert serving.stderr is not None
        said = ""
        while not (line := re.search(r"^slurm-tf: doubling answers: (curl .*)$", said, re.MULTILINE)):
            more = serving.stderr.readline()
            assert more, said
            said += more
        curl = subprocess.run([*shlex.split(line[1]), "-s"], capture_output=True, text=True, timeout=60, check=True)
        assert json.loads(curl.stdout) == {"outputs": [[0.0]]}
        own = "from slurm_tf.client import Model; print(Model('doubling').predict([[3.5], [4]]).tolist())"
        asked = subprocess.run(
            [sys.executable, "-c", own], cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=60,
            check=True,
        )  # fmt: skip
        assert asked.stdout == "[[7.0], [8.0]]\n"
        serving.send_signal(signal.SIGTERM)  # as a Ctrl-C, which a terminal sends to all
        serving.stderr.read()
    assert not list((tmp_path / "runs" / "doubling-2" / "endpoints").iterdir())
