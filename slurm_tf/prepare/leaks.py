"""Finds rows of different splits that have the same key: a model would be tested on what it was trained on."""

import csv
import hashlib
import itertools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from slurm_tf.dataset.dataset_manifest import Manifest, Split
from slurm_tf.errors import DatasetError
from slurm_tf.prepare import example_fields, record_file
from slurm_tf.prepare.form import Form

# How many of the keys are named.
_NAMED = 5


@dataclass(frozen=True)
class Leak:
    """Two splits that share `count` keys, of which `keys` are some."""

    splits: tuple[str, str]
    count: int
    keys: tuple[str, ...]


def leaks(folder: str, manifest: Manifest, key: Sequence[str]) -> tuple[Leak, ...]:
    """Return all pairs of splits that share a key, the values of the features `key`.

    All rows are read; 8 bytes of memory are needed for each. Raises DatasetError for a key that is no feature of the
    records, and for damage.
    """
    names = [feature.name for feature in manifest.schema.features if not feature.is_sequence]
    for name in key:
        if name not in names:
            raise DatasetError(f"{name} is not in the records", f"some of {', '.join(names)}", "", folder)
    hashes = {split.name: _hashes(folder, manifest, split, key) for split in manifest.splits}
    found = []
    for first, second in itertools.combinations(manifest.splits, 2):
        common = np.intersect1d(hashes[first.name], hashes[second.name], assume_unique=True)
        if common.size:
            keys = itertools.islice(_named(folder, manifest, first, key, set(common[:_NAMED].tolist())), _NAMED)
            found.append(Leak((first.name, second.name), int(common.size), tuple(sorted(keys))))
    return tuple(found)


def _hashes(folder: str, manifest: Manifest, split: Split, key: Sequence[str]) -> npt.NDArray[np.uint64]:
    keys = (_hash(values) for values in _keys(folder, manifest, split, key))
    return np.unique(np.fromiter(keys, np.uint64))


def _named(folder: str, manifest: Manifest, split: Split, key: Sequence[str], wanted: set[int]) -> Iterator[str]:
    """Yield the keys with the wanted hashes, in words, each once."""
    for values in _keys(folder, manifest, split, key):
        if (found := _hash(values)) in wanted:
            wanted.remove(found)
            yield ", ".join(_words(each, Form(manifest.form)) for each in values)


def _hash(values: Sequence[bytes]) -> int:
    """Return 64 bits of a hash: of a billion keys two have the same one with a chance of three in a hundred."""
    text = b"".join(len(value).to_bytes(8, "little") + value for value in values)
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little")


def _keys(folder: str, manifest: Manifest, split: Split, key: Sequence[str]) -> Iterator[tuple[bytes, ...]]:
    """Yield the key of each row: its serialised features, or its texts."""
    form, names = Form(manifest.form), [name.encode() for name in key]
    for shard in split.shards:
        path = os.path.join(folder, shard.name)
        if not form.is_tfrecord:
            yield from _keys_of_text(path, form, key)
            continue
        with open(path, "rb") as file:
            for record in record_file.records(path, file, form is Form.TFRECORD_GZIP):
                yield tuple(example_fields.feature(record, name) or b"" for name in names)


def _keys_of_text(path: str, form: Form, key: Sequence[str]) -> Iterator[tuple[bytes, ...]]:
    with open(path, encoding="utf-8", newline="") as file:
        rows = csv.DictReader(file) if form is Form.CSV else map(json.loads, file)
        for row in rows:
            yield tuple((row[name] if form is Form.CSV else json.dumps(row[name])).encode() for name in key)


def _words(value: bytes, form: Form) -> str:
    """Return what a person reads of a part of a key."""
    if not form.is_tfrecord:
        return value.decode()
    values = [
        each.decode(errors="replace") if isinstance(each, bytes) else str(each) for each in example_fields.values(value)
    ]
    return values[0] if len(values) == 1 else f"[{', '.join(values)}]"
