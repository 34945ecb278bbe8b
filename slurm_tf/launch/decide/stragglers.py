"""Tasks that others wait for. No I/O; the time comes from outside.

Where tasks train alike, each tells now and then how long it worked by itself in each step, all waiting left out
(train/collectives/step_clock.py). One is slow that works `watch.straggler-factor` times as long as the median of the
others, and a millisecond longer, for `watch.straggler-time` at least. Why, nobody knows here: its node, its part of the
data, or what else it does. launch/nodes/exclusion.py leaves its node out, until the task is slow elsewhere as well.

Nothing is known of programs without slurm_tf.train, under strategy ps, where tasks do not wait for each other, and of
tasks that are alone.
"""

from statistics import median
from typing import Any, Dict, List, Mapping, Optional, Tuple

from slurm_tf.run.settings import WatchSettings
from slurm_tf.run.status import SlowTask, StragglerReport

# It is told every few seconds, or once a step if that takes longer.
_FRESH_SECONDS = 60.0
# Less is noise.
_LEAST = 0.001
# How often there is something new to write.
_REPORT_SECONDS = 10.0


class Stragglers:
    """All tasks of one attempt. `notes`: tasks, each with a line to print.

    `report`: None if nothing is known; else how long each task works by itself in a step (`own`, in seconds), and the
    slow ones (`slow`): `own`, the median of the `others`, and for how many `seconds`.
    """

    def __init__(self, settings: WatchSettings) -> None:
        self.notes: List[Tuple[str, str]] = []
        self.report: Optional[StragglerReport] = None
        self._settings = settings
        self._own: Dict[str, Tuple[float, float]] = {}
        self._since: Dict[str, float] = {}
        self._told: Dict[str, float] = {}
        self._report_at = 0.0

    def line(self, name: str, words: Mapping[str, Any], now: float) -> None:
        """Take in what the program of `name` said: {"own": seconds in each step}."""
        own = words.get("own")
        if isinstance(own, bool) or not isinstance(own, (int, float)) or not 0 <= own < float("inf"):
            return
        self._own[name] = (float(own), now)
        known = {each: value for each, (value, at) in self._own.items() if now - at <= _FRESH_SECONDS}
        if len(known) < 2 or not self._settings.straggler_factor:
            return
        for each in known:
            self._judge(each, known, now)
        if self.report is None or now >= self._report_at:
            self._report_at = now + _REPORT_SECONDS
            slow = {each: self._slow(each, known, now) for each in known if self._is_slow(each, now)}
            own_work = {each: round(value, 6) for each, value in sorted(known.items())}
            self.report = StragglerReport(own_work, slow)

    def ended(self, name: str) -> None:
        """Take in that `name` does not run any more."""
        for each in (self._own, self._since, self._told):
            each.pop(name, None)
        self.report = None

    @property
    def slow(self) -> Optional[Dict[str, str]]:
        """The tasks that are slow by the last report, and how slow, in words; None if nothing is known."""
        if self.report is None:
            return None
        return {name: found.words for name, found in self.report.slow.items()}

    def _judge(self, name: str, known: Mapping[str, float], now: float) -> None:
        others = _others(name, known)
        if known[name] <= max(others * self._settings.straggler_factor, others + _LEAST):
            self._since.pop(name, None)
            return
        self._since.setdefault(name, now)
        if self._is_slow(name, now) and name not in self._told:
            self._told[name] = now
            self._report_at = now
            seconds = self._settings.straggler_time
            self.notes.append((name, SlowTask(known[name], others, seconds).words))

    def _is_slow(self, name: str, now: float) -> bool:
        return name in self._since and now - self._since[name] >= self._settings.straggler_time

    def _slow(self, name: str, known: Mapping[str, float], now: float) -> SlowTask:
        return SlowTask(round(known[name], 6), round(_others(name, known), 6), round(now - self._since[name]))


def _others(name: str, known: Mapping[str, float]) -> float:
    return median(value for each, value in known.items() if each != name)
