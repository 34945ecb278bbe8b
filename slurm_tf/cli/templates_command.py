"""The verb templates: lists, shows and checks job templates, which are job files that are used by their names."""

import dataclasses
import json
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import completion, options
from slurm_tf.cli.terminal import print_next_commands, printable, short_path
from slurm_tf.errors import ConfigError, SlurmTfError

if TYPE_CHECKING:
    from slurm_tf.jobspec.configuration import Job
    from slurm_tf.jobspec.job_templates import TemplateFile
    from slurm_tf.jobspec.params import ParamForm

NAME = click.argument("name", shell_complete=completion.templates)
_LISTED = ("TEMPLATE", "SCOPE", "STRATEGY", "PARAMS", "DESCRIPTION")
_PARAMS = ("PARAM", "TYPE", "DEFAULT", "MEANING")
_CHECKED = ("TEMPLATE", "SCOPE", "RESULT", "WHY")


@dataclass(frozen=True, slots=True)
class _Listed:
    """One file of the list. `shadowed_by`: the file that counts in its place; `refused`: why it cannot be used."""

    name: str
    scope: str
    file: str
    strategy: str = ""
    description: str = ""
    params: tuple[str, ...] = ()
    extends: str = ""
    shadowed_by: str | None = None
    refused: str | None = None

    @property
    def said(self) -> str:
        """Return what the list says of it."""
        if self.refused:
            return f"cannot be used: {self.refused}"
        return f"shadowed by {short_path(self.shadowed_by)}" if self.shadowed_by else self.description


@dataclass(frozen=True, slots=True)
class _Checked:
    """How the check of one template ended; `error`: None if nothing is wrong with it."""

    name: str
    scope: str
    file: str
    site: str
    error: str | None


@click.group()
def templates() -> None:
    """List, show or check job templates, which are job files that `-t NAME` takes in the place of JOB."""


@templates.command(name="list")
@options.JSON
def list_templates(as_json: bool) -> None:
    """List all job templates, those that others shadow or that cannot be used as well."""
    from slurm_tf.jobspec import job_templates, user_settings

    trusted = user_settings.trusted_users()
    refused: list[ConfigError] = []
    rows: list[_Listed] = []
    for each in job_templates.template_files(trusted, refused):
        shadowed_by = next((row.file for row in rows if row.name == each.name), None)
        rows.append(_listed(each, trusted, shadowed_by))
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    else:
        from slurm_tf.cli import text_table

        cells = [[row.name, row.scope, row.strategy, " ".join(row.params), row.said] for row in rows]
        click.echo(text_table.table(_LISTED, cells, names=_LISTED), nl=False)
    for error in refused:
        click.echo(f"slurm-tf: a folder is left out: {printable(str(error))}", err=True)
    if not as_json:
        print_next_commands(("templates show NAME", "its params and values"), ("submit -t NAME --ask", "submit it"))


def _listed(template: "TemplateFile", trusted: tuple[str, ...], shadowed_by: str | None) -> _Listed:
    from slurm_tf.jobspec import configuration, job_templates

    row = _Listed(template.name, template.scope.value, str(template.path), shadowed_by=shadowed_by)
    try:
        job_templates.check_name(template.name, template.path)
        spec = configuration.alone(template, trusted).spec
    except SlurmTfError as error:
        return dataclasses.replace(row, refused=_in_a_line(error))
    params = tuple(dict.fromkeys((*spec.params, *spec.sweep)))
    return dataclasses.replace(
        row, strategy=spec.strategy, description=spec.description, params=params, extends=spec.extends
    )


def _in_a_line(error: SlurmTfError) -> str:
    return " ".join(str(error).replace("\nHINT: ", "; ").split())


