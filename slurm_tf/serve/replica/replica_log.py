"""Lines of a replica in its log, which is its stderr."""

import sys


def say(text: str) -> None:
    """Print one line, as a single write; text of a client or of a model's author cannot end it."""
    line = "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)
    sys.stderr.write(f"slurm-tf replica: {line}\n")
    sys.stderr.flush()
