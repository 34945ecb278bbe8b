"""The digest of a data set: it names the rows of all splits, in any form and compression, on any machine.

A shard's digest is the SHA-256 of the records of its rows, each after its length in 8 bytes, little-endian. That of the
data set is the SHA-256 of a line for each shard: its split, its number and its digest, as a list in JSON.
"""

import hashlib
import json
from collections.abc import Sequence

from slurm_tf.dataset.dataset_manifest import Split


class RowsDigest:
    """The digest of a shard, whose records are added one after the other."""

    def __init__(self) -> None:
        self._sum = hashlib.sha256()

    def add(self, record: bytes) -> None:
        """Add the next record."""
        self._sum.update(len(record).to_bytes(8, "little"))
        self._sum.update(record)

    def add_with_lengths(self, records: memoryview) -> None:
        """Add records, each of which stands after its length already."""
        self._sum.update(records)

    @property
    def value(self) -> str:
        """The digest of what was added."""
        return self._sum.hexdigest()


def of_data_set(splits: Sequence[Split]) -> str:
    """Return the digest of a data set, which does not depend on the order of the splits."""
    digest = hashlib.sha256()
    for split in sorted(splits, key=lambda split: split.name):
        for number, shard in enumerate(split.shards):
            digest.update(json.dumps([split.name, number, shard.digest]).encode() + b"\n")
    return digest.hexdigest()
