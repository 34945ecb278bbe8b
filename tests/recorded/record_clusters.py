"""Records what sandboxes unlike the default one print of themselves.

As root: python3 -m tests.recorded.record_clusters.
They are dressed as the example profiles of site_configs/.
"""

import json
import re
import tempfile
from pathlib import Path

from slurm_tf.slurm import command_output, live_cluster
from tests.sandbox.cluster import Sandbox
from tests.sandbox.shape import Shape

FOLDER = Path(__file__).parent / "slurm-22.05.8" / "clusters"
_WHOLE = "OverSubscribe=EXCLUSIVE Nodes=ALL"
SHAPES = {
    # as site_configs/example-no-gres.toml
    "no-gres": Shape(
        cpus=128,
        memory=262144,
        gpus="",
        partitions=(
            "normal Default=YES MaxTime=2-0 MaxNodes=64 Nodes=ALL",
            "gpu-a100 MaxTime=2-0 MaxNodes=8 Nodes=ALL",
        ),
    ),
    # as site_configs/example-typed-gres.toml, with MIG
    "typed": Shape(
        cpus=72,
        memory=524288,
        gpus="a100:4,1g.5gb:4",
        features="a100,a100-80g,intel",
        partitions=(
            "cpu Default=YES MaxTime=1-0 Nodes=node1",
            "gpu MaxTime=1-0 DefMemPerNode=4000 AllowAccounts=vision AllowQos=normal,urgent Nodes=ALL",
        ),
    ),
    # as site_configs/example-preemption.toml
    "exclusive": Shape(
        cpus=24,
        memory=196608,
        gpus="v100:4",
        partitions=(
            f"qgpu Default=YES MaxTime=2-0 PriorityTier=10 {_WHOLE}",
            f"qgpu_preempt MaxTime=1-0 PriorityTier=1 PreemptMode=REQUEUE GraceTime=120 {_WHOLE}",
        ),
        slurm_conf=("PreemptType=preempt/partition_prio",),
    ),
}
# of `scontrol show config`, which has two hundred lines
_KEPT = r"Preempt\w+|Cluster\w+|Accounting\w+|DefMem\w+|Job\w+|Select\w+|TmpFS|SLURM_VERSION"
_OTHERS = re.compile(rf"^(?!(?:{_KEPT}) ).*\n", re.MULTILINE)


def commands() -> list[list[str]]:
    """Return the commands of live_cluster.ask, in their order, for user alice."""
    columns = f"--format={command_output.SEPARATOR.join(live_cluster.NODES)}"
    show = ["sacctmgr", "--parsable2", "--noheader", "--readonly", "show"]
    return [
        ["scontrol", "show", "config"],
        ["scontrol", "--oneliner", "show", "partition"],
        ["sinfo", "--noheader", "--exact", columns],
        [*show, "assoc", "where", "user=alice", "cluster=sandbox", "format=Account,QOS"],
        [*show, "account", "format=Account"],
        [*show, "qos", f"format={','.join(live_cluster.QOS)}"],
        ["srun", "--mpi=list"],
    ]


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    for name, shape in SHAPES.items():
        sandbox = Sandbox.up(Path(tempfile.mkdtemp(prefix="stf-")), shape, bound=True)
        rows = []
        for argv in commands():
            done = sandbox.run(*argv)
            text = _OTHERS.sub("", done.stdout) if "config" in argv else done.stdout
            rows.append({"argv": argv, "stdout": text, "stderr": done.stderr})
        sandbox.down()
        (FOLDER / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
