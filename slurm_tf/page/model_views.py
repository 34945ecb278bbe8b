"""The views of models: those that runs have exported, their versions, what was measured, and which one is served."""

import hashlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from slurm_tf.errors import ModelError, RunError
from slurm_tf.models import model_manifest, model_versions, serving_file
from slurm_tf.models.model_manifest import ModelManifest, TensorSpec
from slurm_tf.models.model_versions import Version
from slurm_tf.models.serving_file import Serving
from slurm_tf.page.context import PageContext
from slurm_tf.run import settings
from slurm_tf.run.folder import RunFolder
from slurm_tf.watch import results_rows

# Of so many runs, the newest, it is looked at where they export.
_RUNS = 500


@dataclass(frozen=True, slots=True)
class ModelRow:
    """One model of the list. `served`: the version that answers requests which name none, "-" for none."""

    key: str
    base: str
    newest: str
    served: str
    metrics: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version. `number`: None for one that cannot be promoted."""

    name: str
    written: str
    step: str
    run: str
    metrics: str
    words: str
    number: int | None = None


class ModelViews:
    """The views of models."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Return the address of each view."""
        return [
            Route("/models", self.list_models),
            Route("/models/{key}", self.show),
            Route("/models/{key}/promote", self.promote, methods=["POST"]),
        ]

    def list_models(self, request: Request) -> Response:
        """Show the models that the user's runs have exported."""
        rows = [_model_row(base) for base in self._bases()]
        return self._context.answer(request, "models", {"title": "Models", "rows": rows})

    def show(self, request: Request) -> Response:
        """Show the versions of a model."""
        base = self._base(request)
        serving = serving_file.read(base)
        found = list(model_versions.listed(base))
        whole = [each for _, _, each in found if isinstance(each, Version)]
        default = serving.default(each.number for each in whole)
        values = {
            "title": f"Model {_name(base)}",
            "key": _key(base),
            "base": base,
            "versions": [_version_row(each, serving, default) for each in whole],
            "rejected": [_rejected_row(number, path) for number, path in model_versions.rejected(base)],
            "left_out": [f"{path}: {each}" for _, path, each in found if isinstance(each, str)],
            "signatures": list(_signature_rows(whole[0].manifest)) if whole and whole[0].manifest else [],
        }
        return self._context.answer(request, "model", values)

    def promote(self, request: Request) -> Response:
        """Have a version answer requests that name none, as `slurm-tf serve promote` does."""
        base = self._base(request)
        text = request.state.form.get("version", "")
        if not (text.isascii() and text.isdigit() and len(text) < 20):
            raise HTTPException(HTTPStatus.BAD_REQUEST, "needed the number of a version")
        version = model_versions.find(base, int(text))
        model_versions.check_own(base)
        serving = serving_file.read(base)
        is_canary = serving.canary is not None and serving.canary.version == version.number
        serving_file.write(
            base, replace(serving, promoted=version.number, canary=None if is_canary else serving.canary)
        )
        words = f"Version {version.number} answers requests that name no version, within seconds where it is served"
        self._context.sessions.put_note(request.state.cookie, words)
        return RedirectResponse(f"{request.scope['root_path']}/models/{_key(base)}", HTTPStatus.SEE_OTHER)

    def _base(self, request: Request) -> str:
        """Return the folder of the model that an address names: only one that the list has. Raises HTTPException."""
        found = next((base for base in self._bases() if _key(base) == request.path_params["key"]), None)
        if found is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such model; the list has all that there are")
        return found

    def _bases(self) -> list[str]:
        """Return the folders of models, those of the newest runs first."""
        runs = [points[0].selected.run for points in self._context.runs.look().runs.values()][::-1][:_RUNS]
        found = dict.fromkeys(base for run in runs for base in _bases_of(run))
        return [base for base in found if _has_versions(base)]


def _bases_of(run: RunFolder) -> Iterator[str]:
    """Yield the folders to which a run exports: its own, and that of [export] in its job file."""
    yield run.exports
    submissions = run.submissions
    if not submissions:
        return
    try:
        to = settings.read_settings(submissions[-1]).train.export.to
    except (RunError, OSError):
        return
    if to:
        yield to


def _has_versions(base: str) -> bool:
    try:
        return bool(model_versions.numbered(base) or model_versions.rejected(base))
    except OSError:
        return False


def _key(base: str) -> str:
    return hashlib.sha256(os.fsencode(base)).hexdigest()[:12]


def _name(base: str) -> str:
    """Return the name of a model: its folder's, or that of the run whose folder of exports it is."""
    folder, name = os.path.split(base)
    return os.path.basename(folder) if name == "export" else name


def _model_row(base: str) -> ModelRow:
    key, name = _key(base), _name(base)
    try:
        whole = model_versions.versions(base)
        served = serving_file.read(base).default(each.number for each in whole)
    except (ModelError, OSError) as error:
        return ModelRow(key, name, "-", "-", "", str(error))
    newest = whole[0] if whole else None
    metrics = _metrics(newest.manifest) if newest else ""
    return ModelRow(key, name, str(newest.number) if newest else "-", "-" if served is None else str(served), metrics)


def _metrics(manifest: ModelManifest | None) -> str:
    if manifest is None:
        return "unknown"
    return ", ".join(f"{name} {results_rows.number(value)}" for name, value in manifest.metrics.items()) or "-"


def _version_row(version: Version, serving: Serving, default: int | None) -> VersionRow:
    """Return the line of a whole version."""
    words = ["answers requests that name no version"] if version.number == default else []
    words += [f"label {name}" for name, number in serving.labels.items() if number == version.number]
    if serving.canary and serving.canary.version == version.number:
        words.append(f"answers {serving.canary.percent:g}% of the requests that name no version")
    row = _row(version.number, version.manifest, "; ".join(words))
    return replace(row, number=None if version.number == serving.promoted else version.number)


def _rejected_row(number: int, path: str) -> VersionRow:
    """Return the line of a version that is kept aside."""
    try:
        manifest = model_manifest.read(path)
    except (ModelError, OSError) as error:
        return _row(number, None, str(error))
    return _row(number, manifest, manifest.rejected if manifest else "it is not known why")


def _row(number: int, manifest: ModelManifest | None, words: str) -> VersionRow:
    if manifest is None:
        return VersionRow(str(number), "unknown", "unknown", "unknown", "unknown", words)
    step = "unknown" if manifest.step is None else str(manifest.step)
    return VersionRow(str(number), manifest.written, step, manifest.run, _metrics(manifest), words)


def _signature_rows(manifest: ModelManifest) -> Iterator[list[str]]:
    """Yield the cells of each tensor that a client sends or gets."""
    for name, signature in manifest.signatures.items():
        for what, tensors in (("input", signature.inputs), ("output", signature.outputs)):
            yield from ([name, what, tensor, spec.dtype, _shape(spec)] for tensor, spec in tensors.items())


def _shape(spec: TensorSpec) -> str:
    if spec.shape is None:
        return "of any rank"
    return " x ".join("any" if size is None else str(size) for size in spec.shape) or "one value"
