"""A cluster that nobody has described yet: detect, check, submit, without an edit in between."""

import json
from collections.abc import Callable

import pytest

from tests.cluster.group import Member
from tests.conftest import ROOT
from tests.recorded.record_clusters import SHAPES
from tests.sandbox.cluster import Sandbox
from tests.sandbox.shape import Shape

pytestmark = [pytest.mark.slurm, pytest.mark.slow]

# Each task says what it sees.
PROGRAM = (
    "echo $(echo $CUDA_VISIBLE_DEVICES | tr , ' ' | wc -w) GPUs, scratch $SLURM_TF_SCRATCH, threads $OMP_NUM_THREADS."
)
JOB = """
name = "a"
strategy = "multi_worker"
command = ["bash", "-c", "{program}"]
join = "optional"
gpus-optional = true
time = 5
partition = "{partition}"
account = "vision"
[roles.worker]
count = 2
ntasks-per-node = 1
cpus-per-task = 2
{gpus}
"""
# The folders of golden scripts that each cluster is dressed for.
EXAMPLES = {
    "typed": ("example-typed-gres", "job_templates"),
    "no-gres": ("example-no-gres",),
    "exclusive": ("example-preemption",),
}
# cluster, options of detect, partition, GPUs of a task and how many it sees, what a job may not ask for, and why
CASES = [
    pytest.param(
        "typed", [], "gpu", 'gpus-per-task = "1g.5gb:2"\nconstraint = "a100-80g&intel"', 2,
        "--set=roles.worker.gpus-per-task=1g.5gb:5", "asks for 5 1g.5gb GPUs on a node; needed at most 4",
        id="typed",
    ),
    pytest.param(
        "no-gres", ["--gpus", "gpu-a100=a100:3"], "gpu-a100", 'gpus-per-task = "a100:3"', 3,
        "--partition=normal", "needed a partition with gpus-per-node in the profile of site sandbox",
        marks=pytest.mark.long, id="no-gres",
    ),
    pytest.param(
        "exclusive", [], "qgpu_preempt", 'gpus-per-task = "v100:4"', 4,
        "--time=2-0", "asks for 2-00:00:00; needed at most 1-00:00:00, the limit of partition 'qgpu_preempt'",
        marks=pytest.mark.long, id="exclusive",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "partition", "gpus", "number", "too_much", "message"), CASES)
def test_detect_check_submit(
    name: str,
    options: list[str],
    partition: str,
    gpus: str,
    number: int,
    too_much: str,
    message: str,
    start: Callable[[Shape], Sandbox],
) -> None:
    sandbox = start(SHAPES[name])
    alice = Member(sandbox, "alice", sandbox.shared / "alice")
    path = alice.ok("sites", "detect", *options).strip()
    assert alice.ok("sites", "check") == ""
    assert [row["file"] for row in json.loads(alice.ok("sites", "list", "--json")) if row["is_here"]] == [path]
    # a first job file for a program fits, too
    alice.write("plain.py", "import keras\nmodel.fit(x, y, epochs=1)\n")
    assert "+run = train.init()\n" in alice.ok("init", "plain.py")
    assert "to start at 20" in alice.type("submit", "plain.toml", "--dry-run").stderr
    alice.write("a.toml", JOB.format(program=PROGRAM, partition=partition, gpus=gpus))
    refused = alice.type("submit", "a.toml", too_much)
    assert (refused.returncode, message in refused.stderr) == (2, True), refused.stderr
    assert not (alice.folder / "runs").exists()
    plain = alice.submit("a.toml")
    # a group's five lines on top of it
    alice.write("ours.toml", "inherit = 'sandbox'\nhost-suffix = '-ib0'\nthread-variables = ['OMP_NUM_THREADS']\n")
    ours = alice.submit("a.toml", "--site", "./ours.toml")
    for run, job, threads in (("a-1", plain, ""), ("a-2", ours, "2")):
        assert alice.type("wait", run).returncode == 0
        log = (alice.folder / "runs" / run / "logs" / f"slurm-{job}.out").read_text()
        for task in (0, 1):
            assert f"[worker:{task}] {number} GPUs, scratch /run/node, threads {threads}.\n" in log, log
    # the scripts of the example that the cluster is dressed as
    golden = ROOT / "tests" / "golden"
    for script in sorted(path for folder in EXAMPLES[name] for path in (golden / folder).glob("*.sbatch")):
        # job templates name no partition, and the default one has a single node
        where = ("--partition=gpu", "--account=vision") if script.parent.name == "job_templates" else ()
        assert "to start at 20" in sandbox.run("sbatch", "--test-only", *where, str(script)).stderr
    # the cluster changes
    sandbox.run("scontrol", "update", f"partitionname={partition}", "maxtime=60", user="root")
    done = alice.type("sites", "check")
    assert done.returncode == 1
    assert done.stdout.splitlines()[1].split()[0] == f"partitions.{partition}.max-time"
    assert done.stdout.splitlines()[1].split()[2] == "01:00:00"
