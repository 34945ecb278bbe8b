"""Calls functions in a Python process of its own, which has not run the program that prepares.

A process of `multiprocessing` runs the main module again: a program that prepares without `if __name__ == "__main__"`
would begin another preparation in each of its workers. This one runs slurm_tf/prepare/worker_main.py.
"""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from types import TracebackType
from typing import ParamSpec, Self, TypeVar

from slurm_tf.errors import SlurmTfError, StorageError

_Arguments = ParamSpec("_Arguments")
_Result = TypeVar("_Result")


class WorkerProcess:
    """A process that is started by the first call, and ends with the block or with this process.

    `is_silent`: what it prints goes nowhere.
    """

    def __init__(self, is_silent: bool = False) -> None:
        self._output = subprocess.DEVNULL if is_silent else None
        self._started: tuple[subprocess.Popen[bytes], Connection] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()

    def call(
        self, function: Callable[_Arguments, _Result], *arguments: _Arguments.args, **named: _Arguments.kwargs
    ) -> _Result:
        """Return what a function of a module of ours returns there; it raises the SlurmTfError that was raised there.

        Raises StorageError if the process was ended.
        """
        process, connection = self._started = self._started or self._start()
        try:
            connection.send((function, arguments, named))
            answer: _Result | SlurmTfError = connection.recv()
        except (EOFError, OSError) as error:
            found = f"a process of the preparation was ended ({_how(process)})"
            do = "give more memory, or use fewer cpus"
            raise StorageError(found, "one that runs to its end: it may have been out of memory", do) from error
        if isinstance(answer, SlurmTfError):
            raise answer
        return answer

    def end(self) -> None:
        """End the process, also in a call."""
        if self._started:
            process, connection = self._started
            process.kill()
            process.wait()
            connection.close()

    def _start(self) -> "tuple[subprocess.Popen[bytes], Connection]":
        ours, theirs = multiprocessing.Pipe()
        # -P: not from the current folder, where a file may have the name of a package
        command = [sys.executable, "-P", "-m", "slurm_tf.prepare.worker_main", str(theirs.fileno())]
        path = os.pathsep.join(os.path.abspath(each) for each in sys.path if each)
        with theirs:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output,
                env={**os.environ, "PYTHONPATH": path}, pass_fds=[theirs.fileno()],
            )  # fmt: skip
        return process, ours


def _how(process: "subprocess.Popen[bytes]") -> str:
    code = process.wait()
    return f"signal {-code}" if code < 0 else f"exit code {code}"
