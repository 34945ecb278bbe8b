"""Relays requests between the programs of one job, through their agents and the coordinator. No I/O.

For example, a chief requests that the parameter servers flush a checkpoint to storage, each on its own node. Every
request is answered: by each task that it went to, or for a task that has ended or does not answer in time.
"""

from dataclasses import dataclass, field
from typing import Dict, List, Optional, Sequence, Set

from slurm_tf.run.program_messages import (
    ALL_ROLES,
    ProgramMessage,
    RelayedRequest,
    Request,
    RequestAnswer,
    RequestResult,
)

# A task that has not answered by then counts as one that cannot.
ANSWER_SECONDS = 120.0


@dataclass(frozen=True)
class Outgoing:
    """A message that is to be written to the program of `task`."""

    task: str
    message: ProgramMessage


@dataclass
class _OpenRequest:
    """A request that not all tasks have answered. `number`: the sender's; `waiting`: the tasks that are to answer."""

    sender: str
    number: int
    until: float
    waiting: Set[str]
    errors: Dict[str, Optional[str]] = field(default_factory=dict)


class MessageRelay:
    """The open requests of one job. Each method returns the messages that are to be written to programs."""

    def __init__(self) -> None:
        self._open: Dict[int, _OpenRequest] = {}
        self._next = 0

    def request(
        self, sender: str, request: Request, running: Sequence[str], listeners: Sequence[str], now: float
    ) -> List[Outgoing]:
        """Relay a request of task `sender`. `running`: the tasks that run, `listeners`: those whose programs listen."""
        if request.role == ALL_ROLES:
            tasks = [task for task in listeners if task != sender]
        else:
            tasks = [task for task in running if task.partition(":")[0] == request.role and task != sender]
        number, self._next = self._next, self._next + 1
        self._open[number] = _OpenRequest(sender, request.number, now + ANSWER_SECONDS, set(tasks))
        if not tasks:
            return self._close(number)
        return [Outgoing(task, RelayedRequest(number, request.content)) for task in tasks]

    def answer(self, task: str, answer: RequestAnswer) -> List[Outgoing]:
        """Record that `task` has answered; return the result once all have."""
        request = self._open.get(answer.number)
        if request is None or task not in request.waiting:
            return []
        request.waiting.discard(task)
        request.errors[task] = answer.error
        return [] if request.waiting else self._close(answer.number)

    def ended(self, task: str) -> List[Outgoing]:
        """Record that the program of `task` has ended."""
        messages: List[Outgoing] = []
        for number, request in list(self._open.items()):
            if request.sender == task:
                del self._open[number]
            elif task in request.waiting:
                messages += self.answer(task, RequestAnswer(number, "the task ended"))
        return messages

    def tick(self, now: float) -> List[Outgoing]:
        """Answer for tasks that have not answered in time."""
        messages: List[Outgoing] = []
        for number, request in list(self._open.items()):
            if now >= request.until:
                for task in sorted(request.waiting):
                    messages += self.answer(task, RequestAnswer(number, f"no answer in {ANSWER_SECONDS:.0f} s"))
        return messages

    @property
    def wakes_at(self) -> Optional[float]:
        """When `tick` has something to do."""
        return min((request.until for request in self._open.values()), default=None)

    def _close(self, number: int) -> List[Outgoing]:
        request = self._open.pop(number)
        return [Outgoing(request.sender, RequestResult(request.number, request.errors))]
