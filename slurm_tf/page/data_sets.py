"""What the page shows of prepared data sets: those that runs were given, their manifests, and pictures of samples."""

import os
from collections.abc import Iterator, Sequence
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from slurm_tf import units
from slurm_tf.dataset import dataset_manifest
from slurm_tf.dataset.dataset_manifest import Manifest, Split
from slurm_tf.dataset.schema import Feature
from slurm_tf.dataset.statistics import FeatureStatistics
from slurm_tf.errors import DatasetError
from slurm_tf.page import data_samples
from slurm_tf.page.context import PageContext
from slurm_tf.page.run_cache import KnownRuns
from slurm_tf.watch import run_params

# How many data sets are offered, and values of a feature named.
_FOLDERS, _VALUES = 50, 12


def known(runs: KnownRuns) -> list[str]:
    """Return the folders of data sets that params of runs name, newest first, and those in its own folder."""
    found: dict[str, None] = {}
    for points in [*runs.runs.values()][::-1]:
        for value in run_params.of_run(points[0].selected).values():
            if isinstance(value, str) and os.path.isabs(value):
                found.setdefault(value)
    for parent in (os.getcwd(), os.path.join(os.getcwd(), "data")):
        found.update(dict.fromkeys(_folders_in(parent)))
    return [folder for folder in found if is_data_set(folder)][:_FOLDERS]


def _folders_in(parent: str) -> list[str]:
    try:
        with os.scandir(parent) as entries:
            return sorted(entry.path for entry in entries if entry.is_dir() and not entry.name.startswith("."))[:1000]
    except OSError:
        return []


def is_data_set(folder: str) -> bool:
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
                (feature.name, split.name, range(min(data_samples.MOST, split.rows)))
                for feature in manifest.schema.features
                if data_samples.is_pictured(feature) and split.rows and manifest.form == ".tfrecord"
            ],
        }
        return self._context.answer(request, "data_set", values)

    def sample(self, request: Request) -> Response:
        """Send the picture of one feature of one row. A file is sent as it is: the browser decodes it."""
        query = request.query_params
        manifest = dataset_manifest.read(query.get("folder", ""))
        number, name = query.get("row", ""), query.get("feature", "")
        split = manifest.split(query["split"]) if "split" in query else _shown_split(manifest)
        feature = next(
            (each for each in manifest.schema.features if each.name == name and data_samples.is_pictured(each)), None
        )
        if feature is None or number not in map(str, range(data_samples.MOST)):
            raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such picture")
        picture = data_samples.picture(query["folder"], manifest, split, feature, int(number))
        if picture is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "this is no picture that a browser shows")
        return Response(picture.content, media_type=picture.kind)


def _shown_split(manifest: Manifest) -> Split:
    return next((each for each in manifest.splits if each.name == "train"), manifest.splits[0])


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
