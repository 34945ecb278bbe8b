"""The views of services: a form that starts one for a model, its jobs and replicas, and its end."""

from collections.abc import Mapping
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from slurm_tf.errors import SlurmTfError
from slurm_tf.jobspec import service_job
from slurm_tf.jobspec.configuration import Job
from slurm_tf.page import job_form, known_models, run_cache, run_rows
from slurm_tf.page.context import PageContext
from slurm_tf.page.known_services import KnownService
from slurm_tf.submit import new_run
from slurm_tf.watch import cancel, service_rows, services

# Options of sbatch about the replicas, with what they are about.
_OPTIONS = {
    "ntasks": "replicas: each answers for the model; default: 1",
    "cpus-per-task": "CPUs of each replica",
    "mem": "memory of each node, as sbatch takes it: 4G",
    "gpus-per-task": "GPUs of each replica",
    **job_form.OPTIONS,
}
_MODEL, _NAME = "model", "name"


class ServiceViews:
    """The views of services."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Return the address of each view."""
        return [
            Route("/models/{key}/serve", self.ask),
            Route("/models/{key}/serve", self.check_or_submit, methods=["POST"]),
            Route("/services/{key}", self.show),
            Route("/services/{key}/stop", self.ask_stop),
            Route("/services/{key}/stop", self.stop, methods=["POST"]),
        ]

    def ask(self, request: Request) -> Response:
        """Show the form that starts a service for a model."""
        return self._form(request, known_models.find(self._context, request), {})

    def check_or_submit(self, request: Request) -> Response:
        """Show what the service's job would be, or submit it."""
        base, form = known_models.find(self._context, request), request.state.form
        try:
            job = _job(base, form)
            if form.get("do") == "submit":
                run = job_form.submit(self._context, request, job, form.get(_NAME, ""))
                address = f"{request.scope['root_path']}/services/{run_cache.key_of(run)}"
                return RedirectResponse(address, HTTPStatus.SEE_OTHER)
            shown = job_form.of_plan(self._context, new_run.preview(job, form.get(_NAME, ""), to_submit=True))
        except SlurmTfError as error:
            return self._form(request, base, form, problem=str(error))
        return self._form(request, base, form, shown=shown)

    def show(self, request: Request) -> Response:
        """Show a service: its jobs, its replicas, and whether nobody will answer for some time."""
        known = self._service(request)
        found = services.overview(known.service, known.points)
        replicas = "unknown how many" if found.replicas is None else str(len(found.replicas))
        values = {
            "title": f"Service {known.name}",
            "address": f"/services/{known.key}",
            "run": run_rows.run_address(known.key, known.name),
            "name": known.name,
            "at": self._context.runs.look(wait=False).at,
            "replicas_words": f"{replicas} answering",
            "models": [(name, base, known_models.key_of(base)) for name, base in known.service.settings.models.items()],
            "problems": [service_rows.gap_words(found.gap)] if found.gap else [],
            "last_job": service_rows.last_job_words(found.last_job) if found.last_job else "",
            "ended": [service_rows.replica_end_words(each) for each in found.replica_ends or ()],
            "notes": found.notes,
            "job_heads": service_rows.JOBS,
            "jobs": [service_rows.job_cells(each) for each in found.jobs],
            "replica_heads": service_rows.REPLICAS,
            "replicas": [service_rows.replica_cells(each) for each in found.replicas or ()],
        }
        return self._context.answer(request, "service", values)

    def ask_stop(self, request: Request) -> Response:
        """Ask whether to stop a service."""
        known = self._service(request)
        question = (
            f"Stop the service {known.name} for good? The job that runs ends once it has answered what it was asked, "
            "and none follows."
        )
        values = {"title": "Stop", "question": question, "do": "Stop it", "kind": "danger"}
        return self._context.answer(request, "confirm", {**values, "address": f"/services/{known.key}"})

    def stop(self, request: Request) -> Response:
        """Stop a service."""
        known = self._service(request)
        ended = cancel.cancel(self._context.connect(), known.service.selected)
        self._context.runs.read_again(known.service.run)
        words = f"Slurm was told to cancel {', '.join(ended)}" if ended else "No job of this service was left to cancel"
        self._context.sessions.put_note(request.state.cookie, words)
        return RedirectResponse(f"{request.scope['root_path']}/services/{known.key}", HTTPStatus.SEE_OTHER)

    def _service(self, request: Request) -> KnownService:
        """Return the service whose run an address names. Raises HTTPException."""
        key = request.path_params["key"]
        points = self._context.runs.find(key)
        service = services.of_run(points[0].selected) if points else None
        if service is None:
            raise HTTPException(HTTPStatus.NOT_FOUND, "there is no such service")
        return KnownService(key, service, points)

    def _form(
        self,
        request: Request,
        base: str,
        form: Mapping[str, str],
        problem: str = "",
        shown: Mapping[str, object] = {},
    ) -> Response:
        """Show the form with what was typed, and `shown` of the job that it would be."""
        name = known_models.name_of(base)
        model = job_form.Field(
            _MODEL, "model", "text", form.get(_MODEL, ""), "the name by which requests call it", name
        )
        values = {
            "title": f"Serve {name}",
            "base": base,
            "address": f"/models/{known_models.key_of(base)}",
            "fields": [model, *job_form.option_fields(_OPTIONS, form, {})],
            "name": form.get(_NAME, ""),
            "problems": problem.splitlines(),
            **job_form.NOT_CHECKED,
            **shown,
        }
        return self._context.answer(request, "serve", values, HTTPStatus.BAD_REQUEST if problem else HTTPStatus.OK)


def _job(base: str, form: Mapping[str, str]) -> Job:
    """Return the job of a service for the model in a folder. Raises UsageError, ConfigError."""
    word = f"{form.get(_MODEL) or known_models.name_of(base)}={base}"
    return service_job.load(service_job.Start((word,), "", (), job_form.options(_OPTIONS, form)))
