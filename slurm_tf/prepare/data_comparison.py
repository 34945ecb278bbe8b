"""Compares the splits of a data set with each other, and a data set with an earlier version of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from slurm_tf.dataset.dataset_manifest import Manifest
from slurm_tf.dataset.statistics import FeatureStatistics
from slurm_tf.prepare import comparison, leaks
from slurm_tf.prepare.comparison import Difference
from slurm_tf.prepare.leaks import Leak

# With which split all others are compared, where there is one of this name.
_TRAIN = "train"
Sample: TypeAlias = tuple[str, Sequence[FeatureStatistics]]


@dataclass(frozen=True)
class SampleComparison:
    """How one sample differs from another one, a split or a version of it; both by their names."""

    before: str
    after: str
    differences: tuple[Difference, ...]


@dataclass(frozen=True)
class DataComparison:
    """All that was compared. `changes`: of the schema and the splits, in words.

    `leaks`: None where they are not known, and `unknown_leaks` says why, or nobody looked for them. `samples`: the
    statistics that were compared.
    """

    samples: tuple[Sample, ...]
    comparisons: tuple[SampleComparison, ...]
    changes: tuple[str, ...] = ()
    leaks: tuple[Leak, ...] | None = None
    unknown_leaks: str = ""


def of_splits(folder: str, manifest: Manifest, key: Sequence[str], quick: bool) -> DataComparison:
    """Compare each split with train, or with the first one, and look for keys that are in two of them.

    `key`: features, in the place of those that the manifest names; `quick`: read no rows. Raises DatasetError.
    """
    names = [split.name for split in manifest.splits]
    first = _TRAIN if _TRAIN in names else names[0]
    compared = tuple(
        SampleComparison(first, name, _differences(manifest, manifest.statistics[first], manifest.statistics[name]))
        for name in names
        if name != first
    )
    samples = tuple((name, manifest.statistics[name]) for name in names)
    unknown = _why_leaks_are_unknown(manifest, key, quick)
    found = None if unknown else leaks.leaks(folder, manifest, key or manifest.key)
    return DataComparison(samples, compared, leaks=found, unknown_leaks=unknown)


def of_versions(earlier: Manifest, manifest: Manifest) -> DataComparison:
    """Compare each split of a data set with that of an earlier version of it."""
    old, new = ({split.name: split for split in each.splits} for each in (earlier, manifest))
    both = [name for name in new if name in old]
    compared = tuple(
        SampleComparison(
            f"{name} earlier",
            f"{name} now",
            _differences(manifest, earlier.statistics[name], manifest.statistics[name]),
        )
        for name in both
    )
    samples = tuple(
        sample
        for name in both
        for sample in ((f"{name} earlier", earlier.statistics[name]), (f"{name} now", manifest.statistics[name]))
    )
    changes = [f"{name}: {old[name].rows:,} rows earlier, {new[name].rows:,} now" for name in both]
    changes += [f"{name}: the split is no longer there" for name in old if name not in new]
    changes += [f"{name}: the split is new" for name in new if name not in old]
    changes += [f"schema: {change}" for change in comparison.schema_changes(earlier.schema, manifest.schema)]
    if earlier.digest == manifest.digest:
        changes = ["the digests are equal: the data is the same"]
    return DataComparison(samples, compared, tuple(changes))


def _differences(
    manifest: Manifest, before: Sequence[FeatureStatistics], after: Sequence[FeatureStatistics]
) -> tuple[Difference, ...]:
    return comparison.differences(manifest.schema, before, after)


def _why_leaks_are_unknown(manifest: Manifest, key: Sequence[str], quick: bool) -> str:
    if quick:
        return "no rows were read, as --quick says"
    if not key and not manifest.key:
        return "the manifest names no key; --key names features"
    known = {feature.name for feature in manifest.schema.features if not feature.is_sequence}
    if not key and not known.issuperset(manifest.key):
        return f"the key {', '.join(manifest.key)} is not in the records; --key names features"
    return ""
