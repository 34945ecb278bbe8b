"""Records what Slurm says of organizations and their jobs. As root: python3 -m tests.recorded.record_organizations."""

import json
import tempfile
import time
from pathlib import Path

from slurm_tf.slurm import assoc_mgr, associations, command_output, queued_jobs
from tests.recorded.record_limits import SHOW
from tests.sandbox.cluster import Sandbox
from tests.sandbox.shape import Shape

FILE = Path(__file__).parent / "slurm-22.05.8" / "organizations.json"
SHAPE = Shape(
    nodes=2,
    limits=(
        "add account name=physics cluster=sandbox parent=root set GrpTRES=gres/gpu=4,cpu=8,mem=8192 "
        "GrpTRESMins=gres/gpu=6000 MaxWall=1-0",
        "add account name=lasers cluster=sandbox parent=physics set GrpTRES=gres/gpu=3,gres/gpu:a100=3,mem=1000001",
        "add user name=alice account=physics cluster=sandbox GrpTRES=gres/gpu=2",
        "add user name=bob account=lasers cluster=sandbox",
        "add qos name=speech Flags=NoDecay,DenyOnLimit GrpTRESMins=gres/gpu=60 MaxTRESPerUser=gres/gpu=2",
        "add account name=speech cluster=sandbox parent=root set QOS=speech DefaultQOS=speech",
        "add user name=bob account=speech cluster=sandbox",
        "add coordinator account=physics names=alice",
    ),
)
# what runs and waits: alice has both of her GPUs, bob two of the three of lasers, and with both physics has no more
_JOBS = (
    ("alice", "-A physics --gpus=2 --time=20"),
    ("bob", "-A lasers --gpus=2 --time=10"),
    ("alice", "-A physics --gpus=1 --time=20"),
    ("bob", "-A lasers --gpus=1 --array=0-8:2"),
    ("alice", "-A physics --gpus=3 --time=20"),
    ("bob", "-A speech --gpus=1 --time=30"),
)
_ACCOUNTS = ("physics", "vision")  # from which tests remove users


def commands(user: str) -> list[list[str]]:
    """Return the commands whose output organizations.read and user_quota.of_user read."""
    columns = f"format={','.join(associations.ASSOCIATIONS)}"
    squeue = ["squeue", "--noheader", "--all", f"--states={queued_jobs.STATES}"]
    return [
        ["scontrol", "show", "config"],
        [*assoc_mgr.ARGV, "flags=assoc,qos"],
        [*assoc_mgr.ARGV, f"users={user}", "flags=assoc,qos"],
        [*SHOW, "qos", "format=Name,UsageFactor,Flags,MaxTRESPU,MaxTRESPA,MaxJobsPU,MaxSubmitPU"],
        [*SHOW, "assoc", "where", f"user={user}", "format=Cluster,Account,QOS"],
        [*SHOW, "qos", f"format={','.join(associations.QOS)}"],
        [*SHOW, "user", "where", f"name={user}", "WithCoord", f"format={','.join(associations.USERS)}"],
        [*SHOW, "user", "WithCoord", f"format={','.join(associations.USERS)}"],
        [*SHOW, "assoc", "tree", "where", "cluster=sandbox", "WOPLimits", columns],
        [*squeue, command_output.columns(queued_jobs.COLUMNS)],
        *([*squeue, command_output.columns(queued_jobs.COLUMNS), f"--account={name}"] for name in _ACCOUNTS),
    ]  # fmt: skip


def main() -> None:
    sandbox = Sandbox.up(Path(tempfile.mkdtemp(prefix="stf-")), SHAPE, bound=True)
    for user, options in _JOBS:
        argv = ["sbatch", "-N1", "-n1", "--output=/dev/null", *options.split(), "--wrap=sleep 1200"]
        print(sandbox.run(*argv, user=user).stdout, end="")
    time.sleep(8)
    found = {}
    for user in ("alice", "bob"):
        texts = {" ".join(argv): sandbox.run(*argv, user=user).stdout for argv in commands(user)}
        conf = "scontrol show config"
        kept = ("Priority", "Acc", "ClusterName", "PrivateData", "SlurmUser")
        texts[conf] = "".join(f"{line}\n" for line in texts[conf].splitlines() if line.startswith(kept))
        found[user] = texts
    sandbox.down()
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
