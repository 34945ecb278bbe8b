"""The views of models: those that runs have exported, their versions, what was measured, and which one is served."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from slurm_tf.errors import ModelError
from slurm_tf.models import model_manifest, model_versions, served_versions, serving_file
from slurm_tf.models.model_manifest import ModelManifest, TensorSpec
from slurm_tf.models.model_versions import Version
from slurm_tf.models.serving_file import Serving
from slurm_tf.page import known_models, known_services
from slurm_tf.page.context import PageContext
from slurm_tf.watch import results_rows


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
            Route("/models/{key}/rollback", self.rollback, methods=["POST"]),
            Route("/models/{key}/canary", self.canary, methods=["POST"]),
            Route("/models/{key}/label", self.label, methods=["POST"]),
        ]

    def list_models(self, request: Request) -> Response:
        """Show the models that the user's runs have exported."""
        known = self._context.runs.look()
        values = {
            "title": "Models",
            "rows": [_model_row(base) for base in known_models.bases(known)],
            "services": known_services.living(known),
        }
        return self._context.answer(request, "models", values)

    def show(self, request: Request) -> Response:
        """Show the versions of a model."""
        base = known_models.find(self._context, request)
        serving = serving_file.read(base)
        found = list(model_versions.listed(base))
        whole = [each for _, _, each in found if isinstance(each, Version)]
        default = serving.default(each.number for each in whole)
        values = {
            "title": f"Model {known_models.name_of(base)}",
            "key": known_models.key_of(base),
            "base": base,
            "serving": served_versions.words(base, serving),
            "services": [each for each in known_services.living(self._context.runs.look()) if each.model(base)],
            "numbers": [each.number for each in whole],
            "labels": sorted(serving.labels),
            "versions": [_version_row(each, serving, default) for each in whole],
            "rejected": [_rejected_row(number, path) for number, path in model_versions.rejected(base)],
            "left_out": [f"{path}: {each}" for _, path, each in found if isinstance(each, str)],
            "signatures": list(_signature_rows(whole[0].manifest)) if whole and whole[0].manifest else [],
        }
        return self._context.answer(request, "model", values)

    def promote(self, request: Request) -> Response:
        """Have a version answer requests that name none."""
        return self._changed(request, lambda base: served_versions.promote(base, _number(request, "version")))

    def rollback(self, request: Request) -> Response:
        """Have the version before the present one answer them."""
        return self._changed(request, served_versions.rollback)

    def canary(self, request: Request) -> Response:
        """Have a version answer a part of them."""
        version, percent = _number(request, "version"), _number(request, "percent")
        return self._changed(request, lambda base: served_versions.canary(base, version, percent))

    def label(self, request: Request) -> Response:
        """Give a version a name, or take it away."""
        name = request.state.form.get("label", "")
        version = _number(request, "version") if request.state.form.get("version") else None
        return self._changed(request, lambda base: served_versions.label(base, name, version))

    def _changed(self, request: Request, change: Callable[[str], Serving]) -> Response:
        """Change which versions of a model answer, and say which do."""
        base = known_models.find(self._context, request)
        words = served_versions.words(base, change(base))
        self._context.sessions.put_note(request.state.cookie, f"Within seconds where it is served: {words}")
        return RedirectResponse(
            f"{request.scope['root_path']}/models/{known_models.key_of(base)}", HTTPStatus.SEE_OTHER
        )


def _number(request: Request, name: str) -> int:
    """Return a whole number of a form. Raises HTTPException."""
    text: str = request.state.form.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 20):
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"found the {name} {text[:20]!r}; needed a whole number")
    return int(text)


def _model_row(base: str) -> ModelRow:
    key, name = known_models.key_of(base), known_models.name_of(base)
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
