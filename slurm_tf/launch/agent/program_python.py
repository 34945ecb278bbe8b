"""Asks the Python that a program is about to run in what it has, without the program."""

import os
import re
import subprocess
from typing import Mapping, Sequence

_SECONDS = 10.0


def ask(argv: Sequence[str], environ: Mapping[str, str], code: str) -> str:
    """Return what the Python of a command prints that runs `code`; "" if that fails, or it is not known which it is.

    Only a command named python is run: a container or a profiler may have side effects. Takes at most 10 s.
    """
    if not re.fullmatch(r"python[\d.]*", os.path.basename(argv[0])):
        return ""
    try:
        done = subprocess.run(
            [argv[0], "-c", code],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.decode("ascii", "replace").strip() if done.returncode == 0 else ""
