"""The HTML pages of statistics and of comparisons: a table, and a plot of each feature with all samples in it."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.dataset.statistics import FeatureStatistics
from slurm_tf.plots import charts, html_page
from slurm_tf.plots.charts import PALETTE, Plot, Series
from slurm_tf.prepare import statistics_rows
from slurm_tf.prepare.data_comparison import DataComparison, Sample

# How many categories a plot has, and of how many features there are any.
_CATEGORIES, _PLOTS = 10, 200
# How many characters of a label fit beside a bar.
_LABEL = 25
# The columns that hold words, which stand at the left of their cells.
_WORDS = ("SPLIT", "SPLITS", "FEATURE", "MEASURE", "STATE", "MOST FREQUENT", "NEW VALUES")


def write_statistics(path: Path, folder: str, schema: Schema, samples: Sequence[Sample]) -> None:
    """Write a page with the statistics of samples, such as splits. Raises UsageError."""
    rows = statistics_rows.statistics(samples)
    _write(path, f"Statistics of {folder}", (), statistics_rows.STATISTICS, rows, schema, samples)


def write_comparison(path: Path, folder: str, schema: Schema, found: DataComparison) -> None:
    """Write a page that shows how samples differ; those that differ come first. Raises UsageError."""
    different = {each.name for one in found.comparisons for each in one.differences if each.differs}
    ordered = Schema(tuple(sorted(schema.features, key=lambda feature: feature.name not in different)))
    lines, rows = statistics_rows.lines(found), statistics_rows.differences(found)
    _write(path, f"Comparison of {folder}", lines, statistics_rows.DIFFERENCES, rows, ordered, found.samples)


def _write(
    path: Path,
    title: str,
    lines: Sequence[str],
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    schema: Schema,
    samples: Sequence[Sample],
) -> None:
    plots = [plot for feature in schema.features if (plot := _plot(feature, samples))]
    values = {
        "title": title,
        "lines": lines,
        "heads": heads,
        "words": _WORDS,
        "rows": list(rows),
        "plots": plots[:_PLOTS],
        "left_out": len(plots[_PLOTS:]),
    }
    html_page.write(path, Path(__file__).with_name("data.html.j2"), values)


def _plot(feature: Feature, samples: Sequence[Sample]) -> Plot | None:
    """Return the plot of a feature: of its categories, else of its numbers or lengths; None if neither is known."""
    of_feature = [(name, each) for name, sample in samples for each in sample if each.name == feature.name]
    texts_are_known = all(each.frequent for _, each in of_feature)
    are_all = all(each.distinct is not None for _, each in of_feature)
    if of_feature and texts_are_known and (are_all or feature.kind is Kind.BYTES):
        return _categories(feature, of_feature)
    known = [(name, each) for name, each in of_feature if each.quantiles]
    return _quantiles(feature, known) if known else None


def _categories(feature: Feature, samples: Sequence[tuple[str, FeatureStatistics]]) -> Plot:
    """Return bars of the shares of the most frequent values, one for each sample."""
    counts: dict[str, int] = {}
    for _, each in samples:
        for value, count in each.frequent or ():
            counts[value] = counts.get(value, 0) + count
    first = sorted(counts, key=lambda value: (-counts[value], value))[:_CATEGORIES]
    rows = [
        (
            f"{statistics_rows.shown(value)}, {name}"[:_LABEL],
            100 * dict(each.frequent or ()).get(value, 0) / each.values,
            PALETTE[at % len(PALETTE)],
        )
        for value in first
        for at, (name, each) in enumerate(samples)
    ]
    words = f"{feature.name}: share of the values" + (f", the first {_CATEGORIES}" if len(counts) > len(first) else "")
    return charts.ranked(rows, "%", words)


def _quantiles(feature: Feature, samples: Sequence[tuple[str, FeatureStatistics]]) -> Plot:
    """Return a curve for each sample: below which value each percentage of the values lies."""
    what = "length in bytes" if feature.kind is Kind.BYTES else "value"
    series = [Series(name, name, list(enumerate(each.quantiles))) for name, each in samples]
    return charts.curves(series, f"{feature.name}: the {what} that so many percent do not exceed", "percent")
