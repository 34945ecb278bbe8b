"""The manifest of a data set: manifest.json in its folder, whose presence is the commit. For Python 3.9."""

import os
import re
from dataclasses import dataclass
from typing import Mapping, Tuple

from slurm_tf.dataset import format_json
from slurm_tf.dataset.schema import Schema
from slurm_tf.dataset.statistics import FeatureStatistics
from slurm_tf.errors import DatasetError

NAME, ASSETS = "manifest.json", "assets"
# Names of files lead to no other folder, and can be typed in a shell.
_FILE = re.compile(r"\w[\w.+-]*", re.ASCII)


@dataclass(frozen=True)
class Shard:
    """One file of records: `bytes` and `sha256` of the file, `digest` of its rows."""

    name: str
    rows: int
    bytes: int
    sha256: str
    digest: str


@dataclass(frozen=True)
class Split:
    """A part of the data set, such as train or test: its shards in the order of their numbers."""

    name: str
    shards: Tuple[Shard, ...]

    @property
    def rows(self) -> int:
        """The rows of all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def bytes(self) -> int:
        """The bytes of all shards."""
        return sum(shard.bytes for shard in self.shards)


@dataclass(frozen=True)
class Manifest:
    """What a data set is, and what it was made from.

    `form`: the end of the names of the shards' files, such as .tfrecord. `digest`: of the rows of all splits; the same
    rows have the same digest in any form. `recipe`: the hash of all that the rows depend on but the inputs.
    `key`: the columns whose values decide in which split a row is. `inputs`: the fingerprint of each source.
    `assets`: the SHA-256 of each file in the folder assets. `unreproducible`: features that the digest leaves out.
    `statistics`: those of each split.
    """

    form: str
    schema: Schema
    splits: Tuple[Split, ...]
    digest: str
    recipe: str
    key: Tuple[str, ...]
    inputs: Mapping[str, str]
    versions: Mapping[str, str]
    assets: Mapping[str, str]
    unreproducible: Tuple[str, ...]
    statistics: Mapping[str, Tuple[FeatureStatistics, ...]]

    def split(self, name: str) -> Split:
        """Return a split. Raises DatasetError for a name that there is not."""
        for split in self.splits:
            if split.name == name:
                return split
        raise DatasetError(f"found the split {name}", f"one of {', '.join(split.name for split in self.splits)}")


def path(folder: str) -> str:
    """Return the path of the manifest of a data set."""
    return os.path.join(folder, NAME)


def read(folder: str) -> Manifest:
    """Return the manifest of the data set in `folder`. Raises DatasetError."""
    try:
        manifest = format_json.read(path(folder), Manifest)
    except FileNotFoundError as error:
        found = f"there is no {NAME}" if os.path.isdir(folder) else "there is no such folder"
        do = "a data set has it once its preparation has ended"
        raise DatasetError(found, "the folder of a data set", do, folder) from error
    except OSError as error:
        raise DatasetError(f"{NAME} cannot be read ({error.strerror})", "one that can be", where=folder) from error
    names = [*(shard.name for split in manifest.splits for shard in split.shards), *manifest.assets]
    for name in [*names, *(split.name for split in manifest.splits)]:
        if not _FILE.fullmatch(name):
            raise DatasetError(f"found the name {name!r}", "one of letters, digits, _ . + -", where=path(folder))
    return manifest


def write(folder: str, manifest: Manifest) -> None:
    """Write the manifest, which is the last file of a data set. Raises OSError."""
    format_json.write(path(folder), manifest)
