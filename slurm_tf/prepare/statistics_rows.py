"""The cells of tables of statistics and differences, for the terminal and for pages; "-" is what is not known."""

from collections.abc import Iterator, Sequence

from slurm_tf.dataset.statistics import QUANTILES
from slurm_tf.prepare.comparison import LIMITS, Difference
from slurm_tf.prepare.data_comparison import DataComparison, Sample

STATISTICS = ("SPLIT", "FEATURE", "MISSING", "MIN", "MEDIAN", "MEAN", "MAX", "DISTINCT", "MOST FREQUENT")
DIFFERENCES = ("SPLITS", "FEATURE", "MEASURE", "VALUE", "LIMIT", "MISSING", "STATE", "NEW VALUES")
# How many of the most frequent values a cell has, and how much of each.
_VALUES, _LONGEST = 3, 16
# By whether a feature differs: its place in the table, and what it says.
_ORDER = {True: 0, None: 1, False: 2}
_WORDS = {True: "differs", None: "unknown", False: "alike"}


def statistics(samples: Sequence[Sample]) -> Iterator[list[str]]:
    """Yield a row of STATISTICS for each feature of each sample."""
    for name, features in samples:
        for each in features:
            median = each.quantiles[QUANTILES // 2] if each.quantiles else None
            numbers = (each.minimum, median, each.mean, each.maximum)
            frequent = (
                f"{shown(value)} {share(count, each.values)}" for value, count in (each.frequent or ())[:_VALUES]
            )
            yield [
                name, each.name, share(each.missing, each.rows), *map(number, numbers),
                "-" if each.distinct is None else str(each.distinct), ", ".join(frequent) or "-",
            ]  # fmt: skip


def differences(found: DataComparison) -> Iterator[list[str]]:
    """Yield a row of DIFFERENCES for each feature of each two samples, those that differ first."""
    for each in found.comparisons:
        for feature in sorted(each.differences, key=lambda feature: _ORDER[feature.differs]):
            yield [f"{each.before}, {each.after}", *_difference(feature)]


def lines(found: DataComparison) -> list[str]:
    """Return what changed and what leaks, in sentences."""
    said = [f"{change}." for change in found.changes]
    for leak in found.leaks or ():
        keys = ", ".join(map(shown, leak.keys))
        more = ", and others" if leak.count > len(leak.keys) else ""
        said.append(f"Leak: {leak.count} keys are in {leak.splits[0]} and in {leak.splits[1]}: {keys}{more}.")
    if found.leaks == ():
        said.append("No key is in two splits.")
    return [*said, *([f"Leaks are unknown: {found.unknown_leaks}."] if found.unknown_leaks else [])]


def _difference(feature: Difference) -> list[str]:
    before, after = feature.missing
    missing = f"{before:.1%}, {after:.1%}" if before or after else "0%"
    limit = None if feature.measure is None else LIMITS[feature.measure] + (feature.chance or 0)
    return [
        feature.name, feature.measure.value if feature.measure else "-", number(feature.value), number(limit), missing,
        _WORDS[feature.differs], ", ".join(map(shown, feature.new_values)) or "-",
    ]  # fmt: skip


def number(value: float | None) -> str:
    """Return a number with four digits, an integer below a million whole."""
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) and abs(value) < 10**6 else f"{value:.4g}"


def share(count: int, total: int) -> str:
    """Return a share in percent; "-" of nothing."""
    if not total:
        return "-"
    return "0%" if not count else f"{count / total:.1%}"


def shown(value: str) -> str:
    """Return a value that is bytes or an integer, so that it cannot move a cursor, and not all of a long one."""
    text = "".join(character if character.isprintable() else "?" for character in value) or "''"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
