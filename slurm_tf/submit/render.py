"""Renders a plan as a batch script. The only reader of templates/, and with plots/ the only user of Jinja.

A template can print only what a quoting filter returned: `{{ value }}` of plain text is an error, so that no template
can forget to quote. Blocks are inherited: base, then strategy, then site.
"""

import re
import shlex
import unicodedata
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from types import CodeType

import jinja2
from jinja2.bccache import Bucket
from jinja2.loaders import split_template_path
from jinja2.sandbox import SandboxedEnvironment

from slurm_tf import files, search_path
from slurm_tf.errors import TemplateError
from slurm_tf.jobspec import site_variables, step_container
from slurm_tf.jobspec.directives import Option
from slurm_tf.jobspec.plan import Plan

_OPTION_NAME = re.compile(r"[a-z][a-z0-9-]*", re.ASCII)
# What the shell says of a variable that is not set, behind its name.
_UNSET = "the site profile needs it"
# sbatch reads values of these characters in a directive without quotes (22.05.8).
_PLAIN = re.compile(r"[A-Za-z0-9_./:=,@%+^\[\]-]+", re.ASCII)


class Shell(str):
    """Text that a template may print as it is: quoted text, or the user's own shell lines."""

    __slots__ = ()


def script(plan: Plan, preflight: bool = False, examination: bool = False) -> str:
    """Return the batch script of `plan`, of its preflight alone, or of an examination of its nodes.

    The same plan gives the same text.

    Raises TemplateError.
    """
    job = plan.job
    environment = _Environment(
        loader=_TrustedLoader(job.trusted),
        undefined=jinja2.StrictUndefined,
        finalize=_only_quoted,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        bytecode_cache=_COMPILED,
    )
    environment.filters.update(sh=quote, directive=directive, option=option)
    name = f"site/{job.site.template}.sbatch.j2"
    values = {
        "strategy": f"strategy/{job.spec.strategy}.sbatch.j2",
        "components": plan.components,
        "srun": plan.layout.srun,
        "steps": plan.layout.steps,
        "tasks": len(plan.settings.tasks),
        "chdir": plan.chdir,
        "launcher": plan.submission.launcher,
        "modules": _modules(plan, examination),
        "node_python": job.site.node_python,
        "container_python": step_container.PYTHON,
        "point": _point(plan),
        "exports": [_export(name, value) for name, value in site_variables.of_script(job.site).items()],
        "preflight": preflight,
        "examination": examination,
        "programs": _programs(plan),
        "prologue": Shell(job.site.prologue.strip("\n")),
        "run_folder": plan.run.path,
        "submission_folder": plan.submission.path,
        "setup_checks": plan.submission.setup_checks,
        "setup": Shell(job.spec.setup.strip("\n")),
    }
    try:
        return environment.get_template(name).render(values)
    except jinja2.TemplateSyntaxError as error:
        raise TemplateError(
            error.message or "syntax error", where=f"{error.filename or error.name}:{error.lineno}"
        ) from error
    except jinja2.TemplateNotFound as error:
        folders = ", ".join(str(folder) for folder in search_path.folders("templates"))
        raise TemplateError(f"no script template {error.name}", f"one in {folders}") from error
    except jinja2.TemplateError as error:
        raise TemplateError(str(error), where=name) from error


def _export(name: str, value: str) -> Shell:
    """Return NAME=value for the shell's export: a leading ~ and variables are replaced in the job, all else is quoted.

    The job ends where a variable is not set: a cache in "$SCRATCH/cache" must not become "/cache".
    """
    if value == "~" or value.startswith("~/"):
        value = f"$HOME{value[1:]}"
    parts, end = [], 0
    for match in files.SHELL_VARIABLE.finditer(value):
        parts += [_literal(value[end : match.start()]), f'"${{{match[1] or match[2]}:?{_UNSET}}}"']
        end = match.end()
    return Shell(f"{name}={''.join([*parts, _literal(value[end:])])}")


def _literal(text: str) -> str:
    """Return text quoted for the shell; behind NAME= a "=" looks like a comparison, to shellcheck as to readers."""
    quoted = quote(text) if text else ""
    return f"'{text}'" if quoted == text and text.startswith("=") else quoted


