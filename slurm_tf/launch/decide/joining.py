"""Decides whether a job whose programs ended well trained one model: whether its tasks joined the cluster. No I/O.

| tasks that have joined             | the job                                                 |
|------------------------------------|---------------------------------------------------------|
| one or more                        | ends as it does; those that have not are named          |
| none                               | fails with exit code 65, unless `join = "optional"`     |
| none, and of some it is not known  | ends as it does, with a warning                         |

Judged are chief, workers and parameter servers of the strategies with a TF_CONFIG, if there are several. Horovod's
processes meet in another way, and an evaluator meets nobody.
"""

from typing import Dict, List, Optional

from slurm_tf.errors import TopologyError
from slurm_tf.launch.decide.restarts import Outcome
from slurm_tf.run.settings import LaunchSettings
from slurm_tf.run.status import alone_words, never_joined_words

_STRATEGIES = ("multi_worker", "ps", "between_graph")
_ROLES = ("chief", "worker", "ps")
# How long the tasks that have not joined are gathered for one line.
_GATHER_SECONDS = 10.0


def judged(settings: LaunchSettings) -> List[str]:
    """Return the tasks that are to join, by name; none where the job has none, or leaves it to its programs."""
    names = [f"{role}:{index}" for role, index in settings.tasks if role in _ROLES]
    is_judged = settings.join_required and settings.strategy in _STRATEGIES and len(names) > 1
    return names if is_judged else []


class Joining:
    """Which tasks of a job have joined the cluster. `notes`: lines to print."""

    def __init__(self, settings: LaunchSettings) -> None:
        self.notes: List[str] = []
        self._judged = judged(settings)
        # of the programs that were started: of a preflight alone there are none
        self._joined: Dict[str, Optional[bool]] = {}
        self._alone: List[str] = []
        self._say_at: Optional[float] = None

    def started(self, name: str) -> None:
        """Record that the program of task `name` starts, perhaps again."""
        if name in self._judged:
            self._joined[name] = False

    def said(self, name: str, joined: bool, now: float) -> None:
        """Record that a task has joined, or has not for a long time."""
        if name not in self._joined:
            return
        self._joined[name] = joined
        if not joined:
            self._alone.append(name)
            self._say_at = now + _GATHER_SECONDS if self._say_at is None else self._say_at
        elif name in self._alone:
            self._alone.remove(name)

    def ended(self, name: str, joined: Optional[bool]) -> None:
        """Record that a task's program has ended; `joined`: None where that is not known."""
        if name in self._joined and not self._joined[name]:
            self._joined[name] = joined

    def tick(self, now: float) -> None:
        """Say which tasks train alone, all of one time in one line."""
        if self._say_at is not None and now >= self._say_at:
            self._say_at = None
            if self._alone:
                self.notes.append(alone_words(self._alone))
            self._alone = []

    @property
    def wakes_at(self) -> Optional[float]:
        """When `tick` has something to say."""
        return self._say_at

    def judge(self, outcome: Outcome) -> Outcome:
        """Return how the job ends whose programs ended with `outcome`."""
        states = list(self._joined.values())
        if outcome.code or not states or any(states):
            if not outcome.code and False in states:
                self.notes.append(alone_words([name for name, joined in self._joined.items() if joined is False]))
            return outcome
        if None in states:
            self.notes.append("warning: whether any task has joined the cluster cannot be seen on these nodes")
            return outcome
        return Outcome(TopologyError.exit_code, never_joined_words(len(self._judged)))
