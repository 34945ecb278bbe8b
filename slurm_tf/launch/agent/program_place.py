"""Where a task's program runs: on its node, or in a container there (program_container.py)."""

from typing import Dict, List, Mapping, Protocol, Sequence, Tuple


class Place(Protocol):
    """Where programs run."""

    def enter(self, argv: Sequence[str], environ: Mapping[str, str]) -> Tuple[List[str], Dict[str, str]]:
        """Return the command and the environment that run `argv` there with the variables `environ`."""

    def inherited(self, host: Mapping[str, str]) -> Dict[str, str]:
        """Return the variables that programs start from there; `host`: the agent's."""


class _Node:
    """The node itself."""

    def enter(self, argv: Sequence[str], environ: Mapping[str, str]) -> Tuple[List[str], Dict[str, str]]:
        """Return both as they are."""
        return list(argv), dict(environ)

    def inherited(self, host: Mapping[str, str]) -> Dict[str, str]:
        """Return the agent's own."""
        return dict(host)


NODE: Place = _Node()
