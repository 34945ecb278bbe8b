"""The HTML page of a report: one self-contained file, with plots as SVG."""

import math
from collections.abc import Callable
from pathlib import Path

from slurm_tf.account import exit_classes
from slurm_tf.account.report import Report, local
from slurm_tf.account.run_records import RunRecord
from slurm_tf.account.usage import Aggregate
from slurm_tf.account.usage_record import UsageRecord, Window
from slurm_tf.plots import charts, html_page
from slurm_tf.plots.charts import Plot, Span

_BARS = 90
_ACCOUNTS = 7
_ROWS = 500
# How many attempts are kept for the timeline, and how many of them it shows.
_SPANS, _SHOWN = 20_000, 120
_TENTHS = 11


class Page:
    """Collects the data of the plots, from the same records as the report, and writes the page."""

    def __init__(
        self, window: Window, own: Callable[[UsageRecord], RunRecord], run: str = "", now: int | None = None
    ) -> None:
        """`own`: returns the run's record of a record. `run`: the timeline's run; "": the one with most attempts."""
        self._by_day = Aggregate(window, ("day", "account"), own=own, now=now, counts_jobs=False)
        self._window, self._own, self._run, self._now = window, own, run, self._by_day.now
        self._cpu, self._memory, self._gpu = ([0.0] * _TENTHS for _ in range(3))
        self._spans: dict[str, list[Span]] = {}
        self._kept = 0

    def add(self, record: UsageRecord) -> None:
        """Add one incarnation."""
        self._by_day.add(record)
        record = self._own(record).completed(record)
        if record.started is None:
            return
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
        run, attempts = self._timeline()
        values = {
            "report": report, "total": report.total, "rows": report.rows[:_ROWS], "run": run, "attempts": attempts,
            "more": max(0, len(report.rows) - _ROWS), "title": f"Usage until {local(report.window.end)[:10]}",
            "days": self._days(), "uses": self._uses(), "lost": _lost(report), "share": _share, "hours": _hours,
        }  # fmt: skip
        html_page.write(path, Path(__file__).with_name("usage.html.j2"), values)

    def _days(self) -> Plot:
        """Return the plot of hours over time, stacked by account; at most _BARS bars, of one or more days each."""
        total = self._by_day.total()
        of_gpus = total.gpu_seconds > 0
        amounts: dict[str, dict[str, float]] = {}
        sums: dict[str, float] = {}
        for row in self._by_day.rows():
            day, account = row.key
            hours = (row.amounts.gpu_seconds if of_gpus else row.amounts.cpu_seconds) / 3600
            amounts.setdefault(day, {})[account] = hours
            sums[account] = sums.get(account, 0.0) + hours
        first = sorted(sums, key=lambda account: (-sums[account], account))[:_ACCOUNTS]
        known = [account for account in first if account]
        names = [*known, *([""] if len(known) < len(sums) else [])]
        days = sorted(amounts)
        size = max(1, math.ceil(len(days) / _BARS))
        columns = []
        for start in range(0, len(days), size):
            parts: dict[str, float] = {}
            for day in days[start : start + size]:
                for account, hours in amounts[day].items():
                    name = account if account in known else ""
                    parts[name] = parts.get(name, 0.0) + hours
            columns.append((days[start], parts))
        unit = "GPU-hours" if of_gpus else "CPU-hours"
        each = "a day" if size == 1 else f"in {size} days"
        return charts.stacked(columns, names, unit, f"{unit} {each}, by account")

    def _uses(self) -> list[Plot]:
        kinds = (
            (self._gpu, "GPU-hours", "GPU-hours by use of the GPUs", 0),
            (self._cpu, "CPU-hours", "CPU-hours by use of the CPUs", 2),
            (self._memory, "CPU-hours", "CPU-hours by use of the memory", 3),
        )
        return [
            charts.shares([each / 3600 for each in found], unit, words, charts.PALETTE[colour])
            for found, unit, words, colour in kinds
            if any(found)
        ]

    def _timeline(self) -> tuple[str, Plot | None]:
        run = self._run or max(self._spans, key=lambda name: (len(self._spans[name]), name), default="")
        spans = sorted(self._spans.get(run, []), key=lambda span: span.start)
        if not spans:
            return run, None
        words = f"Attempts of run {run}"
        words += f", the last {_SHOWN} of {len(spans)}" if len(spans) > _SHOWN else ""
        return run, charts.timeline(spans[-_SHOWN:], words)


def _fill(bins: list[float], use: float, seconds: int) -> None:
    bins[min(_TENTHS - 1, int(use * 10)) if use < 1 or use > 1 else 9] += seconds


def _lost(report: Report) -> Plot:
    of_gpus = report.total.gpu_seconds > 0
    unit = "GPU-hours" if of_gpus else "CPU-hours"
    rows = [
        (each.end.word, (each.lost_gpu_seconds if of_gpus else each.lost_cpu_seconds) / 3600, each.end.colour)
        for each in report.total.ends
    ]
    rows = sorted((row for row in rows if row[1]), key=lambda row: -row[1])
    return charts.ranked(rows, unit, f"{unit} lost{'' if report.total.is_told else ' at most'}, by how it ended")


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{100 * value:.0f}%"


def _hours(seconds: float) -> str:
    return f"{seconds / 3600:,.1f}"
