"""What runs beside a living task on a real Slurm: a command, a shell, and what samples its GPUs."""

import json
import re
import shlex
import time

import pytest

from tests import container_image
from tests.cluster.group import SLURM_TF, Member

pytestmark = pytest.mark.slurm

JOB = """\
name = "a"
strategy = "multi_worker"
join = "optional"
command = ["sleep", "60{x}"]
sweep.x = [1, 2]
time = "10"
env = {MINE = "a $b"}
[roles.worker]
count = 2
ntasks-per-node = 1
gpus-per-node = 1
"""


# prints as driver 535.54 does
NVIDIA_SMI = '#!/bin/sh\necho "$@" >> "$ASKED"\necho "NVIDIA A100-SXM4-40GB, 87, 31012, 40960"\n'


def test_beside_a_task_of_an_array(alice: Member) -> None:
    alice.write("a.toml", JOB)
    alice.run("mkdir", "bin")
    alice.write("bin/nvidia-smi", NVIDIA_SMI)
    alice.run("chmod", "+x", "bin/nvidia-smi")
    path = f"{alice.folder}/bin:{alice.environ()['PATH']}"
    alice.submit("a.toml", environ={"PATH": path, "ASKED": f"{alice.folder}/asked"})
    deadline = time.monotonic() + 120
    while [row["running"] for point in alice.status("a-1") for row in point["roles"]] != [2, 2]:
        assert time.monotonic() < deadline, alice.ok("status", "a-1", "--points")
        time.sleep(0.3)
    show = 'echo "$MINE" "$SLURM_TF_PARAMS" [$CUDA_VISIBLE_DEVICES] $(uname -n); echo "$TF_CONFIG"; pwd; cat; exit 7'
    command = shlex.join([*SLURM_TF, "attach", "a-1/1", "worker:1", "--", "sh", "-c", show])
    done = alice.type("attach", "a-1", "worker:1", "--", "true")
    assert (done.returncode, done.stderr) == (2, "slurm-tf: run a-1 has 2 points; needed one of them: a-1/0\n")
    # its input is that of the command
    typed = alice.run("sh", "-c", f"echo typed | {command}; echo code $?").splitlines()
    assert typed[0].startswith('a $b {"x": 2} [0] node')
    assert json.loads(typed[1])["task"] == {"type": "worker", "index": 1}
    assert typed[2].startswith(f"{alice.folder}/runs/a-1/submission-1/code")
    assert typed[3:] == ["typed", "code 7"]
    done = alice.type("attach", "a-1/1", "worker:1", "--json", "--", "sh", "-c", "echo $SLURM_TF_TASK; exit 7")
    said = json.loads(done.stdout)
    assert (done.returncode, "worker:1\n" in done.stderr) == (7, True)
    assert re.fullmatch(r"node\d", said.pop("node"))
    assert re.fullmatch(r"\d+_1", said.pop("job"))
    assert said.pop("command") == ["sh", "-c", "echo $SLURM_TF_TASK; exit 7"]
    assert said == {"run": "a-1/1", "task": "worker:1", "exit_code": 7}
    # script(1) gives it a terminal
    shell = shlex.join([*SLURM_TF, "attach", "a-1/0"])
    lines = "test -t 0 && echo in $SLURM_TF_TASK of $TERM; exit 5"
    said = alice.run(
        "sh", "-c", f"echo {shlex.quote(lines)} | TERM=vt220 script -qec {shlex.quote(shell)} /dev/null; echo code $?"
    )
    assert "slurm-tf: beside worker:0 on node" in said
    assert "\nin worker:0 of vt220\n" in said, said
    assert said.endswith("code 5\n")
    point = alice.status("a-1/1")[0]
    assert point["tasks"]["worker:1"]["state"] == "running"
    while set(point["gpus"]) != {"worker:0", "worker:1"}:
        assert time.monotonic() < deadline, point
        time.sleep(0.3)
        (point,) = alice.status("a-1/1")
    assert point["gpus"]["worker:1"]["last"]["devices"] == [
        {"name": "NVIDIA A100-SXM4-40GB", "busy": 87, "memory_used": 31012, "memory_total": 40960}
    ]
    assert re.search(r"^worker +2/2 +2/2 +87% +30.3/40G +0$", alice.ok("status", "a-1/1"), re.MULTILINE)
    assert set((alice.folder / "asked").read_text().splitlines()) == {
        "--id=0 --query-gpu=name,utilization.gpu,memory.used,memory.total --format=csv,noheader,nounits"
    }


CONTAINER = """\
name = "{name}"
strategy = "single"
command = ["python3", "-c", "import time; open('up', 'w'); time.sleep(60)"]
time = "10"
[roles.worker]
[container]
image = "{image}"
"""
CONTAINERS = """\
inherit = "generic"
node-python = "/usr/bin/python3"
[container]
runtime = "{runtime}"
"""


def runs(alice: Member, run: str) -> bool:
    """Whether worker 0 of a run is known to run."""
    tasks = alice.status(run)[0]["tasks"] or {}
    return "worker:0" in tasks and tasks["worker:0"]["state"] == "running"


@pytest.mark.long
def test_it_is_in_the_container_of_the_program(alice: Member) -> None:
    container_image.require()
    images = {
        "folder": ("charliecloud", container_image.folder()),
        "squashfs": ("charliecloud", container_image.squashfs()),
        "bundle": ("oci", container_image.bundle()),
    }
    for name, (runtime, image) in images.items():
        alice.write(f"{name}-site.toml", CONTAINERS.format(runtime=runtime))
        alice.write(f"{name}.toml", CONTAINER.format(image=image, name=name))
        alice.submit(f"{name}.toml", f"--site=./{name}-site.toml")
    for name in images:
        deadline = time.monotonic() + 120
        while not (up := list(alice.folder.glob(f"runs/{name}-1/**/up"))) or not runs(alice, f"{name}-1"):
            assert time.monotonic() < deadline, alice.ok("status", f"{name}-1")
            time.sleep(0.3)
        # the image has no ps
        show = "id -un; pwd; ls -d /opt/site /ch; command -v ps; echo $SLURM_TF_TASK; exit 7"
        done = alice.type(
            "attach", f"{name}-1", "--", "sh", "-c", show, environ={"SLURM_TF_SITE": f"./{name}-site.toml"}
        )
        assert (done.returncode, "slurm-tf:" in done.stderr) == (7, False), done.stderr
        assert done.stdout == f"alice\n{up[0].parent}\n/ch\n/opt/site\nworker:0\n"
