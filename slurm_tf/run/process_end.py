"""Says in words how a process ended: one way for tasks, replicas, and programs that slurm-tf starts itself."""

import contextlib
import signal


def signal_name(number: int) -> str:
    """Return the name of a signal, "signal 35" for one that has none, as most real-time signals."""
    with contextlib.suppress(ValueError):
        return signal.Signals(number).name
    return f"signal {number}"


def exit_status(code: int) -> str:
    """Return what ended a process with this return code, negative for a signal: "exit code 3", "signal 9 (SIGKILL)"."""
    if code >= 0:
        return f"exit code {code}"
    name = signal_name(-code)
    return name if name == f"signal {-code}" else f"signal {-code} ({name})"


def words(code: int) -> str:
    """Return how the process ended: "ended with exit code 3", "was ended by signal 9 (SIGKILL)"."""
    return f"was ended by {exit_status(code)}" if code < 0 else f"ended with {exit_status(code)}"
