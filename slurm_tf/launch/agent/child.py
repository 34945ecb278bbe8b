"""Runs the user's program as a child of its agent, passes its output on, and ends it with all that it started."""

import contextlib
import ctypes
import os
import re
import selectors
import signal
import socket
import subprocess
import time
from typing import IO, Callable, List, Mapping, Optional, Sequence, Tuple

from slurm_tf.launch.agent import failure_line, process_tree, start_notes
from slurm_tf.launch.agent.agent_watch import AgentWatch, processes_of
from slurm_tf.launch.agent.program_place import Leader

_CHUNK = 1 << 16
# A line longer than this is passed on in pieces.
_MAX_LINE = 1 << 16
# How much of the end of what the program printed is kept: TensorFlow's tracebacks are long.
_LAST = 1 << 16
# What a progress bar draws over itself ends with one of these, or with several.
_REDRAWS = re.compile(rb"[\r\b]+")
# Of what is drawn over, so much is passed on: a line in this time, of each stream.
_REDRAWN_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class Log:
    """The file that holds all that one task prints. Where it cannot be written, as on a full disk, the program goes on.

    `problem`: what went wrong last, "" for nothing.
    """

    def __init__(self, path: str) -> None:
        """Open the file. Raises OSError."""
        self._file = open(path, "ab", buffering=0, opener=_private)  # noqa: SIM115 - `close`
        self.problem = ""

    def write(self, data: bytes) -> None:
        """Append `data`; what there is no room for is left out."""
        try:
            while data:
                data = data[self._file.write(data) :]
        except OSError as error:
            self.problem = f"cannot write {self._file.name}: {error.strerror}"

    def close(self) -> None:
        """Close the file; a quota may be noticed only then."""
        try:
            self._file.close()
        except OSError as error:
            self.problem = f"cannot write {self._file.name}: {error.strerror}"


class Output:
    """Copies one stream of the program: its bytes to `log`, its lines to `sink`, each after the task's name.

    A carriage return or backspaces end a line as well, as a progress bar has no other end until it is full; of such
    lines only some are passed on. With `drops_notes` those of TensorFlow's start are not (start_notes.py). `last`: the
    end of what was written; `failed_at`: when (time.monotonic) a traceback began last, None if there was none.
    """

    def __init__(self, pipe: IO[bytes], sink: int, log: Log, prefix: bytes, drops_notes: bool = False) -> None:
        self.pipe, self._sink, self._log, self._prefix = pipe, sink, log, prefix
        self._drops_notes = drops_notes
        self.last = self._rest = b""
        self.failed_at: Optional[float] = None
        self._redrawn_at = -_REDRAWN_SECONDS
        os.set_blocking(pipe.fileno(), False)

    def pump(self) -> bool:
        """Pass on what the program wrote; return False at the end of the stream."""
        try:
            data = os.read(self.pipe.fileno(), _CHUNK)
        except BlockingIOError:
            return True
        self._pass_on(data)
        return bool(data)

    def finish(self) -> None:
        """Pass on all that is in the pipe now, then close it, even if other processes still hold it open."""
        with contextlib.suppress(BlockingIOError):
            while data := os.read(self.pipe.fileno(), _CHUNK):
                self._pass_on(data)
        if self._rest:
            self._write([_drawn(self._rest)])
        self.pipe.close()

    def _pass_on(self, data: bytes) -> None:
        self._log.write(data)
        if failure_line.MARK in self.last[-len(failure_line.MARK) :] + data:
            self.failed_at = time.monotonic()
        self.last = (self.last + data)[-_LAST:]
        *lines, self._rest = (self._rest + data).split(b"\n")
        passed_on: List[bytes] = []
        for line in lines:
            drawn = _drawn(line)
            passed_on += [*(each for each in self._redrawn(line) if each != drawn), drawn]
        passed_on += self._redrawn(self._rest)
        # a carriage return at the end may be the half of a line end, and what a bar last drew may stay
        self._rest = self._rest[_start_of_last(self._rest) :]
        if len(self._rest) > _MAX_LINE:
            passed_on, self._rest = [*passed_on, self._rest], b""
        if passed_on:
            self._write(passed_on)

    def _redrawn(self, line: bytes) -> List[bytes]:
        """Return what was drawn over in `line` and is to be passed on: one of all, if it is time for it."""
        drawn_over = [each for each in _REDRAWS.split(line[: _start_of_last(line)]) if each.strip()]
        now = time.monotonic()
        if not drawn_over or now < self._redrawn_at + _REDRAWN_SECONDS:
            return []
        self._redrawn_at = now
        return drawn_over[-1:]

    def _write(self, lines: List[bytes]) -> None:
        kept = [line for line in lines if not (self._drops_notes and start_notes.is_note(line))]
        data = b"".join(self._prefix + line + b"\n" for line in kept)
        # the reader (srun) may end before the program does: the log file still gets everything
        with contextlib.suppress(OSError):
            while data:
                data = data[os.write(self._sink, data) :]


