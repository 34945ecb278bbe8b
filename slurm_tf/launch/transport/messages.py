"""The messages between the coordinator and its agents: one frozen dataclass each, sent as JSON with its type's name.

The connection proves who sends them (launch/transport/authentication.py), so a message that is not known here comes
from another release of slurm-tf, or from a broken one: `decode` raises an error that says what came.
"""

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple, Type, TypeVar, Union

from slurm_tf.errors import MessageError
from slurm_tf.launch.transport.message import Message
from slurm_tf.launch.transport.stage_messages import STAGE_ANSWERS, STAGE_REQUESTS
from slurm_tf.run import message_codec
from slurm_tf.run.container_settings import ContainerSettings

# --- from an agent ---


@dataclass(frozen=True)
class Hello(Message):
    """The first message of an agent, which is answered by a Greeting."""


@dataclass(frozen=True)
class Report(Message):
    """What one task found out about itself; its GPUs as in launch/mapping/allocation.py.

    `roles`: those of its step, or of its component of one, separated by commas; "" where that has all. `named`: the
    address of its node's own name, where Horovod needs it. `memory`: MiB that its node has for this job, 0: not known.
    """

    rank: int
    node: str
    host: str
    port: int
    gpus: Optional[Tuple[str, ...]] = ()
    gpus_bound: bool = False
    roles: str = ""
    gpu_places: Tuple[int, ...] = ()
    gpus_on_node: Optional[int] = None
    gpu_binding: str = ""
    named: str = ""
    memory: int = 0


@dataclass(frozen=True)
class Unable(Message):
    """A task cannot take part, and why; `for_good`: it could not in another attempt either."""

    rank: int
    node: str
    reason: str
    for_good: bool = False


@dataclass(frozen=True)
class ProbeOpened(Message):
    """Answer to OpenProbe: where other nodes reach it, and how many device files of GPUs the node has.

    `devices`: None where its GPUs are not NVIDIA's.
    """

    port: int
    devices: Optional[int]


@dataclass(frozen=True)
class FilesChecked(Message):
    """Answer to CheckFiles: the nodes whose file this node does not see."""

    unseen: Tuple[str, ...]


@dataclass(frozen=True)
class LinkMeasured(Message):
    """Answer to MeasureLink: seconds of a round trip, bytes per second of one stream."""

    latency: float
    bandwidth: float


@dataclass(frozen=True)
class ContainerTried(Message):
    """Answer to TryContainer: why nothing can be started in the container, and what to do; "" if something can.

    `python` and `tensorflow`: the versions in the image, "" where it does not say.
    """

    problem: str
    do: str = ""
    python: str = ""
    tensorflow: str = ""


@dataclass(frozen=True)
class ProbeFailed(Message):
    """Answer to any request of a preflight that could not be carried out."""

    error: str


@dataclass(frozen=True)
class Started(Message):
    """The program runs, as process `pid`."""

    pid: int


@dataclass(frozen=True)
class Ended(Message):
    """The program has ended. `code`: its exit code, a negative number for a signal.

    `error`: the line of its output that says why it failed, "" for none; `error_age`: how many seconds before its end
    that was printed. `memory`: the bytes that were used and allowed on the node where the kernel killed a process of it
    for its memory, 0 for what is not known; None where it did not. `joined`: whether it had joined the cluster, None
    where that is not known or not asked.
    """

    code: int
    error: str = ""
    error_age: float = 0.0
    memory: Optional[Tuple[int, int]] = None
    joined: Optional[bool] = None


@dataclass(frozen=True)
class CannotStart(Message):
    """The command cannot be executed, and could not at the next try. `code`: the job's exit code, 126 or 127."""

    code: int
    reason: str


@dataclass(frozen=True)
class ProgramLine(Message):
    """A message that the program wrote to its agent, as it wrote it (run/program_messages.py)."""

    line: str


@dataclass(frozen=True)
class ProgramOutput(Message):
    """The program has printed something, which is progress of one that does not listen."""


@dataclass(frozen=True)
class Joined(Message):
    """The program has joined the cluster; or, not `has_joined`, it has not, minutes after its first output."""

    has_joined: bool


@dataclass(frozen=True)
class TaskSignal(Message):
    """The agent got a signal."""

    number: int


@dataclass(frozen=True)
class HeartbeatRequest(Message):
    """The agent has heard nothing for a while; the coordinator answers with a HeartbeatReply."""


# --- from the coordinator ---


@dataclass(frozen=True)
class Greeting(Message):
    """What an agent must know to register, and what it is to do if the coordinator is gone.

    `ports`: the site's range, None for any port. `interface` and `host_suffix`: those of the fast network; with both ""
    the address by which the coordinator is reached counts.
    `assignment_timeout`: seconds to wait for the assignment, after the time for registration. `named`: whether the
    Report gives the address of the node's own name. `silence`: seconds without an answer after which the coordinator
    counts as gone, 0 for never. `submission`: the submission's folder, `point`: the sweep point, None without one.
    `checkpoint_signal`: has a program save that does not use slurm_tf.train. `goes_on`: whether the run may be put back
    into the queue.
    """

    ports: Optional[Tuple[int, int]]
    interface: str
    host_suffix: str
    assignment_timeout: float
    named: bool
    silence: float
    submission: str
    point: Optional[int]
    checkpoint_signal: str
    goes_on: bool


