"""Reads and follows the output of a run: that of its jobs, or the logs of its tasks."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
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


@dataclass(frozen=True, slots=True)
class LogChunk:
    """A piece of one file. `name`: the heading of the file where there are several; `end`: the offset of its end."""

    name: str
    data: bytes
    end: int


def log_files(selected: SelectedRun, role: str, index: int | None) -> dict[str, str]:
    """Return the paths to read by their headings: the output of each point's newest job, or logs of tasks of `role`.

    A path may not exist yet. Raises UsageError for a task that the run does not have.
    """
    found = {}
    for each in selected.points():
        if role:
            for number in _task_indexes(each, role, index):
                found[f"{run_params.named(each)} {role}:{number}"] = each.folder.log(role, number)
        else:
            found[run_params.named(each)] = job_output(each)
    return found


def read(paths: dict[str, str], lines: int | None) -> Iterator[LogChunk]:
    """Yield the present content of the files; only the last `lines` lines of each if not None."""
    for name, path in paths.items():
        try:
            with open(path, "rb") as file:
                data = file.read() if lines is None else _tail(file, lines)
                yield LogChunk(name, data, file.seek(0, os.SEEK_CUR))
        except FileNotFoundError:
            continue


def follow(paths: dict[str, str], lines: int | None, is_over: Callable[[], bool]) -> Iterator[LogChunk]:
    """Yield the present content of the files and what is appended, until `is_over`; a file need not exist yet.

    A requeued job appends to the same files.
    """
    positions = {}
    for chunk in read(paths, lines):
        positions[chunk.name] = chunk.end
        yield chunk
    poll_at, pause, over = time.monotonic(), _JOB_POLL_SECONDS, False
    while True:
        new = list(_new_chunks(paths, positions))
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


def _new_chunks(paths: dict[str, str], positions: dict[str, int]) -> Iterator[LogChunk]:
    for name, path in paths.items():
        position = positions.get(name, 0)
        try:
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size < position:  # the file was truncated
                    position = 0
                file.seek(position)
                while data := file.read(_BLOCK):
                    position += len(data)
                    yield LogChunk(name, data, position)
        except FileNotFoundError:
            continue
        positions[name] = position


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
