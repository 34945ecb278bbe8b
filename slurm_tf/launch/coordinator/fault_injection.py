"""A rehearsal of what can end an attempt: `slurm-tf interrupt` asks by a file in the run's folder, the attempt does it.

Login nodes often cannot reach compute nodes, so nobody is called. The file is fault_request.json:

    {"contract": 1, "attempt": "12.0", "as": "preemption", "task": "worker:0"}
"""

import json
import os
from typing import Callable, Dict, List, Mapping, Optional, Set, Tuple

from slurm_tf.errors import RunError
from slurm_tf.launch.decide.termination import Termination
from slurm_tf.run.attempts import EndCause
from slurm_tf.run.fault_request import KILL, KINDS, NODE_FAILURE
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.version import check_version

# How often the folder is looked into.
_LOOK_SECONDS = 1.0
# What an agent is told to do: kill its program; be gone as its node would be.
_VERBS = {KILL: "kill", NODE_FAILURE: "vanish"}


class FaultInjector:
    """Looks for what is asked for. `failed`: the nodes that count as dead."""

    def __init__(self, folder: RunFolder, attempt: str, interruption: Termination, say: Callable[[str], None]) -> None:
        self.failed: Set[str] = set()
        self.wakes_at = 0.0
        self._path, self._attempt = folder.fault_request, attempt
        self._interruption, self._say = interruption, say

    def due(self, now: float, nodes: Mapping[str, str]) -> List[Tuple[str, str]]:
        """Look, if it is time; return (task, what its agent is to do). `nodes`: node of each task by name."""
        if now < self.wakes_at:
            return []
        self.wakes_at = now + _LOOK_SECONDS
        try:
            words = self._take()
        except (RunError, OSError, ValueError) as error:
            self._say(f"{self._path} is left: {error}")
            return []
        if words is None:
            return []
        kind, task = words.get("as"), words.get("task")
        if words.get("attempt") != self._attempt or kind not in KINDS or task not in nodes:
            self._say(f"a rehearsal of {kind} of {task}, attempt {words.get('attempt')}, is not for this attempt")
            return []
        if kind in (EndCause.PREEMPTION, EndCause.TIMEOUT):
            self._interruption.inject(EndCause(kind), now)
            return []
        tasks = [str(task)]
        if kind == NODE_FAILURE:
            self.failed.add(nodes[str(task)])
            tasks = [each for each, node in nodes.items() if node == nodes[str(task)]]
        self._say(f"a rehearsal: {kind} of {', '.join(tasks)}")
        return [(each, _VERBS[str(kind)]) for each in tasks]

    def _take(self) -> Optional[Dict[str, object]]:
        try:
            with open(self._path, encoding="utf-8") as file:
                words = json.load(file)
        except FileNotFoundError:
            return None
        os.unlink(self._path)
        check_version(words.get("contract") if isinstance(words, dict) else None, self._path)
        return dict(words)