@dataclass(frozen=True)
class OpenProbe(Message):
    """Open the node's probe, and write `text` into `file` of the run's folder."""

    file: str
    text: str


@dataclass(frozen=True)
class CheckFiles(Message):
    """Read the (file, text) of each node, for at most `seconds`."""

    files: Mapping[str, Tuple[str, str]]
    seconds: float


@dataclass(frozen=True)
class MeasureLink(Message):
    """Measure the way to the probe of another node."""

    host: str
    port: int


@dataclass(frozen=True)
class TryContainer(Message):
    """Start something trivial in the container of a role, for at most `seconds`; `command`: the role's."""

    container: ContainerSettings
    command: Tuple[str, ...]
    seconds: float


@dataclass(frozen=True)
class TaskAssignment(Message):
    """The part of an assignment that differs between tasks; see launch/mapping/assignment.py.

    `warns`: the task prints what is known to go wrong with its program, as the first one that runs it. `joins`: the
    program is to join others, see launch/decide/joining.py. `leads`: it is the chief, or worker 0 where there is none.
    `container`: where its agent starts the program, None for on the node itself.
    """

    role: str
    index: int
    gpus: Optional[Tuple[str, ...]]
    variables: Mapping[str, str]
    command: Tuple[str, ...]
    warns: bool
    joins: bool
    leads: bool
    container: Optional[ContainerSettings]


@dataclass(frozen=True)
class SharedAssignment(Message):
    """The part of an assignment that is the same for all tasks; sent right after the TaskAssignment."""

    hosts: Optional[Mapping[str, Tuple[str, ...]]]
    variables: Mapping[str, str]
    cluster_flags: bool
    addresses: Optional[Mapping[str, Tuple[str, ...]]] = None


@dataclass(frozen=True)
class Start(Message):
    """Start the program, which was started `restarts` times before. `rendezvous_port`: of Horovod's, None without."""

    restarts: int
    rendezvous_port: Optional[int]


@dataclass(frozen=True)
class End(Message):
    """End the program: one with slurm_tf.train exits with `code`, any other gets SIGTERM.

    What is left of it gets SIGKILL `kill_wait` seconds later.
    """

    kill_wait: float
    code: int


@dataclass(frozen=True)
class Save(Message):
    """Have the program save: one with slurm_tf.train is told `reason`, any other gets `signal`, "" for none."""

    reason: str
    signal: str


@dataclass(frozen=True)
class Dump(Message):
    """Have a program with slurm_tf.train print the stacks of its threads."""


@dataclass(frozen=True)
class Kill(Message):
    """Kill the program."""


@dataclass(frozen=True)
class Vanish(Message):
    """End at once and send nothing more, as if the node had failed."""


@dataclass(frozen=True)
class TellProgram(Message):
    """Write a message to the program, as it is to be written (run/program_messages.py)."""

    line: str


@dataclass(frozen=True)
class Leave(Message):
    """Exit once the program has ended."""


@dataclass(frozen=True)
class HeartbeatReply(Message):
    """Answer to a HeartbeatRequest."""


# --- made by the receiving side ---


@dataclass(frozen=True)
class ConnectionLost(Message):
    """The other side is gone. `may_live`: it is not known to have ended, so it may run where it cannot be reached."""

    reason: str
    may_live: bool = False


ProbeRequest = Union[OpenProbe, CheckFiles, MeasureLink]
ProbeAnswer = Union[ProbeOpened, FilesChecked, LinkMeasured, ProbeFailed]
PROBE_REQUESTS = (OpenProbe, CheckFiles, MeasureLink)
PROBE_ANSWERS = (ProbeOpened, FilesChecked, LinkMeasured, ProbeFailed)

Kinds = Mapping[str, Type[Message]]
_Kind = TypeVar("_Kind")

FROM_AGENT: Kinds = message_codec.by_name(
    (
        Hello,
        Report,
        Unable,
        *PROBE_ANSWERS,
        ContainerTried,
        *STAGE_ANSWERS,
        Started,
        Ended,
        CannotStart,
        ProgramLine,
        ProgramOutput,
        Joined,
        TaskSignal,
        HeartbeatRequest,
    )
)
FROM_COORDINATOR: Kinds = message_codec.by_name(
    (
        Greeting,
        *PROBE_REQUESTS,
        TryContainer,
        *STAGE_REQUESTS,
        TaskAssignment,
        SharedAssignment,
        Start,
        End,
        Save,
        Dump,
        Kill,
        Vanish,
        TellProgram,
        Leave,
        HeartbeatReply,
    )
)


def encode(message: Message) -> bytes:
    """Return the bytes of one message."""
    return message_codec.encode(message).encode()


def decode(body: bytes, kinds: Kinds) -> Message:
    """Return the message that `body` holds, one of `kinds`. Raises MessageError."""
    try:
        return message_codec.decode(body, kinds)
    except ValueError as error:
        raise _unknown(str(error)) from error


def expect(message: Message, kind: Type[_Kind]) -> _Kind:
    """Return `message` if it is of type `kind`, the only one that may come now. Raises MessageError."""
    if not isinstance(message, kind):
        raise _unknown(f"a message of type {type(message).__name__} came")
    return message


def _unknown(found: str) -> MessageError:
    return MessageError(found, "a message that this release of slurm-tf knows", "use one release for the whole job")
