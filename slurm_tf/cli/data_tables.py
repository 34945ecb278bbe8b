"""What the verbs of data print for people: manifests, damage, statistics, differences."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from slurm_tf.cli import tables, text_table
from slurm_tf.dataset.dataset_manifest import Manifest
from slurm_tf.prepare import statistics_rows
from slurm_tf.prepare.comparison import type_words
from slurm_tf.prepare.data_comparison import DataComparison, Sample
from slurm_tf.prepare.verification import Damage

_MORE = "--json has all"
# Of the names before the values of a manifest.
_NAME_WIDTH = 9
_NUMBERS = ("SHARDS", "ROWS", "SIZE", "MISSING", "MIN", "MEDIAN", "MEAN", "MAX", "DISTINCT", "VALUE", "LIMIT")


def manifest(folder: str, found: Manifest) -> str:
    """Return what a data set is: where it came from, its splits, its features."""
    rows = [
        ("Folder", folder),
        ("Form", found.form),
        ("Digest", found.digest),
        ("Left out", ", ".join(found.unreproducible)),
        ("Recipe", found.recipe),
        ("Key", ", ".join(found.key)),
        *(("Input", f"{name}  {fingerprint}") for name, fingerprint in found.inputs.items()),
        ("Made with", ", ".join(f"{name} {version}" for name, version in found.versions.items())),
        ("Assets", ", ".join(found.assets)),
    ]
    splits = [
        [each.name, str(len(each.shards)), f"{each.rows:,}", tables.size_text(each.bytes)] for each in found.splits
    ]
    features = [
        [each.name, type_words(each), "-" if each.default is None else repr(each.default)]
        for each in found.schema.features
    ]
    parts = [
        text_table.summary([row for row in rows if row[1]], _NAME_WIDTH),
        text_table.table(("SPLIT", "SHARDS", "ROWS", "SIZE"), splits, right=_NUMBERS),
        text_table.table(("FEATURE", "TYPE", "DEFAULT"), features, names=("FEATURE", "TYPE", "DEFAULT")),
    ]
    return "\n".join(parts)


def damages(folder: str, found: Manifest, damage: Sequence[Damage], quick: bool) -> str:
    """Return what is wrong with each file, or that all are whole."""
    if damage:
        rows = [[each.file, each.found, each.needed] for each in damage]
        return text_table.table(("FILE", "WHY", "NEEDED"), rows, ("NEEDED",), _MORE, names=("FILE", "NEEDED"))
    shards = [shard for split in found.splits for shard in split.shards]
    amount = f"{len(shards)} shards, {sum(shard.rows for shard in shards):,} rows"
    size = tables.size_text(sum(shard.bytes for shard in shards))
    what = "names and sizes are those of the manifest; no file was read" if quick else "whole"
    return text_table.sentences([f"{folder}: {amount}, {size}: {what}"])


def statistics(samples: Sequence[Sample]) -> str:
    """Return a table with a line for each feature of each split."""
    return text_table.table(
        statistics_rows.STATISTICS, list(statistics_rows.statistics(samples)),
        ("DISTINCT", "MOST FREQUENT", "MEDIAN"), _MORE, names=("FEATURE", "MOST FREQUENT"), right=_NUMBERS,
    )  # fmt: skip


def comparison(found: DataComparison) -> str:
    """Return a table of differences, and what else changed or leaks."""
    rows = list(statistics_rows.differences(found))
    table = ""
    if rows:
        table = text_table.table(
            statistics_rows.DIFFERENCES, rows, ("NEW VALUES", "LIMIT", "MEASURE"), _MORE,
            names=("SPLITS", "FEATURE", "NEW VALUES"), right=_NUMBERS,
        )  # fmt: skip
    return table + text_table.sentences(statistics_rows.lines(found))


def comparison_as_dict(found: DataComparison) -> dict[str, Any]:
    """Return a comparison for --json; None: unknown."""
    comparisons = [
        {
            "before": each.before,
            "after": each.after,
            "features": [{**dataclasses.asdict(feature), "differs": feature.differs} for feature in each.differences],
        }
        for each in found.comparisons
    ]
    leaks = None if found.leaks is None else [dataclasses.asdict(leak) for leak in found.leaks]
    return {"changes": found.changes, "comparisons": comparisons, "leaks": leaks, "why_unknown": found.unknown_leaks}
