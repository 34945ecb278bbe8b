"""The HTML page of a report: one self-contained file, with plots as SVG, each of which answers a question."""

import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from slurm_tf.account import usage_table
from slurm_tf.account.exit_classes import ExitClass
from slurm_tf.account.report import Report
from slurm_tf.account.usage import Aggregate, midnights
from slurm_tf.account.window import Window
from slurm_tf.plots import charts, html_page
from slurm_tf.plots.charts import NARROW, WIDE, Layer, Plot, Span

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_BARS = {WIDE: 90, NARROW: 30}
_LAYERS = 7
_ROWS = 500
# How many attempts the timeline shows.
_SHOWN = 120
_TENTHS = 11
# The edges between the bins of waiting times, in seconds.
_WAITS = ((60, "1 min"), (600, "10 min"), (3600, "1 h"), (14400, "4 h"), (43200, "12 h"), (86400, "1 day"))
_OTHERS = "\0others"


class Page:
    """The page of a report, with plots of the table `jobs`."""

    def __init__(
        self,
        database: "DuckDBPyConnection",
        window: Window,
        run: str = "",
        now: int | None = None,
        by: Sequence[str] = ("account",),
    ) -> None:
        """`run`: the timeline's run; "": the one with most attempts. `now`: running jobs are counted until then.

        `by`: the words of the report; hours over time are stacked by the first of them that is no day.
        """
        self._stacked_by = next((word for word in by if word != "day"), "user")
        # its view `parts` is what the other plots are made of
        self._by_day = Aggregate(database, window, ("day", self._stacked_by), now=now)
        self._database, self._window, self._run = database, window, run

    def write(self, path: Path, report: Report) -> None:
        """Write the page. Raises UsageError."""
        html_page.write(path, Path(__file__).with_name("usage.html.j2"), self.values(report))

    def values(self, report: Report) -> dict[str, object]:
        """Return the values of usage.html.j2, by name."""
        run, spans = self._timeline()
        days = _Days(self._by_day, self._stacked_by, self._window)
        plots = [
            _both(days.plot, f"Who used the {'GPUs' if days.of_gpus else 'CPUs'}, and when?"),
            _both(lambda width: _lost(report, width), "What was lost, and why?"),
            _both(self._waited, "How long did jobs wait?"),
        ]
        title = f"Attempts of run {run}" + (f", the last {_SHOWN} of {len(spans)}" if len(spans) > _SHOWN else "")
        attempts = _both(lambda width: charts.timeline(spans[-_SHOWN:], title, width), f"What did run {run} do?")
        return {
            "report": report, "title": days.title, "run": run, "tiles": usage_table.tiles(report),
            "plots": [each for each in plots if each[0].bars], "uses": self._uses(),
            "attempts": attempts if spans else None,
            "table": usage_table.table(report.by, report.rows[:_ROWS], report),
            "more": max(0, len(report.rows) - _ROWS),
        }  # fmt: skip

    def _uses(self) -> list[Plot]:
        kinds = (
            ("gpu_busy / 100", "gpus", "GPU-hours", "use of the GPUs", 0, "How busy were the GPUs?"),
            ("used_cpu / (cpus * whole)", "cpus", "CPU-hours", "use of the CPUs", 2, "How busy were the CPUs?"),
            ("used_memory / 1048576 / memory", "cpus", "CPU-hours", "use of the memory", 3, "How full was the memory?"),
        )
        found = []
        for use, held, unit, words, colour, question in kinds:
            # the last tenth has 100%, and what is above it a bin of its own
            tenth = f"case when {use} > 1 then {_TENTHS - 1} else least(9, floor({use} * 10)) end::integer"
            hours = self._bins(_TENTHS, tenth, f"sum({held} * seconds) / 3600", f"isfinite({use})")
            if any(hours):
                plot = charts.shares(hours, unit, f"{unit} by {words}", charts.PALETTE[colour])
                plot.question = question
                found.append(plot)
        return found

    def _waited(self, width: int) -> Plot:
        cases = " ".join(f"when waited < {most} then {at}" for at, (most, _) in enumerate(_WAITS))
        waits = self._bins(len(_WAITS) + 1, f"case {cases} else {len(_WAITS)} end", "count(*)", "waited is not null")
        words = "Starts of jobs by the time since they were eligible"
        edges = [edge for _, edge in _WAITS]
        return charts.counts([int(each) for each in waits], edges, "starts", words, charts.PALETTE[4], width)

    def _bins(self, number: int, place: str, amount: str, condition: str) -> list[float]:
        """Return the amounts in each of some bins."""
        found = self._database.execute(f"select {place} as place, {amount} from parts where {condition} group by place")
        bins = [0.0] * number
        for at, value in found.fetchall():
            bins[at] = float(value or 0)
        return bins

    def _timeline(self) -> tuple[str, list[Span]]:
        """Return the run of the timeline, and its attempts with what the window has of each."""
        found = self._database.execute(
            "select run from parts where run is not null group by run order by count(*) desc, run desc limit 1"
        ).fetchone()
        run = self._run or (str(found[0]) if found else "")
        rows = self._database.execute(
            """select id, least(started, coalesce(eligible, started)), started,
              greatest(started, least(max(stop), max(high))), exit_class, sum(start_lost), sum(rolled_back)
            from parts where run = $1 group by id, eligible, started, submitted, exit_class order by started""",
            [run],
        ).fetchall()
        spans = []
        for job, waited_from, started, stop, word, *lost in rows:
            end = ExitClass.named(word)
            known = [int(each) for each in lost if each is not None]
            spans.append(Span(f"job {job}", waited_from, started, stop, end.word, end.colour, *known))
        return run, spans


class _Days:
    """Hours over time, stacked by a word; every day counts from the first to the last one with a job."""

    def __init__(self, by_day: Aggregate, word: str, window: Window) -> None:
        total = by_day.total()
        self.of_gpus = bool(total.gpu_seconds)
        self._word, self._amounts = word, dict[str, dict[str, float]]()
        sums: dict[str, float] = {}
        for row in by_day.rows():
            day, key = row.key
            hours = ((row.amounts.gpu_seconds if self.of_gpus else row.amounts.cpu_seconds) or 0) / 3600
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


def _lost(report: Report, width: int) -> Plot:
    of_gpus = bool(report.total.gpu_seconds)
    unit = "GPU-hours" if of_gpus else "CPU-hours"
    rows = [
        (each.end.word, ((each.lost_gpu_seconds if of_gpus else each.lost_cpu_seconds) or 0) / 3600, each.end.colour)
        for each in report.total.ends
    ]
    rows = sorted((row for row in rows if row[1]), key=lambda row: -row[1])
    return charts.ranked(rows, unit, f"{unit} lost{'' if report.total.is_told else ' at most'}, by how it ended", width)
