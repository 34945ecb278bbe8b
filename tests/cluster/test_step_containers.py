"""Programs in containers that srun enters: Slurm's own OCI support with crun; pyxis where this machine has it."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.errors import ContainerError
from tests import container_image
from tests.cluster.group import Member

pytestmark = pytest.mark.slurm

NAMES = ("TF_CONFIG", "PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "CUDA_VISIBLE_DEVICES", "FROM_IMAGE", "RATE", "HF_TOKEN")
SHOW = f"""\
import json, os, sys
found = {{name: os.environ.get(name) for name in {(*NAMES, "SLURM_PROCID", "SLURM_TF_TASK")!r}}}
print(json.dumps({{**found, "python": sys.executable, "user": os.getuid(), "here": os.getcwd()}}))
"""
HOSTILE = "a `id` $(id) 'x' \"y\" ; é"
JOB = f"""\
name = "a"
strategy = "multi_worker"
command = ["python3", "show.py"]
join = "optional"
[env]
RATE = {json.dumps(HOSTILE)}
[roles.worker]
count = 2
ntasks-per-node = 1
[container]
image = "bundle"
env-from-host = ["HF_TOKEN"]
"""


def site(runtime: str, images: Path) -> str:
    """Return the text of a site's profile."""
    mount = json.dumps(container_image.site_mount())
    return f"inherit = 'generic'\n[container]\nruntime = '{runtime}'\nimages = '{images}'\nmounts = [{mount}]\n"


def programs(text: str) -> dict[str, Any]:
    """Return what each task's program printed as JSON, by the task's name."""
    return {task: json.loads(found) for task, found in re.findall(r"^\[(worker:\d)\] (\{.*\})$", text, re.MULTILINE)}


def test_agents_run_in_slurms_own_containers(alice: Member) -> None:
    container_image.require()
    alice.write("show.py", SHOW)
    alice.write("a.toml", JOB)
    alice.write("oci.toml", site("oci", container_image.bundle().parent))
    no_python = alice.folder / "no-python"
    for name in ("proc", "sys", "dev", "tmp", "opt/site"):
        alice.run("mkdir", "-p", str(no_python / name))
    host = {"HF_TOKEN": "secret", "LD_LIBRARY_PATH": "/host/lib", "FROM_IMAGE": "no, from the host"}
    words = ("a.toml", "--site=./oci.toml")
    alice.submit(*words, "--name=good", environ=host)
    alice.submit(*words, "--name=bad", "--set=container.image=./no-python")
    waited, text = alice.type("wait", "good"), alice.ok("logs", "good")
    assert waited.returncode == 0, text
    seen = programs(text)
    assert seen.keys() == {"worker:0", "worker:1"}
    for rank, task in enumerate(sorted(seen)):
        config = json.loads(seen[task].pop("TF_CONFIG"))
        assert config["task"] == {"type": "worker", "index": rank}
        assert "of-the-image" not in str(config)
        library = seen[task].pop("PYTHONPATH")
        assert library.startswith("/of/the/image:")
        assert library.endswith("train.zip")
        assert seen[task].pop("here").startswith(str(alice.folder / "runs/good"))
        assert seen[task] == {
            "PATH": container_image.ENVIRONMENT["PATH"], "LD_LIBRARY_PATH": None, "CUDA_VISIBLE_DEVICES": None,
            "FROM_IMAGE": "yes", "RATE": HOSTILE, "HF_TOKEN": "secret", "SLURM_PROCID": str(rank),
            "SLURM_TF_TASK": task, "python": "/usr/bin/python3", "user": 20001,
        }  # fmt: skip
    assert alice.type("wait", "bad").returncode == ContainerError.exit_code
    why = alice.ok("status", "bad")
    assert re.search(r"a container did not start on node\d: .*`python3` not found", why), why
