"""Merges the layers of a job's configuration: site profile, user file, what the job file extends, the job file itself,
environment, command line.

A later layer overrides an earlier one; below them are the built-in defaults of jobspec/job_file.py.
"""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import tomllib

from slurm_tf import files
from slurm_tf.errors import ConfigError, UsageError
from slurm_tf.jobspec import (
    inheritance,
    job_templates,
    key_advice,
    layers,
    program_folder,
    sbatch_options,
    sites,
    user_settings,
)
from slurm_tf.jobspec.error_list import ErrorList
from slurm_tf.jobspec.job_file import ALTERNATIVES, JobSpec
from slurm_tf.jobspec.job_templates import TemplateFile
from slurm_tf.run import placeholders
from slurm_tf.run.manifest import TemplateOrigin

# Of the keys that a job file must have, where they are wrong: all else is checked as well.
_STAND_INS = {"name": "job", "strategy": "single"}


@dataclass(frozen=True)
class Job:
    """A job file merged with all layers: the resolved spec, its site, the folder of runs.

    `folder`: where its `chdir` starts from: that of the file that states it, else of the one that states the command.
    `template`: the job template that it comes from, None for none; `is_named`: it was typed by the template's name.

    `given`: the values of params that were typed on the command line, by name. `trusted`: whose templates count.
    `examples`: the params whose values were made up, to see whether the job would be sound with others.
    `errors`: what is wrong with keys that are left out of `spec`, by their dotted paths in `left_out`; checks.check
    raises it.
    """

    path: Path
    spec: JobSpec
    origins: Mapping[str, str]
    site_name: str
    site: sites.Site
    runs: str
    given: Mapping[str, str]
    trusted: tuple[str, ...]
    folder: Path
    template: TemplateOrigin | None = None
    is_named: bool = False
    errors: tuple[ConfigError, ...] = ()
    left_out: frozenset[str] = frozenset()
    examples: frozenset[str] = frozenset()

    @property
    def typed(self) -> str:
        """How a command line names it, quoted for a shell."""
        if self.is_named and self.template:
            return f"-t {self.template.name}"
        return shlex.quote(str(self.path))

    @property
    def runs_template(self) -> bool:
        """Whether its program is that of a template that was named, not one beside a job file whose path was typed."""
        return self.is_named or files.identity(str(self.folder)) != files.identity(str(self.path.parent))

    def where(self, key: str) -> str:
        """Return "origin: key" for an error about `key`: the layer that set it, else the job file."""
        table = next((o for k, o in self.origins.items() if k.startswith(f"{key}.")), str(self.path))
        return f"{self.origins.get(key, table)}: {key}"


def load(
    source: Path | TemplateFile,
    environ: Mapping[str, str],
    site: str = "",
    overrides: Sequence[str] = (),
    options: Mapping[str, str | bool] = {},
    values: Sequence[str] = (),
    arguments: Sequence[str] = (),
) -> Job:
    """Read the job file at a path, or that of a job template, and merge it with what it extends and all other layers.

    Of the command line `overrides` are the KEY=VALUE of --set, `options` those of sbatch, by their long names, `values`
    the NAME=VALUE of params, `arguments` those for the program, behind "--".

    Keys that are wrong are left out, and are errors of the job (checks.check), so that one message can name all of
    them. Raises ConfigError or UsageError for all else.
    """
    settings = user_settings.read(environ, site)
    if settings.unusable:
        raise settings.unusable
    user_path, user, name, profile = settings.user_path, settings.user, settings.site_name, settings.site
    errors = ErrorList()
    job_file = job_templates.read(source, user.trust)
    below = [*settings.site_job, layers.Layer(f"{user_path}: job", user.job)]
    above = [
        *_from_environ(environ, errors),
        *_from_command_line(overrides),
        *_from_options(options, errors),
    ]
    for layer in (*below, *above):
        _refuse_extends(layer, errors)
    given = [*below, *job_file.layered, *above]
    read = [job_templates.with_params(_with_read_options(layer, errors)) for layer in given]
    resolved = layers.resolve_all(_without_replaced(read), JobSpec, key_advice.of_key, _STAND_INS)
    for error in resolved.errors:
        errors.add(error)
    with errors.collecting():
        program_folder.check(job_file, resolved)
    return Job(
        path=job_file.path,
        spec=_with_arguments(resolved, arguments),
        origins=resolved.origins,
        site_name=name,
        site=profile,
        runs=settings.runs,
        given=_given(values),
        trusted=user.trust,
        folder=program_folder.of(job_file, resolved),
        template=job_file.template,
        is_named=isinstance(source, TemplateFile),
        errors=tuple(errors.errors),
        left_out=resolved.left_out,
    )


def alone(source: Path | TemplateFile, trusted: tuple[str, ...]) -> Job:
    """Return the job of a file and of what it extends alone: without a site, a user's file or anything typed.

    Raises ConfigError, which names all that is wrong, or UsageError.
    """
    job_file, errors = job_templates.read(source, trusted), ErrorList()
    read = [_with_read_options(layer, errors) for layer in job_file.layered]
    resolved = layers.resolve_all(_without_replaced(read), JobSpec, key_advice.of_key, _STAND_INS)
    for error in resolved.errors:
        errors.add(error)
    errors.raise_all()
    return Job(
        path=job_file.path,
        spec=resolved.spec,
        origins=resolved.origins,
        site_name="",
        site=sites.Site(),
        runs="",
        given={},
        trusted=trusted,
        folder=program_folder.of(job_file, resolved),
        template=job_file.template,
        is_named=isinstance(source, TemplateFile),
    )


