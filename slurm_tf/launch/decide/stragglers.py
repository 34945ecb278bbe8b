"""Finds tasks that others wait for. No I/O; the time comes from outside.

Where tasks train alike, each tells now and then how long it worked by itself in each step, without all waiting
(train/collectives/step_clock.py). A task is slow if it works `watch.straggler-factor` times as long as the median of
the others, and a millisecond longer, for at least `watch.straggler-time`. The reason is not known here: its node, its
part of the data, or something else that the task does. launch/nodes/exclusion.py excludes its node, until the task is
slow on another node as well.

Nothing is known of programs without slurm_tf.train, of strategy ps, where tasks do not wait for each other, and of a
task that is alone.
"""

from typing import Dict, List, Mapping, Optional, Set, Tuple

from slurm_tf.run.settings import WatchSettings
from slurm_tf.run.status import SlowTask, StragglerReport

# How long a figure counts. Tasks tell it every few seconds, or once a step if that takes longer.
_FRESH_SECONDS = 60.0
# A difference below this is noise.
_NOISE_SECONDS = 0.001
# How often the report changes.
_REPORT_SECONDS = 10.0


class StragglerDetector:
    """The tasks of one attempt. `notes`: tasks, each with a line to print.

    `report`: how long each task works by itself in a step, and which tasks are slow; None if nothing is known.
    """

    def __init__(self, settings: WatchSettings) -> None:
        self.notes: List[Tuple[str, str]] = []
        self.report: Optional[StragglerReport] = None
        self._settings = settings
        self._work: Dict[str, Tuple[float, float]] = {}
        # since when a task is slow
        self._since: Dict[str, float] = {}
        self._noted: Set[str] = set()
        self._report_at = 0.0

    def step_time(self, name: str, seconds: float, now: float) -> None:
        """Record that the program of `name` works `seconds` by itself in each step. It may say NaN."""
        if not 0 <= seconds < float("inf"):
            return
        self._work[name] = (float(seconds), now)
        known = {each: value for each, (value, at) in self._work.items() if now - at <= _FRESH_SECONDS}
        if len(known) < 2 or not self._settings.straggler_factor:
            return
        for each in known:
            self._judge(each, known, now)
        if self.report is None or now >= self._report_at:
            self._report_at = now + _REPORT_SECONDS
            slow = {each: self._slow(each, known, now) for each in known if self._is_slow(each, now)}
            rounded = {each: round(value, 6) for each, value in sorted(known.items())}
            self.report = StragglerReport(rounded, slow)

    def ended(self, name: str) -> None:
        """Record that the program of `name` does not run any more."""
        self._work.pop(name, None)
        self._since.pop(name, None)
        self._noted.discard(name)
        self.report = None

    @property
    def slow(self) -> Optional[Dict[str, str]]:
        """The tasks that are slow by the last report, and how slow, in words; None if nothing is known."""
        if self.report is None:
            return None
        return {name: found.words for name, found in self.report.slow.items()}

    def _judge(self, name: str, known: Mapping[str, float], now: float) -> None:
        others = _others(name, known)
        if known[name] <= max(others * self._settings.straggler_factor, others + _NOISE_SECONDS):
            self._since.pop(name, None)
            return
        self._since.setdefault(name, now)
        if self._is_slow(name, now) and name not in self._noted:
            self._noted.add(name)
            self._report_at = now
            seconds = self._settings.straggler_time
            self.notes.append((name, SlowTask(known[name], others, seconds).words))

    def _is_slow(self, name: str, now: float) -> bool:
        return name in self._since and now - self._since[name] >= self._settings.straggler_time

    def _slow(self, name: str, known: Mapping[str, float], now: float) -> SlowTask:
        return SlowTask(round(known[name], 6), round(_others(name, known), 6), round(now - self._since[name]))


def _others(name: str, known: Mapping[str, float]) -> float:
    import statistics  # noqa: PLC0415 - with decimal and fractions a tenth of each coordinator's start

    return statistics.median(value for each, value in known.items() if each != name)
