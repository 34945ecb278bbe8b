"""What `sbatch --test-only` says of a script: when it would start. A guess of Slurm's, which knows no job to come."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from slurm_tf.slurm import client, command_output

# "sbatch: Job 7 to start at 2026-11-27T22:14:54 using 2 processors on nodes node[1-2] in partition main" (22.05.8)
_ANSWER = re.compile(r"^sbatch: Job \S+ to start at (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class StartEstimate:
    """When a script would start, None where sbatch does not say, and the words of sbatch."""

    start: datetime | None
    text: str


def ask(script: str, environ: Mapping[str, str], seconds: float = 60.0) -> StartEstimate:
    """Ask sbatch when a script would start, for at most `seconds`. Raises SlurmError with its own message."""
    return parse(client.run(["sbatch", "--test-only", script], environ, seconds).stderr.strip())


def parse(text: str) -> StartEstimate:
    """Return the estimate in what sbatch printed. Of a heterogeneous job it says when all components can start."""
    found = _ANSWER.search(text)
    return StartEstimate(command_output.local_time(found[1]) if found else None, text)
