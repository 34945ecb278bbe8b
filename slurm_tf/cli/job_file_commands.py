"""The verbs that read a job file and start nothing: render, explain, schema."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slurm_tf import files
from slurm_tf.cli import job_words
from slurm_tf.cli.options import ALWAYS_JSON, JSON, NAME, SET, SITE, ExpandedPath, JobCommand
from slurm_tf.errors import UsageError

if TYPE_CHECKING:
    from slurm_tf.jobspec.plan import Plan


@click.command(cls=JobCommand)
@job_words.WORDS
@job_words.TEMPLATE
@job_words.ASK
@SITE
@NAME
@SET
@click.option("--output", "-o", type=ExpandedPath(), help="Write the script to this file instead of printing it.")
@JSON
def render(
    words: tuple[str, ...],
    arguments: tuple[str, ...],
    template: str,
    ask: bool,
    site: str,
    name: str,
    overrides: tuple[str, ...],
    output: Path | None,
    as_json: bool,
) -> None:
    """Print the batch script for JOB, exactly as `submit` would write it now."""
    from slurm_tf.submit import new_run, render

    plan = new_run.preview(job_words.load(words, template, arguments, ask, site, overrides), name)
    text = render.script(plan)
    if output is not None:
        _write(output, text)
    if as_json:
        written = files.absolute(str(output)) if output else None
        click.echo(json.dumps({**script_as_dict(plan, text), "file": written}, indent=2))
    elif output is None:
        click.echo(text, nl=False)


def script_as_dict(plan: "Plan", text: str) -> dict[str, object]:
    """Return a batch script for --json, and of what it was made; the directives are of each component of the job."""
    from slurm_tf.submit import new_run

    return {
        "run": plan.run.name,
        "folder": plan.run.path,
        "job_file": files.absolute(str(plan.job.path)),
        "site": plan.job.site_name,
        "params": dict(plan.params),
        "directives": [{name: value or True for name, value in each.options} for each in plan.components],
        "script": text,
        "warnings": new_run.warnings(plan.job),
    }


def _write(output: Path, text: str) -> None:
    try:
        files.write_whole(str(output), text.encode(), 0o600)
    except OSError as error:
        raise UsageError(f"cannot write {output}: {error.strerror}", "a folder that can be written") from error


@click.command(cls=JobCommand)
@job_words.WORDS
@job_words.TEMPLATE
@job_words.ASK
@SITE
@SET
@JSON
def explain(
    words: tuple[str, ...],
    arguments: tuple[str, ...],
    template: str,
    ask: bool,
    site: str,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Print each value of JOB, and the file, variable or option that it came from."""
    from slurm_tf.jobspec import configuration

    loaded = job_words.load(words, template, arguments, ask, site, overrides)
    rows = configuration.explain(loaded)
    if as_json:
        found = [{"key": key, "value": _value(text), "from": origin or None} for key, text, origin in rows]
        click.echo(json.dumps(found, indent=2))
        return
    from slurm_tf.cli import text_table

    heads = ["KEY", "VALUE", "FROM"]
    click.echo(text_table.table(heads, rows, names=heads), nl=False)
    if loaded.spec.setup:
        click.echo(
            'slurm-tf: a line of setup that fails ends the job; "|| true" after it lets it fail, "trap - ERR" as the '
            "first line lets all of them fail",
            err=True,
        )


def _value(text: str) -> Any:  # noqa: ANN401 - whatever JSON can say
    """Return what an explained value is: JSON, but for a name, a value as it was typed, and what is masked."""
    try:
        return json.loads(text)
    except ValueError:
        return text


@click.command()
@click.argument("what", type=click.Choice(["job", "site", "recipe"]))
@ALWAYS_JSON
def schema(what: str) -> None:
    """Print the JSON Schema of job files, of site profiles or of recipes of `prepare`, for editors."""
    import msgspec

    from slurm_tf.jobspec.job_file import JobSpec
    from slurm_tf.jobspec.sites import Site
    from slurm_tf.prepare.recipe import Recipe

    kinds: dict[str, type[msgspec.Struct]] = {"job": JobSpec, "site": Site, "recipe": Recipe}
    text: dict[str, Any] = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    text.update(msgspec.json.schema(kinds[what]))
    if what == "job":
        # a value alone is a default (jobspec/configuration.py)
        params = text["$defs"]["JobSpec"]["properties"]["params"]
        default = text["$defs"]["Param"]["properties"]["default"]["anyOf"]
        params["additionalProperties"] = {"anyOf": [params["additionalProperties"], *default]}
        # what a job file must have may be in the one that it extends
        required = text["$defs"]["JobSpec"].pop("required")
        text["$defs"]["JobSpec"]["anyOf"] = [{"required": required}, {"required": ["extends"]}]
    click.echo(json.dumps(text, indent=2))
