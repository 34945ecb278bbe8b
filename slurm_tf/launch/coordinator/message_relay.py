"""Relays requests between the programs of one job, through their agents and the coordinator. No I/O.

For example, a chief requests that the parameter servers flush a checkpoint to storage, each on its own node. The lines
are those of launch/agent/agent.py. Every request is answered: by each task that it went to, or for a task that has
ended or does not answer in time.
"""

import json
from dataclasses import dataclass, field
from typing import Any, Dict, List, Optional, Sequence, Set

# A task that has not answered by then counts as one that cannot.
ANSWER_SECONDS = 120.0


@dataclass(frozen=True)
class Outgoing:
    """A line that is to be written to the program of `task`."""

    task: str
    line: str


@dataclass
class _Request:
    sender: str
    number: int
    until: float
    waiting: Set[str]
    errors: Dict[str, Optional[str]] = field(default_factory=dict)


class MessageRelay:
    """The open requests of one job. Each method returns the lines that are to be written to programs."""

    def __init__(self) -> None:
        self._open: Dict[int, _Request] = {}
        self._next = 0

    def line(
        self, task: str, message: Dict[str, Any], running: Sequence[str], listeners: Sequence[str], now: float
    ) -> List[Outgoing]:
        """Handle a line that `task` wrote. `running`: the tasks that run, `listeners`: those that said hello."""
        if "ask" in message and "to" in message:
            return self._ask(task, message, listeners if message["to"] == "*" else running, now)
        return self._answer(task, message.get("answer"), message.get("error"))

    def ended(self, task: str) -> List[Outgoing]:
        """Record that the program of `task` has ended."""
        lines: List[Outgoing] = []
        for number, request in list(self._open.items()):
            if request.sender == task:
                del self._open[number]
            elif task in request.waiting:
                lines += self._answer(task, number, "the task ended")
        return lines

    def tick(self, now: float) -> List[Outgoing]:
        """Answer for tasks that have not answered in time."""
        lines: List[Outgoing] = []
        for number, request in list(self._open.items()):
            if now >= request.until:
                for task in sorted(request.waiting):
                    lines += self._answer(task, number, f"no answer in {ANSWER_SECONDS:.0f} s")
        return lines

    @property
    def wakes_at(self) -> Optional[float]:
        """When `tick` has something to do."""
        return min((request.until for request in self._open.values()), default=None)

    def _ask(self, sender: str, message: Dict[str, Any], tasks: Sequence[str], now: float) -> List[Outgoing]:
        to = [task for task in tasks if message["to"] in ("*", task.partition(":")[0]) and task != sender]
        request = _Request(sender, message["ask"], now + ANSWER_SECONDS, set(to))
        number, self._next = self._next, self._next + 1
        self._open[number] = request
        if not to:
            return self._close(number)
        line = json.dumps({"asked": number, "message": message.get("message")})
        return [Outgoing(task, line) for task in to]

    def _answer(self, task: str, number: object, error: Optional[str]) -> List[Outgoing]:
        request = self._open.get(number) if isinstance(number, int) else None
        if request is None or task not in request.waiting or not isinstance(number, int):
            return []
        request.waiting.discard(task)
        request.errors[task] = error
        return [] if request.waiting else self._close(number)

    def _close(self, number: int) -> List[Outgoing]:
        request = self._open.pop(number)
        return [Outgoing(request.sender, json.dumps({"answers": request.number, "errors": request.errors}))]
