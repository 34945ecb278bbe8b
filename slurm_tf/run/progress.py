"""What a program reported of its training: progress.jsonl in the run's folder, a line of JSON for each report.

One task writes it, the chief or worker 0, over all attempts of the run; an evaluator has a file of its own. Steps that
are done again after a restart replace those from before. The file stays small: of very many reports some are left out,
evenly over all steps, but not the last one, nor the lowest and the highest value of a metric. Standard library, Python
3.9.
"""

import collections
import json
import math
import os
import threading
import time
from dataclasses import dataclass, replace
from typing import Any, Callable, Deque, Dict, Iterable, List, Mapping, Optional, Sequence, Set

from slurm_tf import files
from slurm_tf.errors import FencedError

# A file of more bytes than this is halved.
_MOST_BYTES = 1 << 20
# The least time between two writes, and how many reports are kept meanwhile, or while the disk is full.
_SECONDS, _MOST_WAITING = 1.0, 1000
# How many metrics of a program are kept, and how many characters of their names.
_MOST_METRICS, _LONGEST_NAME = 32, 64


@dataclass(frozen=True)
class StepReport:
    """The metrics after `step`, by name; None: NaN, or no finite number. `at`: when, seconds since the epoch.

    `attempt`: the attempt that did the step, and how often its program was started again: "12_3.0/1".
    """

    step: int
    at: float
    attempt: str
    values: Mapping[str, Optional[float]]


def read(path: str) -> List[StepReport]:
    """Return the reports in a file, in their order and one a step; none where there is no file. Raises OSError.

    Lines that are no reports are left out, such as one that was not written to its end, and those of an attempt that
    still wrote after the next one had begun.
    """
    try:
        with open(path, "rb") as file:
            return parse(file.read())
    except FileNotFoundError:
        return []


def parse(data: bytes) -> List[StepReport]:
    """Return the reports in lines of a file, in their order and one a step: see `read`."""
    found: List[StepReport] = []
    over: Set[str] = set()
    for line in data.split(b"\n"):
        each = _parse_line(line)
        if each is None or each.attempt in over:
            continue
        last = found[-1] if found else each
        if each.attempt != last.attempt:
            over.add(last.attempt)
        if each.step == last.step and found:
            found[-1] = replace(each, values={**last.values, **each.values})
        else:
            found.append(each)
    return found


class ProgressWriter:
    """Adds the reports of one program to a file; `attempt`: see StepReport.

    `fence` raises FencedError once another attempt has the run; then nothing is written any more. `say` prints that the
    file cannot be written.
    """

    def __init__(self, path: str, attempt: str, fence: Callable[[], None], say: Callable[[str], None]) -> None:
        self._path, self._attempt, self._fence, self._say = path, attempt, fence, say
        self._waiting: Deque[StepReport] = collections.deque(maxlen=_MOST_WAITING)
        self._written_at = -math.inf
        self._begun = self._failed = self._over = False
        self._keeps: Optional[int] = None
        self._lock = threading.Lock()

    def add(self, step: int, values: Mapping[str, float], resumed_at: Optional[int] = None) -> None:
        """Add a report. `resumed_at`: the step that the program went on from, None where only it knows.

        What the file has of later steps is done again, and is removed with the first report.
        """
        kept = list(values.items())[:_MOST_METRICS]
        finite = {str(name)[:_LONGEST_NAME]: value if math.isfinite(value) else None for name, value in kept}
        with self._lock:
            if self._keeps is None:
                self._keeps = step - 1 if resumed_at is None else min(resumed_at, step - 1)
            self._waiting.append(StepReport(step, round(time.time(), 3), self._attempt, finite))
            if time.monotonic() - self._written_at >= _SECONDS:
                self._guard(self._append)

    def flush(self) -> None:
        """Write the reports that wait."""
        with self._lock:
            self._guard(self._append)

    def _guard(self, write: Callable[[], None]) -> None:
        """Write, unless another attempt has the run; training goes on where that fails."""
        if self._over:
            return
        try:
            write()
        except FencedError:
            self._over = True
        except OSError as error:
            if not self._failed:
                self._say(f"cannot write {self._path}: {error.strerror}")
            self._failed = True

    def _begin(self, keeps: int) -> None:
        """Remove the steps after `keeps`, and what a killed program has not written to its end."""
        if os.path.exists(self._path):
            self._replace([each for each in read(self._path) if each.step <= keeps])
        self._begun = True

    def _append(self) -> None:
        if not self._waiting or self._keeps is None:
            return
        self._written_at = time.monotonic()
        self._fence()
        if not self._begun:
            self._begin(self._keeps)
        size = _append_whole(self._path, _text(self._waiting))
        self._waiting.clear()
        if size > _MOST_BYTES:
            self._replace(thinned(read(self._path)))

    def _replace(self, reports: Sequence[StepReport]) -> None:
        files.write_whole(self._path, _text(reports), check=self._fence)


def thinned(reports: Sequence[StepReport]) -> List[StepReport]:
    """Return about half of the reports: evenly over the steps, the last one, and the extremes of each metric."""
    kept = {0, len(reports) - 1, *_extremes(reports)}
    gap = 2 * (reports[-1].step - reports[0].step) / len(reports)
    due = -math.inf
    for number, each in enumerate(reports):
        if each.step >= due or (number and each.step < reports[number - 1].step):
            kept.add(number)
            due = each.step + gap
    return [each for number, each in enumerate(reports) if number in kept]


def _extremes(reports: Sequence[StepReport]) -> Set[int]:
    """Return the places of the lowest and the highest value of each metric."""
    values: Dict[str, Dict[int, float]] = {}
    for number, each in enumerate(reports):
        for name, value in each.values.items():
            if value is not None:
                values.setdefault(name, {})[number] = value
    return {
        found
        for each in values.values()
        for found in (min(each, key=each.__getitem__), max(each, key=each.__getitem__))
    }


def _append_whole(path: str, data: bytes) -> int:
    """Append all of `data` to a file, or nothing: a part of a line would spoil the next one. Return the file's size."""
    handle = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        before, rest = os.fstat(handle).st_size, memoryview(data)
        try:
            while rest:
                rest = rest[os.write(handle, rest) :]
        except OSError:
            os.ftruncate(handle, before)
            raise
        return before + len(data)
    finally:
        os.close(handle)


def _text(reports: Iterable[StepReport]) -> bytes:
    return b"".join(json.dumps(vars(each)).encode() + b"\n" for each in reports)


def _parse_line(line: bytes) -> Optional[StepReport]:
    try:
        found: Any = json.loads(line)
        values = {str(name): _number(value) for name, value in found["values"].items()}
        return StepReport(int(found["step"]), float(found["at"]), str(found["attempt"]), values)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return None


def _number(value: object) -> Optional[float]:
    number = math.nan if value is None else float(value)  # type: ignore[arg-type]
    return number if math.isfinite(number) else None
