"""The views of a new run: the templates, a form of one's params, what a job of these would be, and its submission."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from slurm_tf.errors import ConfigError, SlurmTfError
from slurm_tf.jobspec import configuration, job_templates, params, user_settings
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.job_templates import TemplateFile
from slurm_tf.jobspec.params import ParamForm
from slurm_tf.page import data_sets, job_form, run_cache, run_rows
from slurm_tf.page.context import PageContext
from slurm_tf.page.job_form import Field
from slurm_tf.run import placeholders
from slurm_tf.submit import new_run

_PARAM, _COUNT, _GPUS = "param.", "workers", "gpus"
_ROLE = "worker"


@dataclass(frozen=True, slots=True)
class TemplateRow:
    """One template of the list. `problem`: why it cannot be used, "" if it can."""

    name: str
    scope: str
    description: str
    params: str
    problem: str = ""


class NewRunViews:
    """The views of a new run."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Return the address of each view."""
        return [
            Route("/new", self.list_templates),
            Route("/new/{template}", self.ask),
            Route("/new/{template}", self.check_or_submit, methods=["POST"]),
        ]

    def list_templates(self, request: Request) -> Response:
        """Show all job templates."""
        trusted = user_settings.trusted_users()
        refused: list[ConfigError] = []
        found = {each.name: each for each in reversed(job_templates.template_files(trusted, refused))}
        values = {
            "title": "New run",
            "templates": [_template_row(each, trusted) for each in reversed(found.values())],
            "problems": [f"a folder is left out: {error}" for error in refused],
        }
        return self._context.answer(request, "templates", values)

    def ask(self, request: Request) -> Response:
        """Show the form of a template, with its defaults; the query may have values for its fields."""
        template = job_templates.find(request.path_params["template"], user_settings.trusted_users())
        return self._form(request, template, dict(request.query_params), checked=False)

    def check_or_submit(self, request: Request) -> Response:
        """Show what a job of the form would be, or submit it."""
        template = job_templates.find(request.path_params["template"], user_settings.trusted_users())
        form = request.state.form
        fields = _fields(template, form, checked=True)
        if any(field.wrong for field in fields):
            return self._form(request, template, form, checked=True)
        try:
            job = _job(template, form)
            if form.get("do") == "submit":
                return self._submit(request, job, form.get("name", ""))
            plan = new_run.preview(job, form.get("name", ""), to_submit=True)
            shown = job_form.of_plan(self._context, plan)
        except SlurmTfError as error:
            return self._form(request, template, form, checked=True, problem=str(error))
        return self._form(request, template, form, checked=True, shown=shown)

    def _submit(self, request: Request, job: Job, name: str) -> Response:
        run = job_form.submit(self._context, request, job, name)
        address = run_rows.run_address(run_cache.key_of(run), run.name)
        return RedirectResponse(f"{request.scope['root_path']}{address}", HTTPStatus.SEE_OTHER)

    def _form(
        self,
        request: Request,
        template: TemplateFile,
        form: Mapping[str, str],
        checked: bool,
        problem: str = "",
        shown: Mapping[str, object] = {},
    ) -> Response:
        """Show the form with what was typed, and `shown` of the job that it would be."""
        fields = _fields(template, form, checked)
        folders = (
            data_sets.known(self._context.runs.look(wait=False)) if any(each.kind == "path" for each in fields) else []
        )
        values = {
            "title": f"New run of {template.name}",
            "description": configuration.alone(template, user_settings.trusted_users()).spec.description,
            "fields": fields,
            "data_sets": folders,
            "problems": problem.splitlines(),
            "name": form.get("name", ""),
            **job_form.NOT_CHECKED,
            **shown,
        }
        is_wrong = bool(problem) or (checked and any(field.wrong for field in fields))
        return self._context.answer(request, "new_run", values, HTTPStatus.BAD_REQUEST if is_wrong else HTTPStatus.OK)


def _template_row(template: TemplateFile, trusted: tuple[str, ...]) -> TemplateRow:
    try:
        job_templates.check_name(template.name, template.path)
        spec = configuration.alone(template, trusted).spec
    except SlurmTfError as error:
        return TemplateRow(template.name, template.scope.value, "", "", str(error))
    names = " ".join(dict.fromkeys((*spec.params, *spec.sweep)))
    return TemplateRow(template.name, template.scope.value, spec.description, names)


def _fields(template: TemplateFile, form: Mapping[str, str], checked: bool) -> list[Field]:
    """Return the fields of a template: params, workers, options of sbatch; `checked`: and what is wrong."""
    job = configuration.alone(template, user_settings.trusted_users())
    found = [_param_field(each, form.get(f"{_PARAM}{each.name}", ""), checked) for each in params.forms(job)]
    worker = job.spec.roles.with_tasks.get(_ROLE)
    if worker is not None:
        wrong = "" if form.get(_COUNT, "") in ("", *map(str, range(1, 10000))) else "needed a whole number from 1 on"
        count, gpus = str(worker.count), "" if worker.gpus is None else str(worker.gpus)
        about = "GPUs of all workers together: 2, or a100:2"
        found += [
            Field(_COUNT, _COUNT, "number", form.get(_COUNT, ""), "tasks that train", count, min="1", wrong=wrong),
            Field(_GPUS, _GPUS, "text", form.get(_GPUS, ""), about, gpus),
        ]
    stated = {"time": job.spec.time, "partition": job.spec.partition, "account": job.spec.account, "qos": job.spec.qos}
    return found + job_form.option_fields(job_form.OPTIONS, form, stated)


def _param_field(form: ParamForm, typed: str, checked: bool) -> Field:
    kinds = {"int": "number", "float": "float", "path": "path"}
    choices = tuple(map(placeholders.value_text, form.choices)) or (("true", "false") if form.type == "bool" else ())
    default = " ".join(map(placeholders.value_text, form.swept)) if form.swept else ""
    if not form.swept and form.default is not None:
        default = placeholders.value_text(form.default)
    wrong = form.wrong(typed) if checked and typed else ""
    if checked and form.required and not typed:
        wrong = f"it has no value; needed {form.needed}"
    return Field(
        name=f"{_PARAM}{form.name}",
        label=form.name,
        kind="choice" if choices else kinds.get(form.type or "str", "text"),
        value=typed,
        help="; ".join(filter(None, (form.help, form.needed))),
        default=default,
        choices=choices,
        min="" if form.min is None else placeholders.value_text(form.min),
        max="" if form.max is None else placeholders.value_text(form.max),
        required=form.required,
        wrong=wrong,
    )


def _job(template: TemplateFile, form: Mapping[str, str]) -> Job:
    """Return the job of a form. Raises ConfigError or UsageError."""
    values = [f"{name.removeprefix(_PARAM)}={text}" for name, text in form.items() if name.startswith(_PARAM) and text]
    options = job_form.options(job_form.OPTIONS, form)
    of_role = {"count": form.get(_COUNT), "gpus": form.get(_GPUS)}
    overrides = [f"roles.{_ROLE}.{key}={text}" for key, text in of_role.items() if text]
    return configuration.load(template, os.environ, "", overrides, options, values)
