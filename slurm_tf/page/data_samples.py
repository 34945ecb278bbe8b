"""The first rows of a prepared data set: their values, and pictures of those that are images."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slurm_tf.dataset import shard_index
from slurm_tf.dataset.dataset_manifest import Manifest, Split
from slurm_tf.dataset.schema import Feature, Kind
from slurm_tf.errors import DatasetError
from slurm_tf.page import grey_png
from slurm_tf.prepare import example_fields

# So many rows of a split are looked at.
MOST = 12
# How the files of images begin that a browser shows, and their types; SVG may hold scripts.
IMAGES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
# A larger picture is not shown, and no larger record is read.
_MOST_BYTES = 1 << 20
# A record has its length in 8 bytes and a checksum of that in 4 before it, and a checksum in 4 after it.
_BEFORE, _AFTER = 12, 4

Values = Sequence[int] | Sequence[float] | Sequence[bytes]


@dataclass(frozen=True, slots=True)
class Picture:
    """What a browser shows: the bytes of a file of an image, and their type."""

    content: bytes
    kind: str


def is_pictured(feature: Feature) -> bool:
    """Return whether a feature may be an image: a file of one, or its pixels."""
    if feature.is_sequence or None in feature.shape:
        return False
    is_grey = len(feature.shape) == 2 or (len(feature.shape) == 3 and feature.shape[2] in (1, 3))
    return (feature.kind is Kind.BYTES and not feature.shape) or (feature.kind is not Kind.BYTES and is_grey)


def values(folder: str, manifest: Manifest, split: Split, row: int) -> Mapping[str, Values]:
    """Return the values of each feature of a row, none where there are not so many rows. Raises DatasetError."""
    record = _record(folder, split, row)
    found = {each.name: example_fields.feature(record, each.name.encode()) for each in manifest.schema.features}
    return {name: example_fields.values(each) for name, each in found.items() if each is not None}


def picture(folder: str, manifest: Manifest, split: Split, feature: Feature, row: int) -> Picture | None:
    """Return the picture of a feature of a row, None for what a browser does not show. Raises DatasetError."""
    found = values(folder, manifest, split, row).get(feature.name, ())
    if feature.kind is Kind.BYTES:
        content = found[0] if found and isinstance(found[0], bytes) else b""
        kind = image_kind(content)
        return Picture(content, kind) if kind and len(content) <= _MOST_BYTES else None
    numbers = [float(each) for each in found]
    known = next(each for each in manifest.statistics[split.name] if each.name == feature.name)
    sizes = [size or 0 for size in feature.shape]
    return Picture(grey_png.encode(numbers, sizes, known.minimum or 0.0, known.maximum or 1.0), "image/png")


def image_kind(content: bytes) -> str:
    """Return the type of a file of an image that a browser shows, by how it begins; "" for another file."""
    return next((kind for start, kind in IMAGES.items() if content.startswith(start)), "")


def _record(folder: str, split: Split, row: int) -> bytes:
    """Return the record of a row, b"" where there are not so many. Raises DatasetError."""
    for shard in split.shards:
        if row >= shard.rows:
            row -= shard.rows
            continue
        path = os.path.join(folder, shard.name)
        starts = shard_index.read(path)
        try:
            with open(path, "rb") as file:
                file.seek(starts[row])
                return file.read(min(starts[row + 1] - starts[row], _MOST_BYTES * 2))[_BEFORE:-_AFTER]
        except OSError as error:
            raise DatasetError(
                f"it cannot be read ({error.strerror})", "a shard of the data set", where=path
            ) from error
    return b""
