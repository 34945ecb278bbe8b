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


def test_a_program_in_a_container_exports_there_and_its_checkpoints_say_what_to_do(alice: Member) -> None:
    container_image.require()
    text = JOB.format(packages=json.dumps(container_image.SITE), mount=json.dumps(container_image.site_mount()))
    alice.write("exporting.py", (ROOT / "tests" / "programs" / "exporting.py").read_text())
    alice.submit(alice.write("line.toml", text), site(alice, rootfs=str(container_image.folder())))
    waited = alice.type("wait", "line-1", timeout=300)
    assert waited.returncode == 0, alice.ok("logs", "line-1")
    run = alice.folder / "runs" / "line-1"
    assert f"exported {run}/export/1" in alice.ok("logs", "line-1")

    refused = alice.type("export", "line-1", "--step", "10", "--to", "models/line")
    assert refused.returncode == 65
    assert "is in a container, and has exported nothing of step 10" in refused.stderr
    assert "slurm-tf resubmit line-1: there it restores" in refused.stderr
    assert not (alice.folder / "models").exists()

    alice.ok("export", "line-1", "--to", "models/line", "--python", sys.executable, timeout=120)
    assert (alice.folder / "models" / "line" / "1" / "saved_model.pb").exists()
    # what the error says: the program goes on from its newest checkpoint, and exports again
    alice.ok("resubmit", "line-1", "--yes")
    assert alice.type("wait", "line-1", timeout=300).returncode == 0
    assert (run / "export" / "2" / "saved_model.pb").exists()
