"""What the page shows of prepared data sets: those that runs were given, their manifests, and pictures of samples."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from slurm_tf import units
from slurm_tf.dataset import dataset_manifest, shard_index
from slurm_tf.dataset.dataset_manifest import Manifest, Split
from slurm_tf.dataset.schema import Feature, Kind
from slurm_tf.dataset.statistics import FeatureStatistics
from slurm_tf.errors import DatasetError
from slurm_tf.page import grey_png
from slurm_tf.page.context import PageContext
from slurm_tf.page.run_cache import KnownRuns
from slurm_tf.prepare import example_fields
from slurm_tf.watch import run_params

# How many data sets are offered, samples shown, and values of a feature named; a larger picture is not shown.
_FOLDERS, _SAMPLES, _VALUES, _MOST_BYTES = 50, 12, 12, 1 << 20
# How the files of images begin that a browser shows, and their types; SVG may hold scripts.
_IMAGES = {b"\x89PNG\r\n\x1a\n": "image/png", b"\xff\xd8\xff": "image/jpeg"}
# A record has its length in 8 bytes and a checksum of that in 4 before it, and a checksum in 4 after it.
_BEFORE, _AFTER = 12, 4


@dataclass(frozen=True, slots=True)
class Picture:
    """What a browser shows: the bytes of a file of an image, and their type."""

    content: bytes
    kind: str


def known(runs: KnownRuns) -> list[str]:
    """Return the folders of data sets that params of runs name, newest first, and those in its own folder."""
    found: dict[str, None] = {}
    for points in [*runs.runs.values()][::-1]:
        for value in run_params.of_run(points[0].selected).values():
            if isinstance(value, str) and os.path.isabs(value):
                found.setdefault(value)
    for parent in (os.getcwd(), os.path.join(os.getcwd(), "data")):
        found.update(dict.fromkeys(_folders_in(parent)))
    return [folder for folder in found if _is_data_set(folder)][:_FOLDERS]


def _folders_in(parent: str) -> list[str]:
    try:
        with os.scandir(parent) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir() and not entry.name.startswith("."))[:1000]
    except OSError:
        return []


def _is_data_set(folder: str) -> bool:
    """Return whether a folder has a manifest that is not that of a run."""
    if not os.path.isfile(dataset_manifest.path(folder)):
        return False
    try:
        dataset_manifest.read(folder)
    except DatasetError:
        return False
    return True


class DataSetViews:
    """The views of data sets."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Return the address of each view."""
        return [Route("/data", self.show), Route("/data/sample", self.sample)]

    def show(self, request: Request) -> Response:
        """Show the data sets that are known, or the one of a folder."""
        folder = request.query_params.get("folder", "")
        if not folder:
            found = known(self._context.runs.look())
            return self._context.answer(request, "data_sets", {"title": "Data sets", "folders": found})
        manifest = dataset_manifest.read(folder)
        split = _shown_split(manifest)
        values = {
            "title": os.path.basename(os.path.normpath(folder)),
            "folder": folder,
            "splits": [(each.name, f"{each.rows:,}", units.format_bytes(each.bytes)) for each in manifest.splits],
            "features": [_feature_row(each, manifest) for each in manifest.schema.features],
            "digest": manifest.digest,
            "inputs": list(manifest.inputs.items()),
            "pictured": [
                (feature.name, split.name, range(min(_SAMPLES, split.rows)))
                for feature in manifest.schema.features
                if _is_pictured(feature) and split.rows and manifest.form == ".tfrecord"
            ],
        }
        return self._context.answer(request, "data_set", values)

    def sample(self, request: Request) -> Response:
        """Send the picture of one feature of one row. A file is sent as it is: the browser decodes it."""
        query = request.query_params
        manifest = dataset_manifest.read(query.get("folder", ""))
        number, name = query.get("row", ""), query.get("feature", "")
        feature = next((each for each in manifest.schema.features if each.name == name and _is_pictured(each)), None)
        if feature is None or not (number.isascii() and number.isdigit() and int(number) < _SAMPLES):
            raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such picture")
        picture = _picture(query["folder"], manifest, feature, int(number))
        if picture is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "this is no picture that a browser shows")
        return Response(picture.content, media_type=picture.kind)


def _shown_split(manifest: Manifest) -> Split:
    return next((each for each in manifest.splits if each.name == "train"), manifest.splits[0])


def _is_pictured(feature: Feature) -> bool:
    """Return whether a feature may be an image: a file of one, or its pixels."""
    if feature.is_sequence or None in feature.shape:
        return False
    is_grey = len(feature.shape) == 2 or (len(feature.shape) == 3 and feature.shape[2] in (1, 3))
    return (feature.kind is Kind.BYTES and not feature.shape) or (feature.kind is not Kind.BYTES and is_grey)


def _picture(folder: str, manifest: Manifest, feature: Feature, row: int) -> Picture | None:
    """Return the picture of a row of the first shard that has so many. Raises DatasetError."""
    record = _record(folder, _shown_split(manifest), row)
    found = example_fields.feature(record, feature.name.encode()) if record else None
    values = example_fields.values(found) if found else []
    if feature.kind is Kind.BYTES:
        content = values[0] if values and isinstance(values[0], bytes) else b""
        kind = next((kind for start, kind in _IMAGES.items() if content.startswith(start)), "")
        return Picture(content, kind) if kind and len(content) <= _MOST_BYTES else None
    numbers = [float(each) for each in values]
    known = next(each for each in manifest.statistics[_shown_split(manifest).name] if each.name == feature.name)
    sizes = [size or 0 for size in feature.shape]
    return Picture(grey_png.encode(numbers, sizes, known.minimum or 0.0, known.maximum or 1.0), "image/png")


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


def _feature_row(feature: Feature, manifest: Manifest) -> list[str]:
    """Return the cells of a feature: name, kind, shape, missing values, range, the most frequent values."""
    split = _shown_split(manifest)
    found = next((each for each in manifest.statistics[split.name] if each.name == feature.name), None)
    shape = " x ".join("any" if size is None else str(size) for size in feature.shape) or "one value"
    kind = f"{feature.kind.value}, a sequence" if feature.is_sequence else feature.kind.value
    if found is None:
        return [feature.name, kind, shape, "unknown", "unknown", "unknown"]
    return [feature.name, kind, shape, f"{found.missing:,}", _range(found), ", ".join(_frequent(found))]


def _range(found: FeatureStatistics) -> str:
    return "-" if found.minimum is None else f"{found.minimum:.6g} to {found.maximum:.6g}"


def _frequent(found: FeatureStatistics) -> Iterator[str]:
    """Yield the most frequent values with their numbers."""
    values: Sequence[tuple[str, int]] = found.frequent or ()
    yield from (f"{value} ({count:,})" for value, count in values[:_VALUES])
    if found.distinct is None and values:
        yield "and others"
    elif len(values) > _VALUES:
        yield f"and {len(values) - _VALUES} more"
