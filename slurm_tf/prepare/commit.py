"""Ends a preparation: the manifest is made of what is known of all shards, and written last."""

from collections.abc import Mapping, Sequence

from slurm_tf import files
from slurm_tf.dataset import dataset_manifest
from slurm_tf.dataset.dataset_manifest import Manifest, Shard, Split
from slurm_tf.dataset.schema import Schema
from slurm_tf.dataset.sidecar import ShardSummary
from slurm_tf.prepare import digests, row_statistics
from slurm_tf.prepare.form import Form


def manifest_of(
    summaries: Sequence[ShardSummary],
    form: Form,
    schema: Schema,
    key: Sequence[str],
    inputs: Mapping[str, str],
    versions: Mapping[str, str],
    assets: Mapping[str, str],
    unreproducible: Sequence[str] = (),
) -> Manifest:
    """Return the manifest of a data set with these shards, of one recipe; splits are in the order of the shards."""
    shards: dict[str, list[ShardSummary]] = {}
    for summary in sorted(summaries, key=lambda summary: summary.number):
        shards.setdefault(summary.split, []).append(summary)
    splits = tuple(
        Split(name, tuple(Shard(each.name, each.rows, each.bytes, each.sha256, each.digest) for each in shards[name]))
        for name in dict.fromkeys(summary.split for summary in summaries)
    )
    statistics = {name: row_statistics.merged([each.statistics for each in parts]) for name, parts in shards.items()}
    (recipe,) = {summary.recipe for summary in summaries}
    return Manifest(
        form.value, schema, splits, digests.of_data_set(splits), recipe, tuple(key), inputs, versions, assets,
        tuple(unreproducible), statistics,
    )  # fmt: skip


def commit(folder: str, manifest: Manifest) -> None:
    """Write the manifest into the folder: from then on it is a data set. Raises StorageError."""
    with files.explained("write the manifest", dataset_manifest.path(folder)):
        dataset_manifest.write(folder, manifest)
