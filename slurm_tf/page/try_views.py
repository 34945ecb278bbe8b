"""The view that tries a model: a person uploads a file, picks a sample or types JSON, and sees the answer."""

import asyncio
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from slurm_tf.dataset import dataset_manifest
from slurm_tf.dataset.dataset_manifest import Manifest, Split
from slurm_tf.errors import DatasetError, ServiceError, SlurmTfError, UsageError
from slurm_tf.models import model_versions, serving_file
from slurm_tf.models.model_manifest import EXTRA, IMAGE_BYTES, ModelManifest
from slurm_tf.models.model_versions import Version
from slurm_tf.page import data_samples, data_sets, known_models, known_services, model_answers, model_questions
from slurm_tf.page.context import PageContext
from slurm_tf.page.guards import UPLOADS
from slurm_tf.page.known_services import KnownService
from slurm_tf.page.model_answers import ShownAnswer
from slurm_tf.page.model_questions import Question
from slurm_tf.serve.endpoint import VersionState
from slurm_tf.serve.forwarder import forwarding
from slurm_tf.serve.forwarder.upstream import Request as ReplicaRequest
from slurm_tf.watch import run_params, services

# How long a person waits while no replica answers.
_HOLD_SECONDS = 5.0
_FILE, _JSON, _ROW = "file", "json", "row "
_VERSION, _LABEL = "versions/", "labels/"
# What a model predicts, where neither its outputs nor the params of its run say so.
_TARGET = "label"


@dataclass(frozen=True, slots=True)
class Sample:
    """A row of a data set that can be picked. `picture`: the query of its picture, "" for none."""

    row: int
    words: str
    picture: str


@dataclass(frozen=True, slots=True)
class _Asked:
    """A model, the services that answer for it, and the version that is asked, None for one that is not known here."""

    base: str
    services: Sequence[KnownService]
    version: Version | None

    @property
    def manifest(self) -> ModelManifest | None:
        return self.version.manifest if self.version else None


class TryViews:
    """The view that tries a model."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Return the address of each view."""
        path = f"/models/{{key}}{UPLOADS}"
        return [Route(path, self.show), Route(path, self.ask, methods=["POST"])]

    def show(self, request: Request) -> Response:
        """Show what the model can be asked."""
        return self._form(request, self._asked(request, ""))

    def ask(self, request: Request) -> Response:
        """Ask a replica, and show its answer. What was uploaded is decoded there, by the model."""
        form = request.state.form
        asked = self._asked(request, form.get("which", ""))
        try:
            question = self._question(request, asked)
            answer = self._answer(asked, form.get("service", ""), form.get("which", ""), question)
        except (SlurmTfError, OSError) as error:
            is_known = isinstance(error, UsageError | DatasetError)
            status = HTTPStatus.BAD_REQUEST if is_known else HTTPStatus.BAD_GATEWAY
            return self._form(request, asked, problem=str(error), status=status)
        return self._form(request, asked, words=question.words, answer=answer)

    def _asked(self, request: Request, which: str) -> _Asked:
        base = known_models.find(self._context, request)
        living = [each for each in known_services.living(self._context.runs.look()) if each.model(base)]
        serving = serving_file.read(base)
        whole = {each.number: each for each in model_versions.versions(base)}
        named = {f"{_VERSION}{number}": number for number in whole}
        named |= {f"{_LABEL}{label}": number for label, number in serving.labels.items()}
        number = named.get(which, serving.default(whole))
        return _Asked(base, living, None if number is None else whole.get(number))

    def _question(self, request: Request, asked: _Asked) -> Question:
        """Return what a form asks. Raises UsageError, DatasetError."""
        form, manifest = request.state.form, asked.manifest
        do = form.get("do", "")
        if do == _FILE:
            if manifest and IMAGE_BYTES not in manifest.signatures:
                raise UsageError("found a file", "an instance in JSON: this version takes no files of images")
            return model_questions.of_file(request.state.files.get("file"))
        if do.startswith(_ROW):
            return self._question_of_row(asked, do.removeprefix(_ROW))
        return model_questions.of_json(form.get("instance", ""), form.get("signature") or model_questions.DEFAULT)

    def _question_of_row(self, asked: _Asked, row: str) -> Question:
        folder = self._data_set(asked)
        if not folder or asked.manifest is None or row not in map(str, range(data_samples.MOST)):
            raise UsageError(f"found the row {row[:20]!r}", "one of those that are shown")
        data_set = dataset_manifest.read(folder)
        split = _split(data_set)
        values = data_samples.values(folder, data_set, split, int(row))
        words = f"row {row} of {split.name}{_others(values, data_set, asked.manifest)}"
        return model_questions.of_row(words, values, data_set.schema, asked.manifest)

    def _answer(self, asked: _Asked, service: str, which: str, question: Question) -> ShownAnswer:
        """Return what a replica answers. Raises UsageError, ServiceError, ModelError, OSError."""
        chosen = next((each for each in asked.services if each.key == service or not service), None)
        if chosen is None:
            raise ServiceError("no service of yours answers for this model", "one", "Serve starts one")
        if which not in dict(_versions(chosen, asked.base)):
            raise UsageError(f"found the version {which[:40]!r}", "one that a replica has loaded")
        model = chosen.model(asked.base)
        target = f"/v1/models/{quote(model, safe='')}{f'/{which}' if which else ''}:predict"
        request = ReplicaRequest(b"POST", target.encode(), (), question.body, is_idempotent=True)
        run, is_open = chosen.service.run, chosen.service.settings.is_open
        answer = asyncio.run(forwarding.ask(run, is_open, model, request, _HOLD_SECONDS))
        return model_answers.read(answer, self._class_names(asked))

    def _class_names(self, asked: _Asked) -> Mapping[int, str]:
        """Return the names of the classes that a version knows, none if it knows none."""
        if asked.version is None or asked.manifest is None:
            return {}
        outputs = [name for each in asked.manifest.signatures.values() for name in each.outputs]
        target = str(self._params(asked).get("target", _TARGET))
        folder = os.path.join(asked.version.path, EXTRA, "dataset")
        return model_answers.class_names(folder, [each for each in (*outputs, target) if "/" not in each])

    def _params(self, asked: _Asked) -> Mapping[str, object]:
        """Return the params of the run that a version is from, none if that is not one of the user's."""
        folder = asked.manifest.run_folder if asked.manifest else ""
        points = (point for points in self._context.runs.look(wait=False).runs.values() for point in points)
        selected = next((point.selected for point in points if point.selected.folder.path == folder), None)
        return run_params.of_run(selected) if selected else {}

    def _data_set(self, asked: _Asked) -> str:
        """Return the folder of the data set that the run of a version was given, "" for none that is there."""
        found = [each for each in self._params(asked).values() if isinstance(each, str) and os.path.isabs(each)]
        return next((each for each in found if data_sets.is_data_set(each)), "")

    def _form(
        self,
        request: Request,
        asked: _Asked,
        problem: str = "",
        words: str = "",
        answer: ShownAnswer | None = None,
        status: int = HTTPStatus.OK,
    ) -> Response:
        form, manifest = request.state.form, asked.manifest
        answering = [each for each in asked.services if services.replicas(each.service.run)]
        values = {
            "title": f"Try model {known_models.name_of(asked.base)}",
            "address": f"/models/{known_models.key_of(asked.base)}",
            "services": answering,
            "service": form.get("service", ""),
            "versions": _versions(answering[0], asked.base) if answering else [],
            "which": form.get("which", ""),
            "takes_files": manifest is None or IMAGE_BYTES in manifest.signatures,
            "signatures": list(manifest.signatures) if manifest else [model_questions.DEFAULT],
            "signature": form.get("signature") or model_questions.DEFAULT,
            "instance": form.get("instance", ""),
            "samples": self._samples(asked),
            "problems": problem.splitlines(),
            "words": words,
            "answer": answer,
        }
        return self._context.answer(request, "try", values, status)

    def _samples(self, asked: _Asked) -> list[Sample]:
        """Return the rows that can be picked, none where the data set has not what the model takes."""
        folder = self._data_set(asked)
        if not folder or asked.manifest is None:
            return []
        try:
            data_set = dataset_manifest.read(folder)
            _, sources = model_questions.row_inputs(
                {each.name: each for each in data_set.schema.features}, asked.manifest
            )
            split = _split(data_set)
            rows = range(min(data_samples.MOST, split.rows) if data_set.form == ".tfrecord" else 0)
            return [_sample(folder, data_set, split, row, [*sources.values()], asked.manifest) for row in rows]
        except (UsageError, DatasetError):
            return []


