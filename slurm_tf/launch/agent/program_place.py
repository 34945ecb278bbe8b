"""Where a task's program runs: on its node, or in a container there (program_container.py)."""

from enum import Enum
from typing import Dict, List, Mapping, Protocol, Sequence, Tuple


class Leader(Enum):
    """What the process is that an agent starts, and that leads the session of its program.

    RUNTIME: a container's, which is the program itself or passes signals on to it, and with which the program may not
    end. FILE_SERVER: its child is the program, and has its files from it: a signal would end it, and so the program.
    """

    PROGRAM = "program"
    RUNTIME = "runtime"
    FILE_SERVER = "file server"


class Place(Protocol):
    """Where programs run."""

    @property
    def leader(self) -> Leader:
        """What starts there."""

    def enter(self, argv: Sequence[str], environ: Mapping[str, str]) -> Tuple[List[str], Dict[str, str]]:
        """Return the command and the environment that run `argv` there with the variables `environ`."""

    def inherited(self, host: Mapping[str, str]) -> Dict[str, str]:
        """Return the variables that programs start from there; `host`: the agent's."""


class _Node:
    """The node itself."""

    leader = Leader.PROGRAM

    def enter(self, argv: Sequence[str], environ: Mapping[str, str]) -> Tuple[List[str], Dict[str, str]]:
        """Return both as they are."""
        return list(argv), dict(environ)

    def inherited(self, host: Mapping[str, str]) -> Dict[str, str]:
        """Return the agent's own."""
        return dict(host)


NODE: Place = _Node()
