"""Lines of the launcher itself in the job's log, which is what Slurm made of its stderr."""

import sys


def say(text: str) -> None:
    """Print one line, as a single write: lines of programs that run beside this process do not split it."""
    sys.stderr.write(f"slurm-tf: {text}\n")
    sys.stderr.flush()
