"""Computes the bars, curves, grid lines and labels of plots."""

import itertools
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# The colours of Okabe and Ito, which colour-blind readers can distinguish; grey is for all others.
PALETTE = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442", "#8c6bb1")
GREY = "#9a9a9a"
# of curves that are not named
FAINT = "#9a9a9a66"
_WAITING, _ROLLED_BACK = "#88888855", "#d55e0080"
# of a layer of a stack that has no name, and of all that have no colour of their own
UNKNOWN = "#c4c4c4"
# A plot is drawn for a page, and for a telephone.
WIDE, NARROW = 940, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 64, 12, 26, 34
_DAY = 86400
# Half a label of a day, and the width of a character of a label.
_HALF_DAY, _CHARACTER = 33, 6.2


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle; `title` is its tooltip."""

    x: float
    y: float
    width: float
    height: float
    colour: str
    title: str


@dataclass(frozen=True, slots=True)
class Label:
    """Text at a position; `anchor` is SVG's text-anchor."""

    x: float
    y: float
    text: str
    anchor: str = "end"


@dataclass(frozen=True, slots=True)
class Line:
    """A grid line."""

    x1: float
    y1: float
    x2: float
    y2: float


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through points; `title` is its tooltip."""

    points: tuple[tuple[float, float], ...]
    colour: str
    title: str

    @property
    def path(self) -> str:
        """The points as SVG's polyline takes them."""
        return " ".join(f"{x:.1f},{y:.1f}" for x, y in self.points)


@dataclass
class Plot:
    """All shapes of one plot, and its legend of (colour, text). `question`: what it answers; `words`: what it shows."""

    width: int
    height: int
    words: str
    question: str = ""
    bars: list[Bar] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    lines: list[Line] = field(default_factory=list)
    legend: list[tuple[str, str]] = field(default_factory=list)


def ticks(most: float) -> list[float]:
    """Return three to six round numbers from 0 to `most` or slightly more."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= rough)
    return [step * number for number in range(math.ceil(most / step - 1e-9) + 1)]


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of a stack: the key of its amounts, its name and its colour."""

    key: str
    name: str
    colour: str


def stacked(
    columns: Sequence[tuple[str, Mapping[str, float]]],
    layers: Sequence[Layer],
    unit: str,
    words: str,
    width: int = WIDE,
) -> Plot:
    """Return a bar for each (day, amount by key); amounts are stacked in the order of `layers`."""
    plot = Plot(width, 300, words)
    scale = _grid(plot, max((sum(parts.values()) for _, parts in columns), default=0.0), unit)
    wide = (width - _LEFT - _RIGHT) / max(1, len(columns))
    every = max(1, math.ceil(len(columns) * (2 * _HALF_DAY + 8) / (width - _LEFT - _RIGHT)))
    for number, (label, parts) in enumerate(columns):
        x, y = _LEFT + number * wide, float(plot.height - _BOTTOM)
        for layer in layers:
            height = parts.get(layer.key, 0.0) * scale
            if height > 0:
                y -= height
                title = f"{label}, {layer.name}: {parts[layer.key]:.1f} {unit}"
                plot.bars.append(Bar(x, y, max(0.5, wide * 0.9), height, layer.colour, title))
        middle = x + wide * 0.45
        if number % every == 0:
            is_last = middle + _HALF_DAY > width
            at, anchor = (float(width), "end") if is_last else (max(middle, _HALF_DAY), "middle")
            plot.labels.append(Label(at, plot.height - _BOTTOM + 18, label, anchor))
    plot.legend = [(layer.colour, layer.name) for layer in layers]
    return plot


def shares(hours: Sequence[float], unit: str, words: str, shade: str) -> Plot:
    """Return a histogram of `hours` by the share of the allocation that was used, in tenths; the last is above 100%."""
    plot = Plot(300, 220, words)
    scale = _grid(plot, max(hours, default=0.0), unit)
    wide = (plot.width - _LEFT - _RIGHT) / len(hours)
    for number, amount in enumerate(hours):
        x, height = _LEFT + number * wide, amount * scale
        range_ = f"{number * 10} to {number * 10 + 10}%" if number < 10 else "more than 100%"
        plot.bars.append(
            Bar(x, plot.height - _BOTTOM - height, wide * 0.9, height, shade, f"{range_}: {amount:.1f} {unit}")
        )
        if number in (0, 5, 10):
            plot.labels.append(Label(x, plot.height - _BOTTOM + 18, f"{number * 10}%", "middle"))
    return plot


