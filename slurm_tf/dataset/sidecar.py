"""The sidecar of a shard, written after it: what the shard is, and by which recipe. For Python 3.9."""

from dataclasses import dataclass
from typing import Optional, Tuple

from slurm_tf.dataset import format_json, shard_index
from slurm_tf.dataset.statistics import FeatureStatistics
from slurm_tf.errors import DatasetError


@dataclass(frozen=True)
class ShardSummary:
    """One shard: shard `number` of `count` of a split; `bytes` and `sha256` of its file, `digest` of its rows.

    `recipe`: the hash of all that the rows depend on.
    """

    name: str
    split: str
    number: int
    count: int
    rows: int
    bytes: int
    sha256: str
    digest: str
    recipe: str
    statistics: Tuple[FeatureStatistics, ...]


def path(shard: str) -> str:
    """Return the path of the sidecar of a shard's file."""
    return f"{shard}.json"


def write(shard: str, summary: ShardSummary) -> None:
    """Write the sidecar of a shard's file. Raises OSError."""
    format_json.write(path(shard), summary, shard_index.temporary_prefix(shard))


def read(shard: str) -> Optional[ShardSummary]:
    """Return what `write` wrote; None if there is none, or it is damaged: then the shard counts as not written."""
    try:
        return format_json.read(path(shard), ShardSummary)
    except (FileNotFoundError, DatasetError):
        return None