def _programs(plan: Plan) -> list[Shell]:
    """Return what the tasks run, a line for each program; for readers of the script, as agents are told of it."""
    roles: dict[tuple[str, ...], list[str]] = {}
    for role in plan.settings.roles:
        roles.setdefault(role.command, []).append(role.name)
    return [Shell(f"{', '.join(names)}: {quote(command)}") for command, names in roles.items()]


def _modules(plan: Plan, examination: bool) -> tuple[str, ...]:
    """Return the site's modules, with those of its container runtime for a job that needs it or looks for it."""
    site, in_containers = plan.job.site, any(role.container for role in plan.settings.roles)
    return (*site.modules, *site.container.modules) if in_containers or examination else site.modules


def _point(plan: Plan) -> Shell:
    """Return the line that sets the index of the script's point.

    Where Slurm has no array it is an argument, which scripts that `setup` sources may not see.
    """
    if plan.array is None or plan.job.site.scheduler == "local":
        return Shell("")
    return Shell("point=$SLURM_ARRAY_TASK_ID" if plan.one_job else "point=$1; shift")


def quote(value: str | tuple[str, ...]) -> Shell:
    """Return one argument, or several, quoted for the shell."""
    return Shell(" ".join(_checked(word, shlex.quote) for word in ([value] if isinstance(value, str) else value)))


def directive(option: Option) -> Shell:
    """Return an option for an #SBATCH line.

    Seen on Slurm 22.05.8: between double quotes, a backslash makes sbatch take the next character as it is, and all
    other characters stand for themselves.
    """
    return _option(option, _quote_directive)


def option(option: Option) -> Shell:
    """Return an option for the shell."""
    return _option(option, shlex.quote)


def _option(option: Option, how: Callable[[str], str]) -> Shell:
    name, value = option
    if not _OPTION_NAME.fullmatch(name):
        raise TemplateError(f"found the option {name!r}", "letters, digits and dashes")
    if value is None:
        return Shell(f"--{name}")
    return Shell(f"--{name}={_checked(value, how)}")


def _quote_directive(text: str) -> str:
    return text if _PLAIN.fullmatch(text) else '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _checked(text: str, how: Callable[[str], str]) -> str:
    if any(unicodedata.category(character) in ("Cc", "Cs") for character in text):
        raise TemplateError(f"found {text!r}", "text without control characters")
    return how(text)


def _only_quoted(value: object) -> object:
    if isinstance(value, Shell | int | jinja2.Undefined):
        return value
    raise TemplateError(
        f"a script template prints {value!r} as it is", "a filter that quotes it: sh, option or directive"
    )


class _Environment(SandboxedEnvironment):
    """Knows that what a template has printed is quoted: `super()`, `self.BLOCK()` and macros may be printed again."""

    @staticmethod
    def concat(parts: Iterable[str]) -> Shell:
        """Return one text: `finalize` has seen each part."""
        return Shell("".join(parts))


class _CompiledTemplates(jinja2.BytecodeCache):
    """Keeps compiled templates while this process lives, for commands that render the scripts of many jobs."""

    def __init__(self) -> None:
        self._codes: dict[tuple[str, str], CodeType] = {}

    def load_bytecode(self, bucket: Bucket) -> None:
        """Give the bucket what was compiled from the same text."""
        bucket.code = self._codes.get((bucket.key, bucket.checksum))

    def dump_bytecode(self, bucket: Bucket) -> None:
        """Keep what was compiled."""
        if bucket.code is not None:
            self._codes[bucket.key, bucket.checksum] = bucket.code


_COMPILED = _CompiledTemplates()


class _TrustedLoader(jinja2.BaseLoader):
    """Loads only templates that none but trusted users can have written: what they hold runs with our rights."""

    def __init__(self, trusted: Collection[str]) -> None:
        self._folders = [*reversed(search_path.folders("templates"))]
        self._trusted = trusted

    def get_source(self, environment: jinja2.Environment, template: str) -> tuple[str, str, Callable[[], bool]]:  # noqa: ARG002
        """Return a template's text and path. Raises TemplateNotFound, TemplateError or ConfigError."""
        for folder in self._folders:
            path = folder.joinpath(*split_template_path(template))
            if files.identity(str(path)):
                return _decoded(search_path.read(path, self._trusted), path), str(path), lambda: True
        raise jinja2.TemplateNotFound(template)


def _decoded(data: bytes, path: Path) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise TemplateError(f"byte {error.start} is no UTF-8", "UTF-8 text", where=str(path)) from error