def _versions(known: KnownService, base: str) -> list[tuple[str, str]]:
    """Return the versions that a replica of a service has loaded: what its address ends with, and its words."""
    name, numbers = known.model(base), set[int]()
    for each in services.replicas(known.service.run):
        for model in each.models:
            if model.name == name:
                numbers |= {each.version for each in model.versions if each.state is VersionState.AVAILABLE}
    labels = serving_file.read(base).labels
    found = [("", "the one that answers by default")]
    found += [(f"{_VERSION}{number}", f"version {number}") for number in sorted(numbers, reverse=True)]
    return found + [(f"{_LABEL}{label}", f"label {label}") for label, number in labels.items() if number in numbers]


def _split(data_set: Manifest) -> Split:
    """Return the rows that the model has not seen, where there are some."""
    return next((each for each in data_set.splits if each.name != "train"), data_set.splits[0])


def _sample(
    folder: str, data_set: Manifest, split: Split, row: int, sources: Sequence[object], manifest: ModelManifest
) -> Sample:
    values = data_samples.values(folder, data_set, split, row)
    pictured = [each for each in data_set.schema.features if each in sources and data_samples.is_pictured(each)]
    query = ""
    if pictured:
        query = f"folder={quote(folder)}&feature={quote(pictured[0].name)}&row={row}&split={quote(split.name)}"
    return Sample(row, f"row {row}{_others(values, data_set, manifest)}", query)


def _others(values: Mapping[str, data_samples.Values], data_set: Manifest, manifest: ModelManifest) -> str:
    """Return in words what a row has beside the inputs of a model: what it should answer is among that."""
    _, sources = model_questions.row_inputs({each.name: each for each in data_set.schema.features}, manifest)
    taken = {feature.name for feature in sources.values()}
    others = [(name, each) for name, each in values.items() if name not in taken and len(each) == 1]
    words = ", ".join(f"{name} {_word(each[0])}" for name, each in others)
    return f", {words}" if words else ""


def _word(value: float | bytes) -> str:
    return value.decode("utf-8", "replace")[:40] if isinstance(value, bytes) else f"{value:.6g}"
