"""A program in Charliecloud exports its model there; what it has exported becomes a version of a model elsewhere."""

import json
import sys

import pytest

from tests import container_image
from tests.cluster.group import Member
from tests.cluster.test_containers import site
from tests.conftest import ROOT

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow, pytest.mark.long, pytest.mark.timeout(600)]

JOB = """
name = "line"
strategy = "single"
command = ["python3", "exporting.py", "--steps", "20"]
time = 10
[roles.worker]
mem = "2G"
[checkpoint]
every-steps = 10
[env]
PYTHONPATH = {packages}
TF_CPP_MIN_LOG_LEVEL = "2"
TF_ENABLE_ONEDNN_OPTS = "0"
[container]
image = "rootfs"
mounts = [{mount}]
"""


# In front of the program: the image has this file, no node has it.
WHERE = "import os, sys\nprint('in the image:', os.path.exists('/ch/environment'), file=sys.stderr)\n"


def test_a_program_in_a_container_exports_there_and_its_checkpoints_are_exported_there(alice: Member) -> None:
    container_image.require()
    text = JOB.format(packages=json.dumps(container_image.SITE), mount=json.dumps(container_image.site_mount()))
    alice.write("exporting.py", WHERE + (ROOT / "tests" / "programs" / "exporting.py").read_text())
    alice.submit(alice.write("line.toml", text), site(alice, rootfs=str(container_image.folder())))
    waited = alice.type("wait", "line-1", timeout=300)
    assert waited.returncode == 0, alice.ok("logs", "line-1")
    run = alice.folder / "runs" / "line-1"
    assert f"exported {run}/export/1" in alice.ok("logs", "line-1")

    # a checkpoint of which it has exported nothing: it builds the model in the container, where it is checked, too
    done = alice.type("export", "line-1", "--step", "10", "--to", "models/line", timeout=300)
    assert (done.returncode, done.stdout) == (0, "version 1 is in models/line/1\n"), done.stderr
    assert "in the image: True\n" in done.stderr
    version = alice.folder / "models" / "line" / "1"
    manifest = json.loads((version / "assets.extra" / "slurm_tf.json").read_text())
    assert (manifest["step"], manifest["rejected"], [*manifest["signatures"]]) == (10, "", ["serving_default"])
    assert (version / "assets.extra" / "tf_serving_warmup_requests").stat().st_size > 0

    # what it has exported is copied, and checked by another Python
    done = alice.type("export", "line-1", "--to", "models/line", "--python", sys.executable, timeout=120)
    assert (done.returncode, done.stdout) == (0, "version 2 is in models/line/2\n"), done.stderr
    assert "in the image" not in done.stderr

    # where the container cannot be entered there is one error, and no version
    done = alice.type("export", "line-1", "--to", "models/line", environ={"PATH": "/nowhere"}, timeout=120)
    assert done.returncode == 65
    assert "there is no program ch-run in PATH=/nowhere" in done.stderr
    assert sorted(path.name for path in version.parent.iterdir() if path.name.isdigit()) == ["1", "2"]
