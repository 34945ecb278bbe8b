"""Says of a program that has ended why it failed: by its own last words, or as the kernel killed it for its memory."""

import os
import time
from typing import List, Optional

from slurm_tf.launch.agent import copy_check
from slurm_tf.launch.agent.child import Child
from slurm_tf.launch.agent.memory_cgroup import MemoryCgroup
from slurm_tf.launch.transport.messages import Ended


class ProgramEnd:
    """What is known of the end of a task's program, from its start on."""

    def __init__(self) -> None:
        self._memory = MemoryCgroup()
        self.begin()

    def begin(self) -> None:
        """Record that the program is about to start."""
        self._asked_at: Optional[float] = None
        self._kills = self._memory.kills

    def asked(self) -> None:
        """Record that the program is told to end: how it ends from now on says nothing."""
        self._asked_at = time.monotonic() if self._asked_at is None else self._asked_at

    def message(self, child: Child, code: int) -> Ended:
        """Return what the coordinator is told: of a program that failed before it was told to end, also why."""
        asked_at = self._asked_at
        error, age = child.error(by_signal=code < 0 and asked_at is None)
        if code == 0 or (asked_at is not None and time.monotonic() - age >= asked_at):
            return Ended(code)
        if asked_at is not None or self._memory.kills <= self._kills:
            return Ended(code, error, age)
        used, limit = self._memory.memory
        return Ended(code, error, age, (used or 0, limit or 0))

    def remarks(self, child: Child, code: int, log: str, code_folder: str) -> List[str]:
        """Return what else is to be said of the end, of one that nobody asked for: a gap in the task's log, and why it
        may have failed in the copy of its code.

        `code_folder`: where the submission has the copy, "" for a task that is to say nothing of it.
        """
        problem = (
            f"{child.log_problem}: what it printed since is in the job's output alone" if child.log_problem else ""
        )
        failed = code > 0 and self._asked_at is None and bool(code_folder)
        hint = copy_check.explain(log, os.getcwd(), code_folder) if failed else None
        return [text for text in (problem, hint) if text]
