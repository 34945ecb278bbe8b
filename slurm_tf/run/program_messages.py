"""The messages between a program and the agent of its task: one frozen dataclass each, a line of JSON on a socket.

The program inherits the socket as file descriptor env.CONTROL_FD. It may write anything to it, as it is the user's:
lines that are not one of these messages are ignored. The agent passes the program's messages on to the coordinator,
which answers through the agent. Standard library, Python 3.9.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Any, Mapping, Optional, Type, Union

from slurm_tf.run import message_codec

# `Request.role` for all other tasks whose programs listen.
ALL_ROLES = "*"


class Phase(str, Enum):
    """What a program with slurm_tf.train is doing: its first step, training, an evaluation; DONE: none of these."""

    COMPILE = "compile"
    TRAIN = "train"
    EVALUATE = "evaluate"
    DONE = "done"


class ProgramMessage:
    """Base class of all messages between a program and its agent."""


# --- from a program ---


@dataclass(frozen=True)
class Listening(ProgramMessage):
    """The program reads messages from now on. `is_writer`: it is the one that commits checkpoints.

    The agent ends such a program by an ExitRequest, and by a signal only when the job's `kill-wait` is over.
    """

    is_writer: bool


@dataclass(frozen=True)
class TensorFlowVersion(ProgramMessage):
    """The program has imported this version of TensorFlow."""

    version: str


@dataclass(frozen=True)
class Request(ProgramMessage):
    """Pass `content` on to every running task of `role`, or to all others that listen for "*"; a RequestResult answers.

    `number`: chosen by the program, to tell its requests apart.
    """

    number: int
    role: str
    content: Mapping[str, Any]


@dataclass(frozen=True)
class RequestAnswer(ProgramMessage):
    """Answer to the RelayedRequest `number`: None, or what went wrong."""

    number: int
    error: Optional[str]


@dataclass(frozen=True)
class ProgressReport(ProgramMessage):
    """How far training is: `step` of `steps`, `rate` in steps per second, metrics by name. None: not known."""

    step: Optional[float]
    steps: Optional[float]
    rate: Optional[float]
    values: Mapping[str, float]


@dataclass(frozen=True)
class PhaseEntered(ProgramMessage):
    """The program does something else now, which has a time limit of its own (launch/decide/hangs.py)."""

    phase: Phase


@dataclass(frozen=True)
class StepReached(ProgramMessage):
    """`step` is done, which a program tells every few seconds."""

    step: int


@dataclass(frozen=True)
class StepTime(ProgramMessage):
    """The program worked for `seconds` in each of its last steps, not counting the time that it waited for others."""

    seconds: float


@dataclass(frozen=True)
class CheckpointCommitted(ProgramMessage):
    """The checkpoint of `step` is on storage."""

    step: int


@dataclass(frozen=True)
class Saved(ProgramMessage):
    """Answer of the program that commits checkpoints to a SaveRequest: all of `step` is on storage if `error` is None.

    The program then waits for an ExitRequest.
    """

    step: int
    error: Optional[str]


# --- to a program ---


@dataclass(frozen=True)
class RelayedRequest(ProgramMessage):
    """The `content` of another task's Request. `number`: the coordinator's, for the RequestAnswer."""

    number: int
    content: Mapping[str, Any]


@dataclass(frozen=True)
class RequestResult(ProgramMessage):
    """What became of the Request `number`: the error of each task that it went to, or None."""

    number: int
    errors: Mapping[str, Optional[str]]


@dataclass(frozen=True)
class SaveRequest(ProgramMessage):
    """Save at the next step boundary and answer with Saved. `reason`: why training is to end, in words."""

    reason: str


@dataclass(frozen=True)
class ExitRequest(ProgramMessage):
    """Exit now, with exit code `code`."""

    code: int


FROM_PROGRAM: Mapping[str, Type[ProgramMessage]] = message_codec.by_name(
    (
        Listening,
        TensorFlowVersion,
        Request,
        RequestAnswer,
        ProgressReport,
        PhaseEntered,
        StepReached,
        StepTime,
        CheckpointCommitted,
        Saved,
    )
)
TO_PROGRAM: Mapping[str, Type[ProgramMessage]] = message_codec.by_name(
    (RelayedRequest, RequestResult, SaveRequest, ExitRequest)
)


def encode(message: ProgramMessage) -> str:
    """Return the line of one message, without its newline."""
    return message_codec.encode(message)


def decode_from_program(line: str) -> Optional[ProgramMessage]:
    """Return the message that a program wrote, None if the line is none."""
    return _decode(line, FROM_PROGRAM)


def decode_to_program(line: bytes) -> Optional[ProgramMessage]:
    """Return the message that an agent wrote to its program, None if the line is none."""
    return _decode(line, TO_PROGRAM)


def _decode(line: Union[str, bytes], kinds: Mapping[str, Type[ProgramMessage]]) -> Optional[ProgramMessage]:
    try:
        return message_codec.decode(line, kinds)
    except ValueError:
        return None
