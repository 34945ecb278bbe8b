"""Runs programs that are to end soon, and kills them with all that they started if they do not."""

import contextlib
import os
import signal
import subprocess
from dataclasses import dataclass
from typing import Mapping, Optional, Sequence

from slurm_tf.launch.agent.child import die_with


@dataclass(frozen=True)
class Done:
    """How a program ended: its exit code, negative for a signal, None if it took too long; and what it printed."""

    code: Optional[int]
    stdout: str
    stderr: str


def run(argv: Sequence[str], environ: Mapping[str, str], seconds: float) -> Done:
    """Run a program for at most `seconds`. Raises OSError if it cannot be started."""
    process = subprocess.Popen(
        list(argv),
        env=dict(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - this process has one thread
    )
    try:
        stdout, stderr = process.communicate(timeout=seconds)
        code: Optional[int] = process.returncode
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        stdout, stderr = process.communicate()
        code = None
    return Done(code, stdout.decode("utf-8", "surrogateescape"), stderr.decode("utf-8", "replace"))
