"""What is new of a run while a browser looks at it, as server-sent events (HTML Living Standard, section 9.2).

A browser that was cut off sends the id of the last event that it got as Last-Event-ID, and goes on from there.
"""

import asyncio
import codecs
import json
import os
import re
import time
from collections.abc import AsyncIterator, Callable, Sequence

from starlette.concurrency import run_in_threadpool

from slurm_tf.page import run_rows
from slurm_tf.page.run_cache import RunCache
from slurm_tf.run.folder import RunFolder
from slurm_tf.watch import live_progress, logs
from slurm_tf.watch.live_progress import FilePosition, NewReports
from slurm_tf.watch.logs import LogFile
from slurm_tf.watch.run_overview import RunOverview

# How often files are looked at, and the state of the run; a stream says something at least so often.
_FILE_SECONDS, _STATE_SECONDS, _SILENT_SECONDS = 0.5, 2.0, 20.0
# So much of a log is sent at most of what a browser has missed.
_MOST_BYTES = 1 << 20
# What colours text and moves the cursor on a terminal.
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def event(name: str, data: object, last_id: str = "") -> bytes:
    """Return one event."""
    id_line = f"id: {last_id}\n" if last_id else ""
    return f"event: {name}\n{id_line}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


async def of_run(cache: RunCache, key: str, point: int | None, folder: RunFolder, since: str) -> AsyncIterator[bytes]:
    """Yield events `reports` and `state`, and `over` once the run is over.

    `reports`: what the program has reported, by step; `whole`: in the place of what was sent before; `prefix`: of the
    names of the evaluator's metrics. `state`: the state in words, why, and what is known, by name.
    """
    sources = {"": folder.progress, "evaluator_": folder.evaluator_progress}
    texts = since.split(".")
    positions = {prefix: FilePosition.parse(text) for prefix, text in zip(sources, [*texts, "", ""][:2], strict=True)}
    states = _States(cache, key, point)
    state_at, said_at = 0.0, time.monotonic()
    while True:
        now = time.monotonic()
        is_over = False
        news: list[bytes] = []
        if now >= state_at:
            state_at = now + _STATE_SECONDS
            changed, is_over = await run_in_threadpool(states.read)
            news += [] if changed is None else [event("state", changed)]
        for prefix, path in sources.items():
            found = await run_in_threadpool(live_progress.read_new, path, positions[prefix])
            if found is not None:
                positions[prefix] = found.position
                news.append(_reports(prefix, found, ".".join(map(str, positions.values()))))
        if not news and now - said_at > _SILENT_SECONDS:
            news = [b": nothing new\n\n"]
        if news:
            said_at = now
            yield b"".join(news)
        if is_over:
            yield event("over", None)
            return
        await asyncio.sleep(_FILE_SECONDS)


def _reports(prefix: str, found: NewReports, last_id: str) -> bytes:
    rows = [[each.step, dict(each.values)] for each in found.reports]
    return event("reports", {"prefix": prefix, "whole": found.is_whole, "rows": rows}, last_id)


class _States:
    """The state of one run or point, read again only where Slurm was asked again, or the run wrote something."""

    def __init__(self, cache: RunCache, key: str, point: int | None) -> None:
        self._cache, self._key, self._point = cache, key, point
        self._version: object = None
        self._last: object = None
        self._is_over = False

    def read(self) -> tuple[object | None, bool]:
        """Return the state where it has changed, else None; and whether the run is over."""
        known = self._cache.look(wait=False)
        points = [each for each in known.runs.get(self._key, ()) if self._point in (None, each.selected.point)]
        if not points:
            return None, True
        version = (known.at, [_written(each.selected.folder.status) for each in points])
        if version == self._version:
            return None, self._is_over
        self._version = version
        state = _state(self._cache.find(self._key, self._point, wait=False))
        self._is_over = all(point.is_over for point in points)
        if state == self._last:
            return None, self._is_over
        self._last = state
        return state, self._is_over


def _state(points: Sequence[RunOverview]) -> dict[str, object]:
    first = points[0]
    return {
        "state": run_rows.state_words(first),
        "colour": run_rows.colour(points),
        "why": run_rows.why_words(first),
        "facts": run_rows.facts(points),
    }


def _written(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0


async def of_log(file: LogFile, since: int, is_over: Callable[[], bool]) -> AsyncIterator[bytes]:
    """Yield events `text` with what is appended to a file after the offset `since`, until the run is over."""
    positions = {file: await run_in_threadpool(_near_the_end, file.path, since)}
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    over, state_at, said_at = False, 0.0, time.monotonic()
    while True:
        now = time.monotonic()
        chunks = await run_in_threadpool(lambda: list(logs.read_new([file], positions)))
        for chunk in chunks:
            yield event("text", printable(decoder.decode(chunk.data)), str(chunk.end))
        if over and not chunks:
            yield event("over", None)
            return
        if now >= state_at:
            state_at = now + _STATE_SECONDS
            over = await run_in_threadpool(is_over)
        if chunks:
            said_at = now
        elif now - said_at > _SILENT_SECONDS:
            said_at = now
            yield b": nothing new\n\n"
        await asyncio.sleep(_FILE_SECONDS)


def printable(text: str) -> str:
    """Return the text of a log without what moves the cursor of a terminal."""
    return _ESCAPES.sub("", text)


def _near_the_end(path: str, since: int) -> int:
    try:
        size = os.stat(path).st_size
    except OSError:
        return 0
    return max(since, size - _MOST_BYTES) if since <= size else 0