def explain(job: Job) -> list[tuple[str, str, str]]:
    """Return (key, value, origin) of every resolved value; likely secrets in [env] are masked.

    Raises ConfigError for keys that are wrong.
    """
    ErrorList(job.errors).raise_all()
    rows = [("site", job.site_name, "")]
    for key, value in leaves(job.spec):
        origin = job.origins.get(key) or "built-in"
        secret = key.startswith("env.") and any(word in key.upper() for word in ("SECRET", "TOKEN", "PASSW", "KEY"))
        rows.append((key, "***" if secret else msgspec.json.encode(value).decode(), origin))
    return rows + [(f"params.{name}", value, f"command line: {name}=") for name, value in job.given.items()]


def leaves(spec: msgspec.Struct) -> list[tuple[str, object]]:
    """Return each value of a job or a site by its dotted path, without those that are not given."""
    return _leaves(msgspec.to_builtins(spec), "")


def _leaves(value: Mapping[str, Any], path: str) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = []
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            rows += _leaves(item, f"{path}{key}.")
        elif item is not None and item != {}:
            rows.append((f"{path}{key}", item))
    return rows


def _from_environ(environ: Mapping[str, str], errors: ErrorList) -> list[layers.Layer]:
    """Return a layer for each variable of sbatch that is about the job."""
    return [layers.Layer(origin, values) for origin, values in sbatch_options.from_environ(environ, errors)]


def _from_options(options: Mapping[str, str | bool], errors: ErrorList) -> list[layers.Layer]:
    """Return a layer for each option of sbatch on the command line."""
    found = []
    for name, value in options.items():
        origin = f"command line: --{name}"
        with errors.collecting():
            keys = sbatch_options.from_command_line(name, value)
            if "chdir" in keys:  # a job file's is relative to that file
                keys = {"chdir": files.absolute(user_settings.expand(str(value), origin))}
            found.append(layers.Layer(origin, keys))
    return found


def _with_read_options(layer: layers.Layer, errors: ErrorList) -> layers.Layer:
    """Return the layer with its table [sbatch] as sbatch_options reads it."""
    table = layer.values.get("sbatch")
    if not isinstance(table, Mapping):
        return layer
    read: Mapping[str, Any] = {}
    with errors.collecting():
        read = sbatch_options.of_table(table, layer.origin)
    return layers.Layer(layer.origin, {**layer.values, "sbatch": read})


def _refuse_extends(layer: layers.Layer, errors: ErrorList) -> None:
    """Add an error for a layer that is no job file, and extends a template all the same."""
    key = inheritance.JOB_TEMPLATES.key
    if key in layer.values:
        needed = f"`{key}` in a job file, or -t TEMPLATE in its place"
        errors.add(ConfigError(f"found {layer.values[key]!r}", needed, where=f"{layer.origin}: {key}"))


def _without_replaced(given: Sequence[layers.Layer]) -> list[layers.Layer]:
    """Return the layers without a role's GPUs or memory where a later layer states them, perhaps by another key."""
    kept: list[layers.Layer] = []
    replaced: set[tuple[str, str]] = set()
    for layer in reversed(given):
        roles = layer.values.get("roles")
        if not isinstance(roles, Mapping):
            kept.append(layer)
            continue
        tables = {
            name: {key: value for key, value in table.items() if (name, key) not in replaced}
            if isinstance(table, Mapping)
            else table
            for name, table in roles.items()
        }
        replaced |= {
            (name, key)
            for name, table in tables.items()
            for keys in ALTERNATIVES
            if isinstance(table, Mapping) and any(key in table for key in keys)
            for key in keys
        }
        kept.append(layers.Layer(layer.origin, {**layer.values, "roles": tables}))
    return kept[::-1]


def _with_arguments(resolved: layers.Resolved[JobSpec], arguments: Sequence[str]) -> JobSpec:
    """Return the job with more arguments in its command, which reach the program as they are. Raises UsageError."""
    spec = resolved.spec
    if not arguments or "command" in resolved.left_out:
        return spec
    own = [f"[roles.{name}]" for name, role in spec.roles.with_tasks.items() if role.command]
    if own or not spec.command:
        others = f"commands in {', '.join(own)}" if own else "no command"
        raise UsageError(
            f"found {' '.join(arguments)!r} behind --, and {others}",
            "one command for all roles",
            "a param has a place in one of them: [params] and {NAME} in the command",
        )
    return msgspec.structs.replace(spec, command=(*spec.command, *map(placeholders.literal, arguments)))


def _given(values: Sequence[str]) -> dict[str, str]:
    """Return the values of params by name. Raises UsageError."""
    found = {}
    for word in values:
        name, equals, value = word.partition("=")
        if not name or not equals:
            raise UsageError(f"found {word!r} after the job file", "NAME=VALUE, a value of one of its params")
        found[name] = value
    return found


def _from_command_line(overrides: Sequence[str]) -> list[layers.Layer]:
    found = []
    for override in overrides:
        key, equals, text = override.partition("=")
        if not key or not equals:
            raise UsageError(f"found --set {override!r}", "KEY=VALUE, such as --set roles.worker.count=4")
        value = _toml_value(text)
        for part in reversed(key.split(".")):
            value = {part: value}
        found.append(layers.Layer("command line: --set", value))
    return found


def _toml_value(text: str) -> Any:  # noqa: ANN401 - whatever TOML can say
    """Return `text` as a TOML value, or as it is where it is none: --set partition=gpu needs no quotes."""
    try:
        return layers.plain_values(tomllib.loads(f"value = {text}")["value"])
    except tomllib.TOMLDecodeError:
        return text
