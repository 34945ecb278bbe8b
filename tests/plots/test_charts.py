"""Plots: round marks, and shapes that are where they belong."""

import pytest

from slurm_tf.plots import charts
from slurm_tf.plots.charts import NARROW, WIDE, Layer, Series, Span

# of a metric: far from 0, around it, all the same, tiny, one, none
LAYERS = [Layer("a", "A", "red"), Layer("", "unknown", charts.UNKNOWN)]
VALUES: tuple[list[float], ...] = ([0.91, 0.97, 0.93], [-3.0, 4.5], [7.0] * 3, [1e-9, 3e-9], [0.0], [1e9], [])


@pytest.mark.parametrize("most", [0.0, 0.013, 1.0, 7.0, 99.0, 650.0, 1e7])
def test_ticks_are_round_and_few(most: float) -> None:
    marks = charts.ticks(most)
    assert marks[0] == 0
    assert marks[-1] >= most
    assert 2 <= len(marks) <= 6


@pytest.mark.parametrize("width", [WIDE, NARROW])
def test_shapes_are_inside(width: int) -> None:
    days = [(f"day {number}", {"a": number * 1.5, "": 2.0}) for number in range(90)]
    spans = [
        Span(f"job {number}", number * 50, number * 60, number * 60 + 500, "failed", "red", 10, 20)
        for number in range(99)
    ]
    for plot in (
        charts.stacked(days, LAYERS, "h", "w", width), charts.shares([1.0] * 11, "h", "w", "red"),
        charts.ranked([("out of memory", 3.0, "red"), ("y", 123456.0, "red")], "GPU-hours", "w", width),
        charts.counts([0, 3, 12], ["1 min", "1 h"], "starts", "w", "red", width), charts.timeline(spans, "w", width),
        *(charts.curves([Series("a", "a", list(enumerate(values)))], "w") for values in VALUES),
    ):  # fmt: skip
        for bar in plot.bars:
            assert 0 <= bar.x <= bar.x + bar.width <= plot.width + 1
            assert 0 <= bar.y <= bar.y + bar.height <= plot.height + 1
        for label in plot.labels:
            assert 0 <= label.x <= plot.width
            # none is clipped: at its left, in its middle, at its right
            length = 6.2 * len(label.text)
            left = {"start": 0.0, "middle": length / 2, "end": length}[label.anchor]
            assert -3 <= label.x - left <= label.x - left + length <= plot.width + 3, label
            assert 0 <= label.y <= plot.height
        for x, y in (point for curve in plot.curves for point in curve.points):
            assert 0 <= x <= plot.width
            assert 0 <= y <= plot.height
    stacked = charts.stacked(days, LAYERS, "h", "w", width)
    (first, other) = [bar for bar in stacked.bars if bar.title.startswith("day 89,")]
    assert first.height / other.height == pytest.approx(89 * 1.5 / 2.0)
    assert other.y + other.height == pytest.approx(first.y)


def test_curves_have_a_scale_of_their_own_and_the_first_lie_on_top() -> None:
    first, other = Series("a", "of a", [(100, 0.9), (200, 0.95)]), Series("", "of b", [(100, 0.92), (200, 0.94)])
    plot = charts.curves([first, other], "accuracy")
    assert [(curve.title, curve.colour) for curve in plot.curves] == [
        ("of b", charts.FAINT), ("of a", charts.PALETTE[0]),
    ]  # fmt: skip
    assert plot.legend == [(charts.PALETTE[0], "a")]
    assert [label.text for label in plot.labels] == [
        "0.9", "0.92", "0.94", "0.96", "step 0", "50", "100", "150", "200",
    ]  # fmt: skip
    (x0, y0), (x1, y1) = plot.curves[1].points
    assert (x0 < x1, y0 > y1) == (True, True)
    assert plot.curves[1].path == f"{x0:.1f},{y0:.1f} {x1:.1f},{y1:.1f}"
