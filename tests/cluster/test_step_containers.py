"""Programs in containers that srun enters: Slurm's own OCI support with crun. Others where this machine has them."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.errors import ContainerError
from tests import container_image
from tests.cluster.group import Member
from tests.cluster.test_interrupted_training import EXACT, Training, wait_for_step, whole
from tests.cluster.test_interruptions import preempt
from tests.sandbox.cluster import Sandbox

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


def site(runtime: str, *mounts: str) -> str:
    """Return the text of a site's profile, whose images are the tests'."""
    images = container_image.bundle().parent
    both = json.dumps([container_image.site_mount(), *mounts])
    return f"inherit = 'generic'\n[container]\nruntime = '{runtime}'\nimages = '{images}'\nmounts = {both}\n"


def programs(member: Member, run: str) -> dict[str, Any]:
    """Return what each task's program printed as JSON, by the task's name: srun passes long lines on in pieces."""
    logs = (member.folder / "runs" / run / "logs").glob("worker-?.log")
    return {path.stem.replace("-", ":"): json.loads(path.read_text()) for path in logs}


def test_agents_run_in_slurms_own_containers(alice: Member) -> None:
    container_image.require()
    alice.write("show.py", SHOW)
    alice.write("a.toml", JOB)
    alice.write("oci.toml", site("oci"))
    no_python = alice.folder / "no-python"
    for name in ("proc", "sys", "dev", "tmp", "opt/site"):
        alice.run("mkdir", "-p", str(no_python / name))
    host = {"HF_TOKEN": "secret", "LD_LIBRARY_PATH": "/host/lib", "FROM_IMAGE": "no, from the host"}
    words = ("a.toml", "--site=./oci.toml")
    alice.submit(*words, "--name=good", environ=host)
    alice.submit(*words, "--name=bad", "--set=container.image=./no-python")
    assert alice.type("wait", "good").returncode == 0, alice.ok("logs", "good")
    seen = programs(alice, "good")
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


@pytest.mark.long
@pytest.mark.tensorflow
@pytest.mark.timeout(900)
def test_a_preempted_training_in_slurms_containers_ends_with_the_bits_of_one_outside(
    alice: Member, sandbox: Sandbox, tmp_path: Path
) -> None:
    container_image.require()
    alice.write("oci.toml", site("oci", f"{EXACT.parent}:/mnt/data:ro"))
    command = ["python3", f"/mnt/data/{EXACT.name}", "fit", "0.3", "2"]
    words = ("--site=./oci.toml", "--qos=scavenge", "--set", f"command={json.dumps(command)}")
    run = Training(alice, "inside", *words, epochs=2, tables='[container]\nimage = "bundle"')
    wait_for_step(run, 4)
    preempt(sandbox)
    run.start_again()
    assert run.bits() == whole(tmp_path, 2)
    run.check_work_redone()


def has_apptainer(member: Member) -> bool:
    return member.run("sh", "-c", "command -v apptainer || true") != ""


def has_pyxis(member: Member) -> bool:
    return "--container-image" in member.run("srun", "--help")


@pytest.mark.long
@pytest.mark.parametrize(
    ("runtime", "is_found", "lacking"),
    [
        ("apptainer", has_apptainer, "no apptainer in PATH"),
        ("pyxis", has_pyxis, "srun --help has no --container-image: no spank_pyxis.so"),
    ],
)
def test_a_runtime_that_this_machine_has(
    alice: Member, runtime: str, is_found: Callable[[Member], bool], lacking: str
) -> None:
    container_image.require()
    if not is_found(alice):
        pytest.skip(lacking)
    alice.write("show.py", SHOW)
    alice.write("a.toml", JOB.replace('"bundle"', '"root.squashfs"'))
    alice.write("site.toml", site(runtime))
    alice.submit("a.toml", "--site=./site.toml", environ={"HF_TOKEN": "secret", "LD_LIBRARY_PATH": "/host/lib"})
    assert alice.type("wait", "a-1", timeout=200).returncode == 0, alice.ok("logs", "a-1")
    seen = programs(alice, "a-1")
    assert seen.keys() == {"worker:0", "worker:1"}
    for task, found in seen.items():
        assert json.loads(found["TF_CONFIG"])["task"]["index"] == int(task[-1])
        assert (found["RATE"], found["HF_TOKEN"], found["LD_LIBRARY_PATH"]) == (HOSTILE, "secret", None)
        assert (found["python"], found["user"]) == ("/usr/bin/python3", 20001)
