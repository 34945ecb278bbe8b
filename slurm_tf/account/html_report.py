"""The HTML page of a report: one self-contained file, with plots as SVG, each of which answers a question."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from slurm_tf.account import exit_classes, usage_table
from slurm_tf.account.report import Report
from slurm_tf.account.run_records import RunRecord
from slurm_tf.account.usage import Aggregate, midnights
from slurm_tf.account.usage_record import UsageRecord, Window
from slurm_tf.plots import charts, html_page
from slurm_tf.plots.charts import NARROW, WIDE, Layer, Plot, Span

_BARS = {WIDE: 90, NARROW: 30}
_LAYERS = 7
_ROWS = 500
# How many attempts are kept for the timeline, and how many of them it shows.
_SPANS, _SHOWN = 20_000, 120
_TENTHS = 11
# The edges between the bins of waiting times, in seconds.
_WAITS = ((60, "1 min"), (600, "10 min"), (3600, "1 h"), (14400, "4 h"), (43200, "12 h"), (86400, "1 day"))
_OTHERS = "\0others"


class Page:
    """Collects the data of the plots, from the same records as the report, and writes the page."""

    def __init__(
        self,
        window: Window,
        own: Callable[[UsageRecord], RunRecord],
        run: str = "",
        now: int | None = None,
        by: Sequence[str] = ("account",),
    ) -> None:
        """`own`: returns the run's record of a record. `run`: the timeline's run; "": the one with most attempts.

        `by`: the words of the report; hours over time are stacked by the first of them that is no day.
        """
        self._stacked_by = next((word for word in by if word != "day"), "user")
        self._by_day = Aggregate(window, ("day", self._stacked_by), own=own, now=now, counts_jobs=False)
        self._window, self._own, self._run, self._now = window, own, run, self._by_day.now
        self._cpu, self._memory, self._gpu = ([0.0] * _TENTHS for _ in range(3))
        self._waits = [0] * (len(_WAITS) + 1)
        self._spans: dict[str, list[Span]] = {}
        self._kept = 0

    def add(self, record: UsageRecord) -> None:
        """Add one incarnation."""
        self._by_day.add(record)
        record = self._own(record).completed(record)
        if record.started is None:
            return
        if record.eligible is not None and self._window.start <= record.started < self._window.end:
            waited = max(0, record.started - record.eligible)
            self._waits[next((at for at, (most, _) in enumerate(_WAITS) if waited < most), len(_WAITS))] += 1
        seconds = record.elapsed(*self._window, self._now)
        whole = (record.ended or 0) - record.started - record.suspended
        if record.used_cpu is not None and record.cpus and whole > 0:
            _fill(self._cpu, record.used_cpu / (record.cpus * whole), record.cpus * seconds)
        if record.used_memory is not None and record.memory:
            _fill(self._memory, record.used_memory / 1024**2 / record.memory, record.cpus * seconds)
        if record.gpu_use is not None:
            _fill(self._gpu, record.gpu_use / 100, record.gpus * seconds)
        self._keep(record, record.started)

    def _keep(self, record: UsageRecord, started: int) -> None:
        """Keep an attempt for the timeline, with its full length."""
        own = self._own(record)
        if not own.run or (self._run and own.run != self._run) or self._kept >= _SPANS:
            return
        self._kept += 1
        stop = started + record.elapsed(started, self._window.end, self._now)
        lost = own.lost(record, started, stop, self._now) if own.attempt else None
        waited_from = min(started, record.eligible or started)
        end = exit_classes.classify(record)
        span = Span(f"job {record.id}", waited_from, started, stop, end.word, end.colour, *(lost or ()))
        self._spans.setdefault(own.run, []).append(span)

    def write(self, path: Path, report: Report) -> None:
        """Write the page. Raises UsageError."""
        run, spans = self._timeline()
        days = _Days(self._by_day, self._stacked_by, self._window)
        plots = [
            _both(days.plot, f"Who used the {'GPUs' if days.of_gpus else 'CPUs'}, and when?"),
            _both(lambda width: _lost(report, width), "What was lost, and why?"),
            _both(self._waited, "How long did jobs wait?"),
        ]
        attempts = _both(lambda width: charts.timeline(spans, self._title(run), width), f"What did run {run} do?")
        values = {
            "report": report, "title": days.title, "run": run, "tiles": usage_table.tiles(report),
            "plots": [each for each in plots if each[0].bars], "uses": self._uses(),
            "attempts": attempts if spans else None,
            "table": usage_table.table(report.by, report.rows[:_ROWS], report),
            "more": max(0, len(report.rows) - _ROWS),
        }  # fmt: skip
        html_page.write(path, Path(__file__).with_name("usage.html.j2"), values)

    def _uses(self) -> list[Plot]:
        kinds = (
            (self._gpu, "GPU-hours", "use of the GPUs", 0, "How busy were the GPUs?"),
            (self._cpu, "CPU-hours", "use of the CPUs", 2, "How busy were the CPUs?"),
            (self._memory, "CPU-hours", "use of the memory", 3, "How full was the memory?"),
        )
        found = []
        for hours, unit, words, colour, question in kinds:
            if any(hours):
                shade = charts.PALETTE[colour]
                plot = charts.shares([each / 3600 for each in hours], unit, f"{unit} by {words}", shade)
                plot.question = question
                found.append(plot)
        return found

    def _waited(self, width: int) -> Plot:
        words = "Starts of jobs by the time since they were eligible"
        return charts.counts(self._waits, [edge for _, edge in _WAITS], "starts", words, charts.PALETTE[4], width)

    def _timeline(self) -> tuple[str, list[Span]]:
        run = self._run or max(self._spans, key=lambda name: (len(self._spans[name]), name), default="")
        return run, sorted(self._spans.get(run, []), key=lambda span: span.start)[-_SHOWN:]

    def _title(self, run: str) -> str:
        number = len(self._spans.get(run, []))
        return f"Attempts of run {run}" + (f", the last {_SHOWN} of {number}" if number > _SHOWN else "")


class _Days:
    """Hours over time, stacked by a word; every day counts from the first to the last one with a job."""

    def __init__(self, by_day: Aggregate, word: str, window: Window) -> None:
        total = by_day.total()
        self.of_gpus = total.gpu_seconds > 0
        self._word, self._amounts = word, dict[str, dict[str, float]]()
        sums: dict[str, float] = {}
        for row in by_day.rows():
            day, key = row.key
            hours = (row.amounts.gpu_seconds if self.of_gpus else row.amounts.cpu_seconds) / 3600
            if hours:
                self._amounts.setdefault(day, {})[key] = hours
                sums[key] = sums.get(key, 0.0) + hours
        self._layers = _layers(sums)
        self._days = _every_day(sorted(self._amounts), window)

    @property
    def title(self) -> str:
        """The title of the page: the days of which it tells."""
        if not self._days:
            return "Usage"
        first, last = self._days[0], self._days[-1]
        return f"Usage of {first}" if first == last else f"Usage from {first} to {last}"

    def plot(self, width: int) -> Plot:
        """Return the plot, with at most _BARS bars, each of one or more days."""
        size = max(1, math.ceil(len(self._days) / _BARS[width]))
        known = {layer.key for layer in self._layers}
        columns = []
        for start in range(0, len(self._days), size):
            parts: dict[str, float] = {}
            for day in self._days[start : start + size]:
                for key, hours in self._amounts.get(day, {}).items():
                    layer = key if key in known else _OTHERS
                    parts[layer] = parts.get(layer, 0.0) + hours
            columns.append((self._days[start], parts))
        unit = "GPU-hours" if self.of_gpus else "CPU-hours"
        each = "a day" if size == 1 else f"in {size} days"
        return charts.stacked(columns, self._layers, unit, f"{unit} {each}, by {self._word}", width)


def _layers(sums: dict[str, float]) -> list[Layer]:
    """Return the layers of the largest sums, that of what is unknown, and one of all others."""
    first = sorted((key for key in sums if key), key=lambda key: (-sums[key], key))
    layers = [Layer(key, key, charts.PALETTE[at]) for at, key in enumerate(first[:_LAYERS])]
    layers += [Layer("", "unknown", charts.UNKNOWN)] if "" in sums else []
    return layers + ([Layer(_OTHERS, f"{len(first) - _LAYERS} others", charts.GREY)] if first[_LAYERS:] else [])


def _every_day(days: Sequence[str], window: Window) -> list[str]:
    """Return all days from the first to the last one; from the beginning of the window, if it has one."""
    if not days:
        return []
    first = int(time.mktime(time.strptime(days[0], "%Y-%m-%d")))
    last = int(time.mktime(time.strptime(days[-1], "%Y-%m-%d")))
    start = max(0, min(window.start or first, first))
    return list(dict.fromkeys(time.strftime("%Y-%m-%d", time.localtime(at)) for at in midnights(start, last + 1)))


def _both(draw: Callable[[int], Plot], question: str) -> tuple[Plot, Plot]:
    """Return a plot for a page and for a telephone."""
    plots = draw(WIDE), draw(NARROW)
    for each in plots:
        each.question = question
    return plots


def _fill(bins: list[float], use: float, seconds: int) -> None:
    bins[min(_TENTHS - 1, int(use * 10)) if use < 1 or use > 1 else 9] += seconds


def _lost(report: Report, width: int) -> Plot:
    of_gpus = report.total.gpu_seconds > 0
    unit = "GPU-hours" if of_gpus else "CPU-hours"
    rows = [
        (each.end.word, (each.lost_gpu_seconds if of_gpus else each.lost_cpu_seconds) / 3600, each.end.colour)
        for each in report.total.ends
    ]
    rows = sorted((row for row in rows if row[1]), key=lambda row: -row[1])
    return charts.ranked(rows, unit, f"{unit} lost{'' if report.total.is_told else ' at most'}, by how it ended", width)
