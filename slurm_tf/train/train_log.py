"""Prints what slurm_tf.train tells the user, on standard error. Standard library only."""

import sys


def log(text: str) -> None:
    """Print one line, and flush it: the process may be killed right after it."""
    sys.stderr.write(f"slurm_tf.train: {text}\n")
    sys.stderr.flush()
