"""Questions that programs of one job ask each other, passed on through their agents and the coordinator. No I/O.

A chief asks the parameter servers to flush a checkpoint to storage, each on its own node: such questions. The lines are
those of launch/agent/agent.py. Every question is answered: by each task that it went to, or for it when that task is
gone or its time is over.
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
class _Question:
    asker: str
    number: int
    until: float
    waiting: Set[str]
    errors: Dict[str, Optional[str]] = field(default_factory=dict)


class MessageRelay:
    """All open questions of one job."""

    def __init__(self) -> None:
        self._open: Dict[int, _Question] = {}
        self._next = 0

    def line(
        self, task: str, words: Dict[str, Any], running: Sequence[str], listeners: Sequence[str], now: float
    ) -> List[Outgoing]:
        """Take in a line that `task` wrote; `running` are the tasks that run, `listeners` those that said hello."""
        if "ask" in words and "to" in words:
            return self._ask(task, words, listeners if words["to"] == "*" else running, now)
        return self._answer(task, words.get("answer"), words.get("error"))

    def ended(self, task: str) -> List[Outgoing]:
        """Take in that `task` does not run any more."""
        lines: List[Outgoing] = []
        for number, question in list(self._open.items()):
            if question.asker == task:
                del self._open[number]
            elif task in question.waiting:
                lines += self._answer(task, number, "the task ended")
        return lines

    def tick(self, now: float) -> List[Outgoing]:
        """Take in the time."""
        lines: List[Outgoing] = []
        for number, question in list(self._open.items()):
            if now >= question.until:
                for task in sorted(question.waiting):
                    lines += self._answer(task, number, f"no answer in {ANSWER_SECONDS:.0f} s")
        return lines

    @property
    def wakes_at(self) -> Optional[float]:
        """When `tick` has something to do."""
        return min((question.until for question in self._open.values()), default=None)

    def _ask(self, asker: str, words: Dict[str, Any], tasks: Sequence[str], now: float) -> List[Outgoing]:
        to = [task for task in tasks if words["to"] in ("*", task.partition(":")[0]) and task != asker]
        question = _Question(asker, words["ask"], now + ANSWER_SECONDS, set(to))
        number, self._next = self._next, self._next + 1
        self._open[number] = question
        if not to:
            return self._close(number)
        line = json.dumps({"asked": number, "message": words.get("message")})
        return [Outgoing(task, line) for task in to]

    def _answer(self, task: str, number: object, error: Optional[str]) -> List[Outgoing]:
        question = self._open.get(number) if isinstance(number, int) else None
        if question is None or task not in question.waiting or not isinstance(number, int):
            return []
        question.waiting.discard(task)
        question.errors[task] = error
        return [] if question.waiting else self._close(number)

    def _close(self, number: int) -> List[Outgoing]:
        question = self._open.pop(number)
        return [Outgoing(question.asker, json.dumps({"answers": question.number, "errors": question.errors}))]
