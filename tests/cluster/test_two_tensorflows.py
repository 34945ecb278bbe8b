"""Two TensorFlows in one job, and a run that goes on under another one: Charliecloud on a real Slurm.

The second TensorFlow is that of an environment of `make test-matrix`.
"""

from pathlib import Path

import pytest

from tests import container_image
from tests.cluster.group import Member
from tests.conftest import ROOT

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow, pytest.mark.long]

PROGRAM = """
import sys
import tensorflow as tf
import slurm_tf.train as train

run = train.init()
with run.scope():
    weight = tf.Variable(0.0)
data = run.batches(tf.ones([8]), batch_size=4)
run.checkpoint(weight=weight)
for done, logs in run.loop(lambda batch: {"weight": weight.assign_add(1.0)}, data, steps=int(sys.argv[1]), every=2):
    print(f"{run.role} under {tf.__version__} at step {done}: {weight.numpy()}", flush=True)
"""
JOB = """
name = "two"
strategy = "multi_worker"
command = ["python3", "two.py", "{steps}"]
time = 10
exclusive = true
[roles.worker]
count = 2
ntasks-per-node = 1
[roles.evaluator]
[checkpoint]
every-steps = 2
[params]
steps = 4
[container]
image = "%(folder)s"
mounts = ["%(site)s"]
[roles.evaluator.container]
image = "%(squashfs)s"
mounts = ["%(other)s"]
"""

SITE = "inherit = 'generic'\n[container]\nruntime = 'charliecloud'\n"


def version(packages: Path) -> str:
    """Return which TensorFlow is installed in a folder of packages, "" for none."""
    names = [path.name for path in packages.glob("tensorflow_cpu-*.dist-info")]
    return names[0].removeprefix("tensorflow_cpu-").removesuffix(".dist-info") if names else ""


def other_packages(own: str) -> Path:
    """Return the packages of an environment with another TensorFlow."""
    for path in sorted(ROOT.glob(".venv-tf*/lib/python3.*/site-packages")):
        if version(path) not in ("", own):
            return path.resolve()
    pytest.skip(f"found TensorFlow {own} alone; needed another one: make test-matrix")


def test_two_roles_of_two_tensorflows_and_then_the_other_one_alone(alice: Member) -> None:
    container_image.require()
    site = container_image.site_mount()
    own = version(Path(site.partition(":")[0]))
    packages = other_packages(own)
    other = version(packages)
    values = {
        "folder": container_image.folder(), "squashfs": container_image.squashfs(), "site": site,
        "other": f"{packages}:{container_image.SITE}:ro",
    }  # fmt: skip
    alice.write("two.py", PROGRAM)
    words = [
        alice.write("job.toml", JOB % values),
        f"--site=./{alice.write('site.toml', SITE)}",
        "--name=two-1",
    ]
    alice.submit(*words)
    assert alice.type("wait", "two-1", timeout=240).returncode == 0, alice.ok("logs", "two-1")
    logs = alice.ok("logs", "two-1")
    assert f"worker under {own} at step 4: 4.0" in logs
    assert f"evaluator under {other} at step 4: 4.0" in logs
    alice.submit(*words, "steps=6", f'--set=container.mounts=["{values["other"]}"]')
    assert alice.type("wait", "two-1", timeout=240).returncode == 0, alice.ok("logs", "two-1")
    logs = alice.ok("logs", "two-1")
    assert f"worker under {other} at step 6: 6.0" in logs
    output = "".join(path.read_text() for path in (alice.folder / "runs/two-1/logs").glob("slurm-*.out"))
    assert f"slurm-tf: worker goes on under TensorFlow {other}; it was {own} before" in output
    assert other in alice.ok("status", "two-1")