def counts(numbers: Sequence[int], edges: Sequence[str], unit: str, words: str, shade: str, width: int = WIDE) -> Plot:
    """Return a histogram of `numbers`, of which `edges` stand between one bar and the next."""
    plot = Plot(width, 220, words)
    scale = _grid(plot, max(numbers, default=0), unit)
    wide = (width - _LEFT - _RIGHT) / len(numbers)
    bins = [
        f"below {edges[0]}",
        *(f"{low} to {high}" for low, high in itertools.pairwise(edges)),
        f"{edges[-1]} and more",
    ]
    for place, (which, number) in enumerate(zip(bins, numbers, strict=True)):
        x, height = _LEFT + place * wide, number * scale
        if number:
            title = f"{which}: {number} {unit}"
            plot.bars.append(Bar(x + wide * 0.05, plot.height - _BOTTOM - height, wide * 0.9, height, shade, title))
        if place:
            plot.labels.append(Label(x, plot.height - _BOTTOM + 18, edges[place - 1], "middle"))
    return plot


def ranked(rows: Sequence[tuple[str, float, str]], unit: str, words: str, width: int = WIDE) -> Plot:
    """Return a horizontal bar for each (label, amount, colour)."""
    high, left = 26, min(170, width * 3 // 10)
    plot = Plot(width, high * max(1, len(rows)) + 8, words)
    most = max((amount for _, amount, _ in rows), default=0.0) or 1.0
    for number, (label, amount, shade) in enumerate(rows):
        text = f"{amount:,.1f} {unit}"
        room = width - left - 16 - _CHARACTER * max(len(f"{each:,.1f} {unit}") for _, each, _ in rows)
        y, length = number * high + 4, max(room * amount / most, 0.5)
        plot.bars.append(Bar(left, y, length, high - 8, shade, f"{label}: {amount:.1f} {unit}"))
        plot.labels.append(Label(left - 8, y + 14, label))
        plot.labels.append(Label(left + length + 8, y + 14, text, "start"))
    return plot


@dataclass(frozen=True, slots=True)
class Span:
    """One attempt on a timeline: when it waited, started and stopped, and the seconds lost at its start and end.

    `end`: how it ended, in a word, and `colour` is that of such ends.
    """

    label: str
    waited_from: int
    start: int
    stop: int
    end: str
    colour: str
    startup: int = 0
    rollback: int = 0


def timeline(spans: Sequence[Span], words: str, width: int = WIDE) -> Plot:
    """Return a plot with one row for each attempt, ordered by start."""
    high = 20 if len(spans) <= 40 else 8
    left = 190 if width == WIDE else 120
    plot = Plot(width, high * max(1, len(spans)) + _BOTTOM + 4, words)
    low = min((span.waited_from for span in spans), default=0)
    length = max(1, max((span.stop for span in spans), default=1) - low)
    scale = (plot.width - left - _RIGHT) / length
    times = _times(low, low + length)
    every = max(1, math.ceil(len(times) * (2 * _HALF_DAY + 8) / (width - left)))
    for at in times[::every]:
        x = left + (at - low) * scale
        plot.lines.append(Line(x, 0, x, plot.height - _BOTTOM))
        form = "%m-%d %H:%M" if length < 10 * _DAY else "%Y-%m-%d"
        text, is_last = time.strftime(form, time.localtime(at)), x + _HALF_DAY > width
        label = Label(width if is_last else x, plot.height - _BOTTOM + 18, text, "end" if is_last else "middle")
        plot.labels.append(label)
    for number, span in enumerate(spans):
        y = number * high + 2
        if high > 10:
            plot.labels.append(Label(left - 8, y + 12, _shortened(f"{number + 1}. {span.label}", left)))
        parts = [
            (span.waited_from, span.start, _WAITING, "waited"),
            (span.start, span.start + span.startup, GREY, "start-up"),
            (span.start + span.startup, span.stop - span.rollback, span.colour, f"ran, {span.end}"),
            (span.stop - span.rollback, span.stop, _ROLLED_BACK, "after the last checkpoint"),
        ]
        for begin, stop, shade, what in parts:
            if stop > begin:
                title = f"{span.label}: {what} for {stop - begin} s"
                long = max(0.7, (stop - begin) * scale)
                plot.bars.append(Bar(left + (begin - low) * scale, y, long, high - 4, shade, title))
    plot.legend = [(_WAITING, "waiting"), *sorted({(span.colour, span.end) for span in spans}, key=lambda end: end[1])]
    if any(span.startup or span.rollback for span in spans):
        plot.legend += [(GREY, "start-up"), (_ROLLED_BACK, "after the last checkpoint")]
    return plot


def _shortened(text: str, room: float) -> str:
    longest = int((room - 8) / _CHARACTER)
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one run, each at its step. `label`: "" for one that is not in the legend, and grey."""

    label: str
    title: str
    values: Sequence[tuple[float, float]]


def curves(series: Sequence[Series], words: str, axis: str = "step", width: int = WIDE) -> Plot:
    """Return a plot of each series over its steps, or what `axis` says; the first series lie on top."""
    plot = Plot(width, 300, words)
    values = [value for each in series for _, value in each.values]
    most_steps = max((step for each in series for step, _ in each.values), default=0.0)
    low, high = _range(values)
    marks = [low + mark for mark in ticks(high - low)]
    scale, wide = (plot.height - _TOP - _BOTTOM) / (marks[-1] - low), plot.width - _LEFT - _RIGHT
    for mark in marks:
        y = plot.height - _BOTTOM - (mark - low) * scale
        plot.lines.append(Line(_LEFT, y, plot.width - _RIGHT, y))
        plot.labels.append(Label(_LEFT - 8, y + 4, f"{mark:.6g}"))
    steps = ticks(most_steps)
    for step in steps:
        text = f"{axis} {step:.6g}" if step == 0 else f"{step:.6g}"
        anchor = "end" if step == steps[-1] else "middle"  # a middle one would not be all inside
        plot.labels.append(Label(_LEFT + wide * step / steps[-1], plot.height - _BOTTOM + 18, text, anchor))
    shades = itertools.cycle(PALETTE)
    for each in series:
        shade = next(shades) if each.label else FAINT
        points = tuple(
            (_LEFT + wide * step / steps[-1], plot.height - _BOTTOM - (value - low) * scale)
            for step, value in each.values
        )
        plot.curves.insert(0, Curve(points, shade, each.title))
        if each.label:
            plot.legend.append((shade, each.label))
    return plot


def _range(values: Sequence[float]) -> tuple[float, float]:
    """Return a round number not above all `values`, and the highest of them, or slightly more."""
    low, high = min(values, default=0.0), max(values, default=0.0)
    if low >= 0 and low < high / 2:
        return 0.0, high
    step = ticks(high - low)[1] if high > low else abs(high) / 4 or 1.0
    first = math.floor(low / step) * step
    return first, max(high, first + step)


def _grid(plot: Plot, most: float, unit: str) -> float:
    """Draw the horizontal grid lines, their labels and the unit; return the height of one unit."""
    marks = ticks(most)
    scale = (plot.height - _TOP - _BOTTOM) / marks[-1]
    for mark in marks:
        y = plot.height - _BOTTOM - mark * scale
        plot.lines.append(Line(_LEFT, y, plot.width - _RIGHT, y))
        plot.labels.append(Label(_LEFT - 8, y + 4, f"{mark:,.0f}" if mark >= 1000 else f"{mark:g}"))
    plot.labels.append(Label(0, 11, unit, "start"))
    return scale


def _times(low: int, high: int) -> list[int]:
    """Return four to eight round local times between `low` and `high`."""
    steps = (300, 900, 1800, 3600, 7200, 21600, 43200, _DAY, 2 * _DAY, 7 * _DAY, 14 * _DAY, 30 * _DAY, 90 * _DAY)
    step = next((each for each in steps if (high - low) / each <= 8), 365 * _DAY)
    shift = time.localtime(low).tm_gmtoff
    first = -(-(low + shift) // step) * step - shift
    return list(range(first, high + 1, step))
