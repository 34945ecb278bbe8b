"""The shape of a sandbox: its nodes, GPUs, partitions, QOS, limits and users."""

import dataclasses
import json
import re
from pathlib import Path
from typing import Any, Literal

from slurm_tf.errors import SlurmTfError
from tests.sandbox import cgroups

ACCOUNTS = ("vision", "nlp")
USERS = {"alice": ("vision",), "bob": ("nlp",), "carol": ("vision", "nlp")}
FIRST_ID = 20001  # the first user id; the id of the users' group is one less
GROUP_ID = FIRST_ID - 1
USER_IDS = {"root": 0} | {user: FIRST_ID + number for number, user in enumerate(USERS)}

PARTITIONS = ("main Default=YES MaxTime=1-0", "cpu MaxTime=1-0", "short MaxTime=00:02:00")
QOS = (
    "gpuq MaxTRESPerUser=gres/gpu=3 Priority=10",
    "strict MaxTRESPerUser=gres/gpu=3 Flags=DenyOnLimit",
    "scavenge PreemptMode=requeue GraceTime=5 Priority=1",
    "evictable PreemptMode=cancel GraceTime=5 Priority=1",
    "slow-scavenge PreemptMode=requeue GraceTime=60 Priority=1",
    "urgent Preempt=scavenge,evictable,slow-scavenge Priority=1000",
)


class SandboxError(SlurmTfError):
    """A sandbox cannot be started, found or used."""


@dataclasses.dataclass(frozen=True)
class Shape:
    """The shape of a sandbox. Raises SandboxError for invalid values."""

    nodes: int = 4
    cpus: int = 8  # of each node, in slurm.conf; this machine may have fewer
    memory: int = 8192  # MiB of each node, in slurm.conf; this machine may have less
    gpus: str = "a100:4"  # of each node, such as "a100:2,1g.5gb:4"; "" for none
    features: str = ""  # of each node, such as "a100,ib"
    proctrack: Literal["cgroup", "linuxproc"] = dataclasses.field(default_factory=cgroups.default_proctrack)
    fuse: bool = False  # each host sees the shared folder through a FUSE mount that caches for 30 s, as NFS does
    oci: bool = True  # oci.conf has crun start containers; without that file Slurm 22.05 ignores --container
    partitions: tuple[str, ...] = PARTITIONS  # name and options, as in slurm.conf; Nodes=ALL unless Nodes is given
    qos: tuple[str, ...] = QOS  # name and values for `sacctmgr modify qos NAME set ...`; all users may use each QOS
    limits: tuple[str, ...] = ()  # arguments of sacctmgr, e.g. "modify account nlp set GrpTRES=cpu=4"
    slurm_conf: tuple[str, ...] = ()  # further lines of slurm.conf

    def __post_init__(self) -> None:
        if not 1 <= self.nodes <= 1000:
            raise SandboxError(f"{self.nodes} nodes", "1 to 1000")
        if self.gpus and not re.fullmatch(r"[\w.]+:\d+(,[\w.]+:\d+)*", self.gpus):
            raise SandboxError(f"gpus {self.gpus!r}", "TYPE:COUNT[,TYPE:COUNT...]")
        if self.proctrack not in ("cgroup", "linuxproc"):
            raise SandboxError(f"proctrack {self.proctrack!r}", "cgroup or linuxproc")

    @property
    def names(self) -> tuple[str, ...]:
        """The compute nodes' host names."""
        return tuple(f"node{number}" for number in range(1, self.nodes + 1))

    @property
    def gpu_types(self) -> tuple[tuple[str, int], ...]:
        """The types of GPUs, each with the number of them on each node."""
        pairs = (part.split(":") for part in self.gpus.split(",") if part)
        return tuple((kind, int(count)) for kind, count in pairs)

    def write(self, folder: Path) -> None:
        (folder / "etc" / "shape.json").write_text(json.dumps(dataclasses.asdict(self)))

    @classmethod
    def read(cls, folder: Path) -> "Shape":
        """Return the shape of the sandbox in `folder`. Raises FileNotFoundError if there is none."""
        values: dict[str, Any] = json.loads((folder / "etc" / "shape.json").read_text())
        lists = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
        return cls(**(values | lists))


def address(host: str) -> str:
    """Return the host's address in the sandbox's network, 10.77.0.0/16."""
    if host == "ctl":
        return "10.77.0.1"
    number = int(host.removeprefix("node")) - 1
    return f"10.77.{number // 250 + 1}.{number % 250 + 1}"
