"""Reads from what srun printed why the containers of a step (--container, pyxis) did not start; for Python 3.9."""

import re
from typing import List

# "srun: error: node1: task 0: Exited with exit code 1", "srun: error: Task launch for StepId=15.0 failed on node node1:
# No such file or directory" (22.05.8).
_ENDED = re.compile(r"^srun: error: (?P<node>\S+): tasks? \S+: (?P<how>\S.*)$", re.MULTILINE)
_NOT_LAUNCHED = re.compile(
    r"^srun: error: Task launch for \S+ failed on node (?P<node>\S+): (?P<how>\S.*)$", re.MULTILINE
)
# srun and the launcher speak of the step; all other lines are the runtime's own, or of the image's Python.
_OF_STEP = re.compile(r"srun: |slurm-tf: |slurmstepd\S*: error: \*\*\* ")
_LINES = 3


def find(printed: str) -> str:
    """Return on which node a container did not start and what its runtime said; "" if srun names no node.

    The runtime says more than it would in a line of srun: the last lines count.
    """
    first = _NOT_LAUNCHED.search(printed) or _ENDED.search(printed)
    if first is None:
        return ""
    said: List[str] = []
    for line in printed.splitlines():
        if line.strip() and not _OF_STEP.match(line) and line not in said:  # each node says it
            said.append(line.strip())
    of_runtime = f": {'; '.join(said[-_LINES:])}" if said else ""
    return f"{first['node']}: {first['how']}{of_runtime}"
