"""What a run prints: the job's own output, or one task's; as it is, or as it comes."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from slurm_tf.errors import UsageError
from slurm_tf.run import job_chain
from slurm_tf.run.settings import read_settings
from slurm_tf.watch.find_run import Target

_POLL_SECONDS = 0.5
# How often whoever follows asks Slurm whether the job still lives, at first and at most.
_ASK_SECONDS, _ASK_SECONDS_MOST = 5.0, 60.0
_BLOCK = 1 << 16


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of one file; `name` is what to call the file among several, `end` where in the file it ends."""

    name: str
    data: bytes
    end: int


def files_of(target: Target, role: str, index: int | None) -> dict[str, str]:
    """Return the paths to read, by what to call them: each point's newest job's output, or logs of tasks.

    A path may not exist yet. Raises UsageError for a task that the run does not have.
    """
    found = {}
    for each in target.each():
        if role:
            for number in _indexes(each, role, index):
                found[f"{each.name} {role}:{number}"] = each.folder.log(role, number)
        else:
            found[each.name] = _output(each)
    return found


def read(paths: dict[str, str], lines: int | None) -> Iterator[Chunk]:
    """Yield what the files hold now; of each the last `lines` lines if not None."""
    for name, path in paths.items():
        try:
            with open(path, "rb") as file:
                data = file.read() if lines is None else _tail(file, lines)
                yield Chunk(name, data, file.seek(0, os.SEEK_CUR))
        except FileNotFoundError:
            continue


def follow(paths: dict[str, str], lines: int | None, is_over: Callable[[], bool]) -> Iterator[Chunk]:
    """Yield what the files hold and what comes, until `is_over`; a file need not exist yet.

    A requeued job appends to the same files.
    """
    positions = {}
    for chunk in read(paths, lines):
        positions[chunk.name] = chunk.end
        yield chunk
    ask_at, pause, over = time.monotonic(), _ASK_SECONDS, False
    while True:
        came = list(_new(paths, positions))
        yield from came
        if over and not came:
            return
        now = time.monotonic()
        if now >= ask_at:
            over = is_over()
            # nothing new for long: ask less often
            pause = _ASK_SECONDS if came else min(pause * 1.5, _ASK_SECONDS_MOST)
            ask_at = now + pause
        if not over:
            time.sleep(_POLL_SECONDS)


def _new(paths: dict[str, str], positions: dict[str, int]) -> Iterator[Chunk]:
    for name, path in paths.items():
        position = positions.get(name, 0)
        try:
            with open(path, "rb") as file:
                if os.fstat(file.fileno()).st_size < position:  # somebody emptied it
                    position = 0
                file.seek(position)
                while data := file.read(_BLOCK):
                    position += len(data)
                    yield Chunk(name, data, position)
        except FileNotFoundError:
            continue
        positions[name] = position


def _output(target: Target) -> str:
    """Return the file of the newest submission's output, which the jobs that follow it go on with.

    `local` runs print to the terminal only.
    """
    line = job_chain.chains(target.run).get(target.point)
    if not line:
        raise UsageError(
            f"run {target.name} has no job output: it was not submitted", "--role", "its tasks' logs are there"
        )
    return os.path.join(target.run.logs, f"slurm-{line[0]}.out")


def _indexes(target: Target, role: str, index: int | None) -> Sequence[int]:
    submission = job_chain.submissions(target.run).get(target.point) or target.run.submissions[-1]
    settings = read_settings(submission)
    counts = {each.name: each.count for each in settings.roles}
    if role not in counts or (index is not None and not 0 <= index < counts[role]):
        task = role if index is None else f"{role}:{index}"
        have = ", ".join(f"{name}:0-{count - 1}" if count > 1 else f"{name}:0" for name, count in counts.items())
        raise UsageError(f"run {target.name} has no task {task}", f"one of {have}")
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
