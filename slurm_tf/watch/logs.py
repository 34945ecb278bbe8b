"""Reads and follows the output of a run: that of its jobs, or the logs of its tasks."""

import contextlib
import os
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from slurm_tf.errors import UsageError
from slurm_tf.run import job_chain
from slurm_tf.run.settings import read_settings
from slurm_tf.watch import run_params
from slurm_tf.watch.find_run import SelectedRun

_POLL_SECONDS = 0.5
# How often Slurm is asked whether a followed job still runs: at first, and at most after a long time without output.
_JOB_POLL_SECONDS, _LONGEST_JOB_POLL_SECONDS = 5.0, 60.0
_BLOCK = 1 << 16
# What an agent puts before each line of its program in the job's output.
_TASK = re.compile(rb"\[((?:chief|worker|ps|evaluator):\d+)\] ")


@dataclass(frozen=True, slots=True)
class LogFile:
    """A file with output of the run or sweep point `run`. `task`: whose log it is, "" for the output of the job.

    `heading`: what tells it from the run's other files.
    """

    path: str
    run: str
    task: str
    heading: str


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of one file; `end`: the offset of its end."""

    file: LogFile
    data: bytes
    end: int


@dataclass(frozen=True, slots=True)
class LogLine:
    """A line of output, for --json. `task`: whose program printed it; None for other lines of a job's output."""

    run: str
    task: str | None
    line: str


def log_files(selected: SelectedRun, role: str, index: int | None) -> list[LogFile]:
    """Return the files to read: the output of each point's newest job, or the logs of tasks of `role`.

    A file may not exist yet. Raises UsageError for a task that the run does not have.
    """
    found = []
    for each in selected.points():
        named = run_params.named(each)
        if role:
            tasks = {number: f"{role}:{number}" for number in _task_indexes(each, role, index)}
            found += [
                LogFile(each.folder.log(role, number), each.name, task, f"{named} {task}")
                for number, task in tasks.items()
            ]
        else:
            found.append(LogFile(job_output(each), each.name, "", named))
    return found


def read(files: Sequence[LogFile], lines: int | None) -> Iterator[LogChunk]:
    """Yield the present content of the files; only the last `lines` lines of each if not None."""
    for each in files:
        try:
            with open(each.path, "rb") as file:
                data = file.read() if lines is None else _tail(file, lines)
                yield LogChunk(each, data, file.seek(0, os.SEEK_CUR))
        except FileNotFoundError:
            continue


def lines_of(chunks: Iterable[LogChunk]) -> Iterator[LogLine]:
    """Yield the lines of `chunks` as they become whole, and what has no end of line at the end."""
    rest: dict[LogFile, bytes] = {}
    for chunk in chunks:
        *whole, rest[chunk.file] = (rest.get(chunk.file, b"") + chunk.data).split(b"\n")
        yield from (_line(chunk.file, each) for each in whole)
    yield from (_line(file, each) for file, each in rest.items() if each)


def _line(file: LogFile, data: bytes) -> LogLine:
    match = None if file.task else _TASK.match(data)
    task = match[1].decode() if match else file.task
    text = data[match.end() :] if match else data
    return LogLine(file.run, task or None, text.decode("utf-8", "replace"))


def follow(files: Sequence[LogFile], lines: int | None, is_over: Callable[[], bool]) -> Iterator[LogChunk]:
    """Yield the present content of the files and what is appended, until `is_over`; a file need not exist yet.

    A requeued job appends to the same files.
    """
    positions = {}
    for chunk in read(files, lines):
        positions[chunk.file] = chunk.end
        yield chunk
    poll_at, pause, over = time.monotonic(), _JOB_POLL_SECONDS, False
    while True:
        new = list(read_new(files, positions))
        yield from new
        if over and not new:
            return
        now = time.monotonic()
        if now >= poll_at:
            over = is_over()
            # without new output the job is asked for less and less often
            pause = _JOB_POLL_SECONDS if new else min(pause * 1.5, _LONGEST_JOB_POLL_SECONDS)
            poll_at = now + pause
        if not over:
            time.sleep(_POLL_SECONDS)


def read_new(files: Sequence[LogFile], positions: dict[LogFile, int]) -> Iterator[LogChunk]:
    """Yield what was appended to the files since `positions`, the offsets up to which they were read, and advance them.

    A file that has become shorter is read from its start.
    """
    for each in files:
        position = positions.get(each, 0)
        try:
            with open(each.path, "rb") as file:
                if os.fstat(file.fileno()).st_size < position:  # the file was truncated
                    position = 0
                file.seek(position)
                while data := file.read(_BLOCK):
                    position += len(data)
                    yield LogChunk(each, data, position)
        except FileNotFoundError:
            continue
        positions[each] = position


def job_output(selected: SelectedRun) -> str:
    """Return the output file of the newest submission; jobs that follow it append to the same file.

    Runs on this machine have none: they print to the terminal.
    """
    line = job_chain.chains(selected.run).get(selected.point)
    if not line:
        raise UsageError(
            f"run {selected.name} has no job output: it was not submitted", "--role", "it prints the logs of the tasks"
        )
    return os.path.join(selected.run.logs, f"slurm-{line[0]}.out")


def last_line(path: str, start: str) -> str:
    """Return the last line of a file if it begins with `start`; hints after it do not count. Else return ""."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        lines = _tail(file, 5).decode("utf-8", "replace").splitlines()
        last = next((line for line in reversed(lines) if not line.startswith("HINT: ")), "")
        return last if last.startswith(start) else ""
    return ""


def _task_indexes(selected: SelectedRun, role: str, index: int | None) -> Sequence[int]:
    submission = job_chain.submissions(selected.run).get(selected.point) or selected.run.submissions[-1]
    settings = read_settings(submission)
    counts = {each.name: each.count for each in settings.roles}
    if role not in counts or (index is not None and not 0 <= index < counts[role]):
        task = role if index is None else f"{role}:{index}"
        have = ", ".join(f"{name}:0-{count - 1}" if count > 1 else f"{name}:0" for name, count in counts.items())
        raise UsageError(f"run {selected.name} has no task {task}", f"one of {have}")
    return range(counts[role]) if index is None else (index,)


def _tail(file: BinaryIO, lines: int) -> bytes:
    """Return the last `lines` lines without reading the whole file, and leave the file at its end."""
    end = position = file.seek(0, os.SEEK_END)
    data = b""
    while position > 0 and data.count(b"\n") <= lines:
        start = max(0, position - _BLOCK)
        file.seek(start)
        data = file.read(position - start) + data
        position = start
    file.seek(end)
    return b"".join(data.splitlines(keepends=True)[-lines:]) if lines else b""
