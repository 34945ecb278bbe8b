"""An examination of nodes by a job: what it is to look at, what nodes say meanwhile, its report; and its files.

The nodes speak with the batch host through the input and output of srun alone: neither a shared folder nor a free port
is needed to say that there is none. Standard library, Python 3.9.
"""

import os
from dataclasses import dataclass, field
from typing import Mapping, Optional, Tuple

from slurm_tf.run import message_codec
from slurm_tf.run.container_settings import ContainerSettings, Runtime
from slurm_tf.run.machine_facts import MachineFacts

# Of the folder of an examination: what the batch host is to do, the report, and two files that tell the time.
SETTINGS, REPORT, PING, PONG = "settings.json", "report.json", "ping.json", "pong.json"
# The name of the login node's file, as other nodes have their own names.
LOGIN = "login"


@dataclass(frozen=True)
class RuntimeSettings:
    """What runs containers at a site. `command`: its program with words before all others, () for a part of Slurm."""

    runtime: Runtime
    command: Tuple[str, ...]


@dataclass(frozen=True)
class RoleContainer:
    """The container of a role of the job, and the command that runs in it."""

    container: ContainerSettings
    command: Tuple[str, ...]


@dataclass(frozen=True)
class ExaminationSettings:
    """What an examination looks at. `token`: what the login node's file holds, in a folder whose inode is `identity`.

    `python`: the program's, or the launcher's if `is_launcher_python`. `gpus`: how many each node was asked for.
    `gpus_are_gres`: Slurm gives them, by CUDA_VISIBLE_DEVICES. `scratch`: the site's folder of each node, as the
    profile has it, "" for none. `runtime`: what runs containers there, None for none; `containers`: those of the job.
    """

    token: str
    identity: int
    ports: Optional[Tuple[int, int]]
    coordinator_ports: Optional[Tuple[int, int]]
    interface: str
    host_suffix: str
    python: str
    is_launcher_python: bool
    gpus: int
    gpus_are_gres: bool
    scratch: str
    runtime: Optional[RuntimeSettings] = None
    containers: Tuple[RoleContainer, ...] = ()


@dataclass(frozen=True)
class SharedFolderFacts:
    """The shared folder on one node. `error`: why it cannot be used there.

    `sees_login`: it holds what the login node wrote. `owner`: the user id that own files get, `identity`: the inode of
    the folder. `write`: bytes per second with fsync; `files`: files made, looked up and removed per second.
    """

    error: str = ""
    sees_login: bool = False
    owner: int = -1
    identity: int = 0
    write: float = 0.0
    files: float = 0.0


@dataclass(frozen=True)
class GpuFacts:
    """The GPUs of one node. `given`: those in CUDA_VISIBLE_DEVICES; `devices`: device files, None for other vendors.

    `driver`, `cuda`: the driver's release, and the newest CUDA that it runs, as nvidia-smi says; `problem`: of it.
    """

    given: int = 0
    devices: Optional[int] = None
    driver: str = ""
    cuda: str = ""
    problem: str = ""


@dataclass(frozen=True)
class TensorFlowFacts:
    """TensorFlow on one node. `seconds`: of its import; `gpus`: those that it sees; `cuda`: that it was built for.

    `problem`: why nothing is known; `is_missing`: this Python has none.
    """

    version: str = ""
    seconds: float = 0.0
    gpus: int = 0
    cuda: str = ""
    problem: str = ""
    is_missing: bool = False


@dataclass(frozen=True)
class ImageFacts:
    """An image on one node. `kind`: of image_kind, "" for none; `problem`: why it cannot be used.

    `unseen`: why mounts of its container cannot be had, by their paths.
    """

    image: str
    kind: str = ""
    problem: str = ""
    unseen: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ContainerFacts:
    """What one node has for containers. `program`: the path of the runtime's, "" for none; `version`: as it says it.

    `problem`: why it does not say. `namespaces`: how many user namespaces the kernel allows, None without such a
    number; `restrictions`: its settings that take them from users, by their names. `fuse`: the mode of /dev/fuse, None
    without one; `opens_fuse`: this user may open it.
    """

    program: str
    version: str
    problem: str
    namespaces: Optional[int]
    restrictions: Mapping[str, str]
    fuse: Optional[int]
    opens_fuse: bool
    images: Tuple[ImageFacts, ...]


@dataclass(frozen=True)
class Begin:
    """To all nodes: examine yourselves. `folder`: that of the examination; `secret`: of the nodes' connections."""

    settings: ExaminationSettings
    folder: str
    secret: str


@dataclass(frozen=True)
class NodeFacts:
    """What one node says of itself. `address`, `port`: where others reach it, "" and 0 where `unreachable` says why.

    `named`: the addresses that its own name has on it; `reverse`: the name that its address has there. `containers`:
    None at a site without a runtime for them.
    """

    node: str
    machine: MachineFacts
    shared: SharedFolderFacts
    gpus: GpuFacts
    address: str
    port: int
    unreachable: str
    named: Tuple[str, ...]
    reverse: str
    containers: Optional[ContainerFacts] = None


@dataclass(frozen=True)
class Meet:
    """To all nodes: look for each other. `nodes`: (address, port) of each.

    `batch`: the addresses of the batch host, of which one is to be reached, and the port there; none if it has none.
    """

    nodes: Mapping[str, Tuple[str, int]]
    batch: Tuple[str, ...]
    batch_port: int


@dataclass(frozen=True)
class Met:
    """What a node found of others: why it cannot connect to one (also to the batch host), whose files it does not see.

    `seconds`: until it saw all files, or gave up. `names`: the addresses that other nodes' names have on it.
    """

    node: str
    broken: Mapping[str, str]
    unseen: Tuple[str, ...]
    seconds: float
    names: Mapping[str, Tuple[str, ...]]


@dataclass(frozen=True)
class TellTime:
    """To all nodes: say what time it is."""

    number: int


@dataclass(frozen=True)
class Time:
    """What time it is on a node, seconds since the epoch."""

    node: str
    number: int
    time: float


@dataclass(frozen=True)
class Finish:
    """To all nodes: say what TensorFlow is, and end."""


@dataclass(frozen=True)
class Finished:
    """The last message of a node."""

    node: str
    tensorflow: TensorFlowFacts


@dataclass(frozen=True)
class Clock:
    """How far a clock is ahead of another one, in seconds, and how far that may be wrong."""

    ahead: float
    uncertainty: float


@dataclass(frozen=True)
class ExaminationReport:
    """What an examination found. `missing`: why nothing came of a node.

    `clocks`: of the nodes, against the batch host's; `scontrol`: why it does not answer on the batch host, "" if it
    does; `batch_problem`: why the batch host cannot listen.
    """

    batch_host: str
    nodes: Tuple[NodeFacts, ...]
    met: Tuple[Met, ...]
    finished: Tuple[Finished, ...]
    missing: Mapping[str, str]
    clocks: Mapping[str, Clock]
    scontrol: str
    batch_problem: str


@dataclass(frozen=True)
class Ping:
    """The login node asks for the batch host's time through a file; `number`: for which time."""

    token: str
    number: int


@dataclass(frozen=True)
class Pong:
    """When the batch host saw the question of a number, and when it wrote this answer, by its own clock."""

    number: int
    seen: float
    written: float


TO_NODES = message_codec.by_name((Begin, Meet, TellTime, Finish))
FROM_NODES = message_codec.by_name((NodeFacts, Met, Time, Finished))


def own_file(folder: str, name: str) -> str:
    """Return the path of the file with which a node, or the login node, shows that it sees the folder."""
    return os.path.join(folder, f"node-{name}")
