"""Ends what runs in a container when its agent is gone: some runtimes do not end with their parent.

prctl(PR_SET_PDEATHSIG) ends the runtime alone, and its program goes on, which Slurm finds by its cgroup; nothing does
with proctrack/linuxproc, or without Slurm.
"""

import contextlib
import os
import signal
import time
from typing import List, NoReturn

from slurm_tf.launch.transport.signal_pipe import REPORTED

_SECONDS, _PAUSE_SECONDS = 10.0, 0.05
_HAS_ENDED = b"ended"


class AgentWatch:
    """A process beside the agent that kills what is left of a session once the agent has ended."""

    def __init__(self, session: int) -> None:
        """Watch over the session of a program that was started. Raises OSError."""
        read_end, self._pipe = os.pipe()
        if not os.fork():
            _run_alone(read_end, session)
        os.close(read_end)

    def ended(self) -> None:
        """End the watch: the program has ended, and its processes with it."""
        with contextlib.suppress(OSError):  # the process beside the agent was killed
            os.write(self._pipe, _HAS_ENDED)
        os.close(self._pipe)


def processes_of(session: int) -> List[int]:
    """Return the processes of a session that have not ended. Source: proc(5)."""
    found = []
    for name in os.listdir("/proc"):
        with contextlib.suppress(OSError):
            if name.isdecimal():
                with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                    state, _, _, of = file.read().rpartition(")")[2].split()[:4]
                if int(of) == session and state not in "ZX":
                    found.append(int(name))
    return found


def _run_alone(pipe: int, session: int) -> NoReturn:
    """Be the process beside the agent: without its signals, its other files and its output."""
    try:
        signal.set_wakeup_fd(-1)
        for number in REPORTED:
            signal.signal(number, signal.SIG_IGN)
        os.setsid()
        for name in os.listdir("/proc/self/fd"):
            if int(name) != pipe:
                with contextlib.suppress(OSError):
                    os.close(int(name))
        if os.read(pipe, len(_HAS_ENDED)) != _HAS_ENDED:
            _kill(session)
    finally:
        os._exit(0)


def _kill(session: int) -> None:
    """Kill the processes of a session, until there are none."""
    until = time.monotonic() + _SECONDS
    while (left := processes_of(session)) and time.monotonic() < until:
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_PAUSE_SECONDS)