@templates.command()
@NAME
@options.JSON
def show(name: str, as_json: bool) -> None:
    """Print what job template NAME and those that it extends state: its params, each value and its file."""
    from slurm_tf.jobspec import configuration, job_templates, params, user_settings

    trusted = user_settings.trusted_users()
    template = job_templates.find(name, trusted)
    job = configuration.alone(template, trusted)
    forms = params.forms(job)
    same_name = [each for each in job_templates.template_files(trusted) if each.name == name]
    shadowed = [str(each.path) for each in same_name if each.path != template.path]
    stated = [(key, value) for key, value in configuration.leaves(job.spec) if key in job.origins]
    files = [each.origin for each in reversed(job_templates.read(template, trusted).layered)]
    if as_json:
        found = {
            "name": name,
            "scope": template.scope.value,
            "description": job.spec.description,
            "strategy": job.spec.strategy,
            "files": files,
            "shadows": shadowed,
            "digest": job.template and job.template.digest,
            "params": [dataclasses.asdict(form) for form in forms],
            "values": [{"key": key, "value": value, "file": job.origins[key]} for key, value in stated],
        }
        click.echo(json.dumps(found, indent=2))
        return
    _print_shown(template, job, files, shadowed, stated, forms)


def _print_shown(
    template: "TemplateFile",
    job: "Job",
    files: list[str],
    shadowed: list[str],
    stated: list[tuple[str, object]],
    forms: "tuple[ParamForm, ...]",
) -> None:
    """Print a template for a reader: what it is, its params, then each value and its file."""
    from slurm_tf.cli import text_table
    from slurm_tf.run.placeholders import value_text

    rows = [("Template", f"{template.name} ({template.scope.value})"), ("What", job.spec.description or "-")]
    rows += [("File", short_path(files[0]))]
    rows += [("Extends", short_path(each)) for each in files[1:]]
    rows += [("Shadows", short_path(each)) for each in shadowed]
    click.echo(text_table.summary(rows, 9))
    cells = []
    for form in forms:
        default = "required" if form.default is None else value_text(form.default)
        if form.swept:
            default = " ".join(map(value_text, form.swept))
        meaning = "; ".join(filter(None, (form.help, form.needed)))
        cells.append([form.name, form.type or "-", default, meaning])
    if cells:
        click.echo(text_table.table(_PARAMS, cells, names=("PARAM",)))
    texts = [[key, json.dumps(value, ensure_ascii=False), short_path(job.origins[key])] for key, value in stated]
    heads = ["KEY", "VALUE", "FILE"]
    click.echo(text_table.table(heads, texts, names=heads), nl=False)
    example = " ".join(f"{form.name}=VALUE" for form in forms if form.required)
    print_next_commands((f"submit -t {template.name} {example}".rstrip(), "submit it"))


@templates.command()
@click.argument("names", nargs=-1, shell_complete=completion.templates)
@options.SITE
@options.JSON
def check(names: tuple[str, ...], site: str, as_json: bool) -> None:
    """Check job templates NAMES, or all of them: that each can be read, its programs are there, its script is sound.

    Each is rendered for the site, with its defaults, and with examples of params that have none. Nothing is submitted.
    The exit code is 1 if anything is wrong with one.
    """
    from slurm_tf.jobspec import job_templates, user_settings

    trusted = user_settings.trusted_users()
    if names:
        found = [job_templates.find(name, trusted) for name in names]
    else:
        refused: list[ConfigError] = []
        # reversed: of one name the first file is the one that counts
        found = [*{each.name: each for each in reversed(job_templates.template_files(trusted, refused))}.values()][::-1]
        for error in refused:
            click.echo(f"slurm-tf: a folder is left out: {printable(str(error))}", err=True)
    rows = [_checked(each, site) for each in found]
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
    else:
        from slurm_tf.cli import text_table

        cells = [[row.name, row.scope, "error" if row.error else "OK", row.error or ""] for row in rows]
        click.echo(text_table.table(_CHECKED, cells, names=("TEMPLATE",)), nl=False)
    sys.exit(1 if any(row.error for row in rows) else 0)


def _checked(template: "TemplateFile", site: str) -> _Checked:
    from slurm_tf.jobspec import configuration, job_templates, params
    from slurm_tf.submit import bash_syntax, new_run, render

    site_name, wrong = site, None
    try:
        job_templates.check_name(template.name, template.path)
        job = configuration.load(template, os.environ, site)
        site_name = job.site_name
        examples = {form.name: form.example for form in params.forms(job) if form.required}
        job = dataclasses.replace(job, given=examples, examples=frozenset(examples))
        plan = new_run.preview(job, "", to_submit=True)
        bash_syntax.check(render.script(plan), str(template.path))
    except SlurmTfError as error:
        wrong = _in_a_line(error)
    return _Checked(template.name, template.scope.value, str(template.path), site_name, wrong)
