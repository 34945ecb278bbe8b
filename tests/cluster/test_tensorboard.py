"""TensorBoard on a node: its job, where it listens, the way to it, its end."""

import json
import re
import signal
import subprocess
import sys

import pytest

from tests.conftest import ROOT
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


def test_on_a_node_until_ctrl_c(sandbox: Sandbox) -> None:
    folder = sandbox.shared / "board"
    sandbox.run("mkdir", str(folder))
    for name, text in (("job.toml", JOB), ("write.py", WRITE)):
        (folder / name).write_text(text)
    slurm_tf, environ = [sys.executable, "-m", "slurm_tf"], {"PYTHONPATH": str(ROOT)}
    sandbox.run(*slurm_tf, "submit", "job.toml", "--name=board", "--wait", cwd=folder, env=environ, timeout=200)
    words = [*slurm_tf, "tensorboard", "board", "--node", "--mem=2G", "-t", "10"]
    with sandbox.popen(
        *words, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
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


def test_what_slurm_refuses_is_said(sandbox: Sandbox) -> None:
    folder = sandbox.shared / "refused"
    sandbox.run("mkdir", str(folder))
    (folder / "job.toml").write_text(JOB)
    slurm_tf, environ = [sys.executable, "-m", "slurm_tf"], {"PYTHONPATH": str(ROOT)}
    sandbox.run(*slurm_tf, "submit", "job.toml", "--name=refused", "--hold", cwd=folder, env=environ)
    words = [*slurm_tf, "tensorboard", "refused", "--node", "--partition=none-such"]
    done = sandbox.run(*words, cwd=folder, env=environ, check=False)
    sandbox.run(*slurm_tf, "cancel", "refused", cwd=folder, env=environ)
    assert done.returncode == 73
    assert "srun: error: invalid partition specified: none-such" in done.stderr