def _start_of_last(line: bytes) -> int:
    """Return where the last text of `line` begins that nothing follows which would be drawn over it."""
    text = line.rstrip(b"\r\b")
    return max(text.rfind(b"\r"), text.rfind(b"\b")) + 1


def _drawn(line: bytes) -> bytes:
    """Return what of a whole line was drawn last; a bar that is wiped out leaves what it was."""
    return next(
        (each for each in reversed(_REDRAWS.split(line)) if each.strip()), b"" if _REDRAWS.search(line) else line
    )


class Child:
    """A running program, leader of its own session and process group."""

    def __init__(
        self,
        command: Sequence[str],
        environ: Mapping[str, str],
        log: str,
        name: str,
        selector: selectors.BaseSelector,
        inherited: socket.socket,
        drops_notes: bool,
        leader: Leader,
    ) -> None:
        """Start `command`, with `name` before each of its lines; it inherits the socket. Raises OSError.

        `drops_notes`: see `Output`. `leader`: what `command` starts.
        """
        self.kill_at: Optional[float] = None
        self._selector = selector
        self._log = Log(log)
        try:
            self._process = subprocess.Popen(
                list(command),
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                pass_fds=[inherited.fileno()],
                preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - this process has one thread
            )
        except BaseException:
            self._log.close()
            raise
        self.pid = self._process.pid
        self._leader = leader
        # else the kernel ends it with this process
        self._watch = None if leader is Leader.PROGRAM else AgentWatch(self.pid)
        prefix = f"[{name}] ".encode()
        pipes = ((self._process.stdout, 1), (self._process.stderr, 2))
        self._outputs = [Output(pipe, sink, self._log, prefix, drops_notes) for pipe, sink in pipes if pipe]
        self._all_outputs = tuple(self._outputs)
        for output in self._outputs:
            selector.register(output.pipe, selectors.EVENT_READ, output)

    @property
    def log_problem(self) -> str:
        """Why the log does not hold all that the program printed, "" if it does."""
        return self._log.problem

    def error(self, by_signal: bool) -> Tuple[str, float]:
        """Return the line of the output that says why it failed, and how many seconds ago that began.

        Where stderr has no traceback, stdout may have one: programs are started with both in one.
        """
        both = sorted(self._all_outputs, key=lambda each: each.failed_at is None)
        source = both[0] if both[0].failed_at is not None else self._all_outputs[-1]
        ago = 0.0 if source.failed_at is None else time.monotonic() - source.failed_at
        return failure_line.find(source.last.decode("utf-8", "replace"), by_signal), ago

    def pump(self, output: Output) -> None:
        """Pass on what `output` holds, and close it at its end."""
        if output in self._outputs and not output.pump():
            self._finish(output)

    def end(self, kill_wait: float) -> None:
        """Ask the program and all it started to end (SIGTERM); `kill_at` (time.monotonic) is `kill_wait` s later.

        A second call can only shorten that time.
        """
        if self.kill_at is None and self._leader is Leader.FILE_SERVER:
            _send(signal.SIGTERM, [pid for pid in processes_of(self.pid) if pid != self.pid])
        elif self.kill_at is None:
            self._signal(signal.SIGTERM)
        self.kill_in(kill_wait)

    def signal(self, number: int) -> None:
        """Send a signal to the program alone, as Slurm does with proctrack/cgroup."""
        _send(number, process_tree.children(self.pid) if self._leader is Leader.FILE_SERVER else [self.pid])

    def kill(self) -> None:
        """Kill the program and all it started."""
        self._signal(signal.SIGKILL)

    def kill_in(self, seconds: float) -> None:
        """Set `kill_at` to `seconds` from now, unless it is sooner already."""
        kill_at = time.monotonic() + seconds
        self.kill_at = kill_at if self.kill_at is None else min(kill_at, self.kill_at)

    def kill_if_due(self) -> None:
        """Kill the program if its time is over."""
        if self.kill_at is not None and time.monotonic() >= self.kill_at:
            self._signal(signal.SIGKILL)

    def reap(self) -> Optional[int]:
        """Return how the program ended, a negative number for a signal, or None while it runs.

        At its end every process that it left in its process group is killed. That is done before the program is reaped,
        while its process id cannot yet be that of another process.
        """
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is None:
            return None
        self._signal(signal.SIGKILL)
        code = self._process.wait()
        if self._watch:
            self._watch.ended()
        for output in list(self._outputs):
            self._finish(output)
        self._log.close()
        return code

    def _signal(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _finish(self, output: Output) -> None:
        self._outputs.remove(output)
        self._selector.unregister(output.pipe)
        output.finish()


def _send(number: int, pids: Sequence[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def die_with(parent: int) -> Callable[[], None]:
    """Return what a child of `parent` runs before its program, so that the program is killed when `parent` dies.

    With proctrack/cgroup Slurm would kill it; without Slurm, or with proctrack/linuxproc, nothing else does.
    """
    libc = ctypes.CDLL(None)

    def before_exec() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)

    return before_exec
