"""Programs in Charliecloud on a real Slurm: an image that is a folder, and one that is a file."""

import json
import re

import pytest

from tests import container_image
from tests.cluster.group import Member

pytestmark = pytest.mark.slurm

# each of the image's variables, what the job and the node set, and what is mounted
SHOW = """
import json, os, socket
import slurm_tf.train
print(json.dumps({
    "environ": dict(os.environ), "cwd": os.getcwd(), "node": socket.gethostname(), "uid": os.getuid(),
    "train": slurm_tf.train.__file__, "data": open("/home/of the job/data").read(), "homes": os.listdir("/home"),
    "staged": open(os.environ["SLURM_TF_STAGE_FOLDER"] + "/data").read(), "stage": os.environ["SLURM_TF_STAGE_FOLDER"],
    "writes": os.access(os.environ["SLURM_TF_CHECKPOINT_FOLDER"], os.W_OK),
}), flush=True)
"""
JOB = """
name = "show"
strategy = "multi_worker"
command = ["python3", "show.py"]
join = "optional"
time = 5
[roles.worker]
count = 2
ntasks-per-node = 1
[roles.evaluator]
[env]
HOSTILE = '''a $HOME_ `id` "b" 'c' \\\\ é'''
[container]
image = "rootfs"
mounts = ["data:/home/of the job/data"]
env-from-host = ["NAMED"]
[roles.evaluator.container]
image = "root.squashfs"
[stage]
paths = ["data"]
"""
HOSTILE = "a $HOME_ `id` \"b\" 'c' \\\\ é"


def site(member: Member, **images: str) -> str:
    """Write the profile of a site whose nodes have Charliecloud; return the option that names it."""
    folder = member.folder / "images"
    member.run("mkdir", str(folder))
    for name, path in images.items():
        member.run("ln", "-s", path, str(folder / name))
    text = f"inherit = 'generic'\n[container]\nruntime = 'charliecloud'\nimages = '{folder}'\n"
    return f"--site=./{member.write('site.toml', text)}"


def test_programs_find_what_is_theirs_in_two_images(alice: Member) -> None:
    container_image.require()
    images = {"rootfs": str(container_image.folder()), "root.squashfs": str(container_image.squashfs())}
    words = [alice.write("job.toml", JOB), site(alice, **images)]
    alice.write("show.py", SHOW)
    alice.write("data", "of the job")
    alice.submit(*words, environ={"NAMED": "of the host", "PYTHONHOME": "/nowhere", "FROM_IMAGE": "no"})
    waited = alice.type("wait", "show-1", timeout=120)
    assert waited.returncode == 0, alice.ok("logs", "show-1")
    # srun passes long lines on in pieces: each task's own log has them whole
    logs = {path.stem: path.read_text() for path in (alice.folder / "runs/show-1/logs").glob("*-?.log")}
    shown = {name.replace("-", ":"): json.loads(text) for name, text in logs.items()}
    assert set(shown) == {"worker:0", "worker:1", "evaluator:0"}
    assert len({each["node"] for name, each in shown.items() if "worker" in name}) == 2
    for name, each in shown.items():
        environ = each["environ"]
        role, _, index = name.partition(":")
        config = json.loads(environ["TF_CONFIG"])
        assert config["task"] == {"type": role, "index": int(index)}
        assert not any("of-the-image" in address for address in config["cluster"]["worker"])
        assert environ.get("CUDA_VISIBLE_DEVICES", "") == ""
        assert environ["PATH"] == container_image.ENVIRONMENT["PATH"]
        assert re.fullmatch(r"/of/the/image:/.*/submission-1/train\.zip", environ["PYTHONPATH"])
        assert (environ["HOSTILE"], environ["NAMED"], environ["FROM_IMAGE"]) == (HOSTILE, "of the host", "yes")
        assert "PYTHONHOME" not in environ
        assert environ["SLURM_TF_TASK"] == name
        assert (each["staged"], each["stage"].startswith("/tmp/slurm-tf-20001/")) == ("of the job", True)
        assert each["cwd"].startswith(f"{alice.folder}/runs/show-1/submission-1/code/")
        assert each["train"].startswith(environ["PYTHONPATH"].partition(":")[2])
        assert (each["data"], each["homes"], each["uid"], each["writes"]) == ("of the job", ["of the job"], 20001, True)


CHECKED = """
name = "checked"
strategy = "multi_worker"
command = ["python3", "-c", "pass"]
time = 5
[roles.worker]
count = 2
ntasks-per-node = 1
[container]
image = "{image}"
[launch]
# what else this machine does is no reason
preflight-factor = 30
"""


@pytest.mark.long
def test_a_preflight_tries_the_container_on_each_node(alice: Member) -> None:
    container_image.require()
    broken = alice.folder.parent / f"{alice.folder.name}-broken"  # the code of a run is all of its folder
    container_image.copy(broken)
    (broken / "usr/bin/python3").unlink()
    options = site(alice, rootfs=str(container_image.folder()), broken=str(broken))
    healthy = alice.type("preflight", alice.write("a.toml", CHECKED.format(image="rootfs")), options, timeout=120)
    assert healthy.returncode == 0, (healthy.stdout, healthy.stderr)
    lines = healthy.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["node", "node1", "node2"]
    assert all(line.endswith("ok") for line in lines[2:]), healthy.stdout
    refused = alice.type("preflight", alice.write("b.toml", CHECKED.format(image="broken")), options, timeout=120)
    assert refused.returncode not in (0, 70), (refused.stdout, refused.stderr)
    assert "node1" in refused.stdout + refused.stderr
    assert "python3" in refused.stdout + refused.stderr
