"""The devices of tasks on a real Slurm: those that Slurm does not know of, shared ones, unused ones, other gres."""

import re

import pytest

from tests.cluster.group import Member

pytestmark = pytest.mark.slurm

SITE = """
gpu-spelling = "{spelling}"
[partitions.cpu]
gpus-per-node = 2
"""
HEAD = (
    'name = "{name}"\nstrategy = "multi_worker"\njoin = "optional"\n'
    'command = ["bash", "-c", "echo [$CUDA_VISIBLE_DEVICES]"]\n'
)


def submit(member: Member, name: str, text: str, *words: str, **environ: str) -> str:
    """Submit a job whose tasks print their devices, from a shell with `environ`; return its id."""
    path = member.write(f"{name}.toml", HEAD.format(name=name) + text)
    return member.submit(path, "--time=2", *words, environ=environ)


def devices(text: str) -> list[tuple[str, str]]:
    """Return the devices of each task, as it printed them."""
    return sorted(re.findall(r"^\[(worker:\d+)\] \[(.*)\]$", text, re.MULTILINE))


def test_whose_devices_are_whose(alice: Member) -> None:
    by_index = alice.write("none.toml", SITE.format(spelling="none"))
    as_gres = alice.write("gres.toml", SITE.format(spelling="gres"))
    role = "[roles.worker]\ncount = {count}\nntasks-per-node = {tasks}\ngpus-per-node = {gpus}\n"
    # a partition is its GPUs: Slurm is not asked, and gives none
    no_gres = submit(alice, "index", role.format(count=2, tasks=2, gpus=2), "-p", "cpu", f"--site={by_index}")
    two = role.format(count=1, tasks=2, gpus=2)
    nvme = submit(alice, "nvme", two, "--gres=nvme:100", f"--site={as_gres}")
    # srun takes it from the shell that the job was submitted from
    submit(alice, "shared", role.format(count=4, tasks=4, gpus=4), SLURM_GPU_BIND="mask_gpu:0x3,0x3,0xc,0xc")
    submit(alice, "alone", "exclusive = true\n[roles.worker]\n")
    states = {run: alice.type("wait", f"{run}-1").returncode for run in ("index", "nvme", "shared", "alone")}
    said = {run: alice.ok("logs", f"{run}-1") for run in states}
    assert states == {"index": 0, "nvme": 0, "shared": 65, "alone": 0}, said
    assert devices(said["index"]) == [("worker:0", "0"), ("worker:1", "1")]
    assert alice.sacct(no_gres) == ["COMPLETED"]
    assert "gres" not in alice.run("sacct", "-nPX", "-j", no_gres, "-o", "AllocTRES")
    # both options of the user are there: the GPUs, of which one is not used, and the other gres
    assert devices(said["nvme"]) == [("worker:0", "0")]
    assert "gres:gpu:2,gres:nvme:100" in alice.run("scontrol", "show", "job", nvme)
    assert re.search(r"warning: .* it has 2 GPUs on node\d and its tasks use 1; ask for as many", said["nvme"])
    assert devices(said["shared"]) == []
    assert re.search(
        r"4 tasks on node\d see 8 GPUs in all, and the job has 4 there: rank 0 sees 0,1; rank 1 sees 0,1; .*"
        r" \(bound by gpu:mask_gpu:0x3,0x3,0xc,0xc\); needed GPUs of its own for each task\n.*gpus-per-task = 1",
        said["shared"],
    )
    # an exclusive job holds its node's GPUs, and srun gives a step only those that it asks for
    assert devices(said["alone"]) == [("worker:0", "")]
    assert re.search(r"warning: .* it has 4 GPUs on node\d and its tasks use 0;", said["alone"])
