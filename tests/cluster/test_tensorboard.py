"""TensorBoard on a node: its job, where it listens, the way to it, its end."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import PYTHONPATH
from tests.sandbox import linux
from tests.sandbox.cluster import Sandbox
from tests.watch.test_tensorboard import WRITE

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]

JOB = f"""\
name = "board"
strategy = "single"
command = ["sh", "-c", '"$0" write.py "$SLURM_TF_TENSORBOARD_FOLDER"', {json.dumps(sys.executable)}]
partition = "cpu"
time = "5"
[roles.worker]
mem = "2G"
"""
SSH = re.compile(r"ssh -L (\d+):localhost:\1 -J alice@ctl alice@(node\d)\n")
ASK = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=30).read().decode())"


SLURM_TF = [sys.executable, "-m", "slurm_tf"]
ENVIRON = {"PYTHONPATH": PYTHONPATH}


@pytest.fixture
def submitted(sandbox: Sandbox) -> Callable[..., Path]:
    """Submit the job as run `name`; return the folder that it was submitted from."""

    def submit(name: str, *words: str) -> Path:
        folder = sandbox.shared / name
        sandbox.run("mkdir", str(folder))
        for file, text in (("job.toml", JOB), ("write.py", WRITE)):
            (folder / file).write_text(text)
        command = [*SLURM_TF, "submit", "job.toml", f"--name={name}", *words]
        sandbox.run(*command, cwd=folder, env=ENVIRON, timeout=200)
        return folder

    return submit


def started(sandbox: Sandbox, folder: Path, *words: str) -> "subprocess.Popen[str]":
    command = [*SLURM_TF, "tensorboard", folder.name, "--node", *words]
    pipe = subprocess.PIPE
    return sandbox.popen(*command, cwd=folder, env=ENVIRON, stdout=pipe, stderr=pipe, text=True)


@pytest.mark.long  # tests/watch/test_tensorboard.py runs the real one
def test_on_a_node_until_ctrl_c(sandbox: Sandbox, submitted: Callable[..., Path]) -> None:
    folder = submitted("board", "--wait")
    with started(sandbox, folder, "--mem=2G", "-t", "10") as process:
        assert process.stdout
        line = process.stdout.readline()
        found = SSH.fullmatch(line)
        assert found, (line, process.communicate(timeout=60))
        url, node = f"http://127.0.0.1:{found[1]}/data/runs", found[2]
        job = sandbox.run("squeue", "--noheader", "--format=%j %P %N %l %m").stdout
        assert job == f"tensorboard cpu {node} 10:00 2G\n"
        ask = (sys.executable, "-c", ASK)
        linux.wait_until("the run", lambda: sandbox.run(*ask, url, node=node, user="bob").stdout == '["."]\n')
        # bob, on that node, gets in; nobody comes from another host
        refused = sandbox.run(*ask, url.replace("127.0.0.1", node), check=False)
        assert "Connection refused" in refused.stderr
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode == 130
    linux.wait_until("its job is gone", lambda: not sandbox.run("squeue", "--noheader").stdout)
    assert sandbox.run("pgrep", "-f", "tensorboard --logdir", node=node, check=False).returncode == 1


def test_ctrl_c_while_its_job_pends_leaves_no_job(sandbox: Sandbox, submitted: Callable[..., Path]) -> None:
    folder = submitted("pending", "--hold")
    with started(sandbox, folder, "--begin=now+1hour") as process:
        assert process.stderr
        lines = iter(process.stderr.readline, "")
        assert any("queued and waiting for resources" in line for line in lines)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    sandbox.run(*SLURM_TF, "cancel", "pending", cwd=folder, env=ENVIRON)
    linux.wait_until("its job is gone", lambda: not sandbox.run("squeue", "--noheader").stdout)


def test_what_slurm_refuses_is_said(sandbox: Sandbox, submitted: Callable[..., Path]) -> None:
    folder = submitted("refused", "--hold")
    with started(sandbox, folder, "--partition=none-such") as process:
        _, err = process.communicate(timeout=60)
    sandbox.run(*SLURM_TF, "cancel", "refused", cwd=folder, env=ENVIRON)
    assert process.returncode == 73
    assert "srun: error: invalid partition specified: none-such" in err
