"""Compares the files of a data set with its manifest: sizes, sums, each record, its place in the index."""

import csv
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from slurm_tf import files
from slurm_tf.dataset import dataset_manifest, record_frame, shard_index
from slurm_tf.dataset.dataset_manifest import Manifest, Shard
from slurm_tf.errors import DatasetError
from slurm_tf.prepare import digests, example_fields, record_file
from slurm_tf.prepare.form import Form


@dataclass(frozen=True)
class Damage:
    """What is wrong with one file of a data set."""

    file: str
    found: str
    needed: str


def damages(folder: str, manifest: Manifest, quick: bool = False) -> Iterator[Damage]:
    """Yield what is wrong with the files of a data set, of each file the first thing; `quick`: by names and sizes."""
    shards = [shard for split in manifest.splits for shard in split.shards]
    for shard in shards:
        found = _size_damage(folder, manifest, shard)
        if not found and not quick:
            found = _shard_damage(folder, manifest, shard)
        if found:
            yield found
    for name, sha256 in manifest.assets.items():
        path = os.path.join(folder, dataset_manifest.ASSETS, name)
        if not os.path.isfile(path):
            yield Damage(path, "the file is missing", "the asset that the manifest names")
        elif not quick and files.sha256(path) != sha256:
            yield Damage(path, "the file was changed", f"the SHA-256 {sha256}")
    known = {shard.name for shard in shards}
    for name in sorted(os.listdir(folder)):
        if name.endswith(manifest.form) and name not in known:
            needed = "the shards of the manifest alone: programs that look for files would read it"
            yield Damage(os.path.join(folder, name), "the file is no shard of the data set", needed)
    digest = digests.of_data_set(manifest.splits)
    if digest != manifest.digest:
        yield Damage(dataset_manifest.path(folder), f"the digest is {manifest.digest}", f"that of its shards, {digest}")


def _size_damage(folder: str, manifest: Manifest, shard: Shard) -> Damage | None:
    """Return what is wrong with the size of a shard or of its index."""
    path = os.path.join(folder, shard.name)
    sizes = {path: shard.bytes}
    if manifest.form == Form.TFRECORD.value:
        sizes[shard_index.path(path)] = shard_index.size(shard.rows)
    for file, size in sizes.items():
        try:
            status = os.stat(file)
        except OSError as error:
            return Damage(file, error.strerror or "the file cannot be read", f"a file of {size} bytes")
        if not stat.S_ISREG(status.st_mode) or status.st_size != size:
            return Damage(file, f"the file has {status.st_size} bytes", f"{size} bytes")
    return None


def _shard_damage(folder: str, manifest: Manifest, shard: Shard) -> Damage | None:
    """Return what is wrong with the content of a shard: where it is, if its records tell that."""
    path, form = os.path.join(folder, shard.name), Form(manifest.form)
    try:
        found = _records(path, manifest, form) if form.is_tfrecord else _lines(path, form)
        sha256 = files.sha256(path)
    except DatasetError as error:
        return Damage(error.where or path, error.found, error.needed)
    except OSError as error:
        return Damage(path, error.strerror or str(error), "a file that can be read")
    if found.rows != shard.rows:
        return Damage(path, f"the file has {found.rows} rows", f"{shard.rows}")
    if found.digest not in (shard.digest, None):
        return Damage(path, f"the digest of the rows is {found.digest}", shard.digest)
    return Damage(path, f"the SHA-256 of the file is {sha256}", shard.sha256) if sha256 != shard.sha256 else None


@dataclass(frozen=True)
class _Content:
    """What a shard's file has; `digest`: None if it cannot be computed from text."""

    rows: int
    digest: str | None


def _records(path: str, manifest: Manifest, form: Form) -> _Content:
    """Return what is in a file of records, each of which is where the index says. Raises DatasetError and OSError."""
    starts = shard_index.read(path) if form is Form.TFRECORD else None
    left_out = {name.encode() for name in manifest.unreproducible}
    rows = at = 0
    digest = digests.RowsDigest()
    with open(path, "rb") as file:
        for record in record_file.records(path, file, form is Form.TFRECORD_GZIP):
            if starts and starts[rows] != at:
                found = f"the index says that record {rows} begins at byte {starts[rows]}"
                raise DatasetError(found, f"byte {at}, where it does", where=shard_index.path(path))
            digest.add(example_fields.without(record, left_out) if left_out else record)
            rows, at = rows + 1, at + record_frame.FRAME + len(record)
    return _Content(rows, digest.value)


def _lines(path: str, form: Form) -> _Content:
    """Return how many rows a file of text has. Raises DatasetError and OSError."""
    with open(path, encoding="utf-8", newline="") as file:
        try:
            rows = sum(1 for _ in csv.reader(file)) - 1 if form is Form.CSV else sum(1 for _ in file)
        except (UnicodeDecodeError, csv.Error) as error:
            raise DatasetError(f"the text cannot be read ({error})", "rows as they were written", where=path) from error
    return _Content(rows, None)
