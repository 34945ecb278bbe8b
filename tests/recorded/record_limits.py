"""Records what Slurm says of limits, and of what is used of them. As root: python3 -m tests.recorded.record_limits."""

import json
import tempfile
import time
from pathlib import Path

from slurm_tf.slurm import assoc_mgr, usage_limits
from tests.sandbox.cluster import Sandbox
from tests.sandbox.shape import Shape

FILE = Path(__file__).parent / "slurm-22.05.8" / "limits.json"
SHAPE = Shape(
    nodes=2,
    limits=(
        "modify account vision set GrpTRESMins=gres/gpu=6000,cpu=100000 GrpTRES=gres/gpu=6 MaxTRES=node=2",
        "modify user alice set MaxTRESMins=gres/gpu=1200 GrpTRESMins=gres/gpu=3000 MaxJobs=20 MaxSubmitJobs=50 "
        "MaxWall=1-0",
        "modify qos scavenge set UsageFactor=0 MaxTRESPA=gres/gpu=2",
        "modify qos normal set MaxTRESPA=gres/gpu=8",
        "modify qos urgent set UsageFactor=2.5 GrpTRESMins=gres/gpu=500 Flags=NoDecay",
    ),
)
SHOW = ("sacctmgr", "--parsable2", "--noheader", "--readonly", "show")
# what alice ran before: three jobs of under a minute; and what runs meanwhile
_ENDED = ("--gpus=3 --qos=normal", "--gpus=1 --qos=urgent", "--gpus=1 --qos=scavenge")
_RUNNING = ("--gpus=2 --qos=normal", "--gpus=1 --qos=gpuq")


def commands(user: str) -> dict[str, list[str]]:
    """Return the commands of usage_limits.ask, by the argument of usage_limits.parse that takes their output."""
    return {
        "settings": ["scontrol", "show", "config"],
        "manager": [*assoc_mgr.ARGV, f"users={user}", "flags=assoc,qos"],
        "qos": [*SHOW, "qos", f"format={','.join(usage_limits.QOS)}"],
        "own": [*SHOW, "assoc", "where", f"user={user}", "format=Cluster,Account,QOS"],
    }


def _submit(sandbox: Sandbox, options: str, seconds: int) -> None:
    argv = ["sbatch", "-A", "vision", "-N1", "-n1", "--output=/dev/null", *options.split()]
    sandbox.run(*argv, f"--time={seconds // 60 + 1}", f"--wrap=sleep {seconds}", user="alice")


def record(sandbox: Sandbox) -> dict[str, dict[str, str]]:
    """Return what is printed for alice, who has jobs, and for bob, who has none."""
    found = {}
    for user in ("alice", "bob"):
        texts = {name: sandbox.run(*argv, user=user).stdout for name, argv in commands(user).items()}
        kept = [line for line in texts["settings"].splitlines() if line.startswith(("Priority", "Acc", "ClusterName"))]
        found[user] = {**texts, "settings": "\n".join(kept) + "\n"}
    return found


def main() -> None:
    sandbox = Sandbox.up(Path(tempfile.mkdtemp(prefix="stf-")), SHAPE, bound=True)
    for options in _ENDED:
        _submit(sandbox, options, 45)
    time.sleep(60)
    for options in _RUNNING:
        _submit(sandbox, options, 1200)
    time.sleep(5)
    found = record(sandbox)
    sandbox.down()
    FILE.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
