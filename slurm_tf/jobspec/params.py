"""Params of a job: the values that fill its command and env, checked against what the job file says of each.

A key of [sweep] is a param with several values; it needs no table in [params].
"""

import dataclasses
import math
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slurm_tf import files
from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import layers, user_settings
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.job_file import Param, ParamType, ParamValue
from slurm_tf.run import placeholders

_WHOLE = re.compile(r"[+-]?\d{1,18}", re.ASCII)
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# of the wrong values of a large sweep
_MOST_NAMED = 20
# Types of values, and those of params that may have them.
_MAY_BE = (("int", "float"), ("str", "path"))
_NEEDED: Mapping[ParamType, str] = {
    "int": "a whole number",
    "float": "a number",
    "str": "text without control characters",
    "bool": "true or false",
    "path": "the path of a file or folder",
}


@dataclass(frozen=True, slots=True)
class Params:
    """The values of a job's params: `fixed` ones, and those of a sweep, which differ between its points."""

    fixed: Mapping[str, ParamValue] = dataclasses.field(default_factory=dict)
    swept: Mapping[str, tuple[ParamValue, ...]] = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ParamForm:
    """What a form needs to know to ask for one param: all that its declaration says.

    `type`: None where the values that are swept have several; `swept`: the values of [sweep]; `required`: it has no
    value unless one is given.
    """

    name: str
    type: ParamType | None
    default: ParamValue | None
    swept: tuple[ParamValue, ...]
    min: int | float | None
    max: int | float | None
    choices: tuple[ParamValue, ...]
    help: str
    required: bool

    def wrong(self, typed: str) -> str:
        """Return what is wrong with a value that was typed, in words; "" if it may be given."""
        checker = _Checker(self.name, Param(min=self.min, max=self.max, choices=self.choices or None), self.type)
        checker.read(typed)
        return "".join(checker.wrong).removeprefix(f"{self.name}: ")

    @property
    def example(self) -> str:
        """A value that it may have, as one types it: to see whether a job with it would be sound."""
        kinds: Mapping[ParamType, ParamValue] = {
            "int": 1, "float": 1.0, "bool": False, "str": self.name, "path": f"/shared/{self.name}",
        }  # fmt: skip
        candidates = (*self.choices, self.min, self.max, kinds[self.type or "str"])
        texts = [placeholders.value_text(each) for each in candidates if each is not None]
        return next((text for text in texts if not self.wrong(text)), texts[-1])

    @property
    def needed(self) -> str:
        """What values it may have, in words."""
        return _needed(Param(min=self.min, max=self.max, choices=self.choices or None), self.type or "str")


def forms(job: Job) -> tuple[ParamForm, ...]:
    """Return what a form needs of each param of `job`: those of [params], then those of [sweep] alone.

    Raises ConfigError.
    """
    found = []
    for name, param in {**job.spec.params, **_declared(job)}.items():
        swept = job.spec.sweep.get(name, ())
        kind = _type(param, swept)
        _check_declaration(job, name, param, kind)
        form = ParamForm(
            name=name,
            type=kind,
            default=param.default,
            swept=swept,
            min=param.min,
            max=param.max,
            choices=param.choices or (),
            help=param.help,
            required=param.default is None and not swept,
        )
        found.append(form)
    return tuple(found)


def resolve(job: Job) -> Params:
    """Return the values of all params of `job`.

    A value that was given on the command line counts, else those of [sweep], else the default. Raises ConfigError, for
    wrong values one that names all of them.
    """
    spec, given = job.spec, job.given
    declared = _declared(job)
    types = {name: _type(param, spec.sweep.get(name, ())) for name, param in declared.items()}
    for name, param in declared.items():
        _check_declaration(job, name, param, types[name])
    wrong = [f"{name}={given[name]}: {_unknown(name, tuple(declared))}" for name in given if name not in declared]
    fixed: dict[str, ParamValue] = {}
    swept: dict[str, tuple[ParamValue, ...]] = {}
    for name, param in declared.items():
        checker = _Checker(name, param, types[name])
        if name in given:
            fixed[name] = _placed(job, types[name], checker.read(given[name]), "")
        elif name in spec.sweep:
            key = f"sweep.{name}"
            swept[name] = tuple(_placed(job, types[name], checker.check(each), key) for each in spec.sweep[name])
        elif param.default is not None:
            fixed[name] = _placed(job, types[name], param.default, f"params.{name}.default")
        else:
            checker.missing()
        wrong += checker.wrong
    if wrong:
        raise _error(job, wrong)
    _check_placeholders(job, tuple(declared))
    return Params(fixed, swept)


def _placed(job: Job, kind: ParamType | None, value: ParamValue, key: str) -> ParamValue:
    """Return a value as the program gets it: of a path the whole path, as the program runs in another folder.

    It starts at the working directory where it was typed, else at the file that states `key`. Raises ConfigError.
    """
    if kind != "path" or not isinstance(value, str) or not value:
        return value
    path = user_settings.expand(value, job.where(key) if key else "command line")
    origin = job.origins.get(key, "")
    folder = Path(origin.partition(": ")[0]).parent if os.path.exists(origin.partition(": ")[0]) else Path()
    return files.absolute(str(folder / path))


def _declared(job: Job) -> dict[str, Param]:
    return {**{name: Param() for name in job.spec.sweep}, **job.spec.params}


class _Checker:
    """Checks the values of one param, and collects in words what is `wrong` with them."""

    def __init__(self, name: str, param: Param, kind: ParamType | None) -> None:
        """`kind`: the type of its values, None for any."""
        self._name, self._param, self._kind = name, param, kind
        self.wrong: list[str] = []

    def read(self, typed: str) -> ParamValue:
        """Return the value that was typed on the command line."""
        value = _parse(typed, self._kind or "str")
        return self._add(repr(typed)) if value is None else self.check(value)

    def check(self, value: ParamValue) -> ParamValue:
        """Return a value of the job file."""
        return value if _is_allowed(value, self._param, self._kind) else self._add(_shown(value))

    def missing(self) -> None:
        """Note that there is no value."""
        self._add("")

    def _add(self, found: str) -> str:
        about = f" ({self._param.help})" if self._param.help else ""
        needed = _needed(self._param, self._kind or "str")
        what = f"found {found}; needed {needed}" if found else f"it has no value; needed {self._name}=VALUE, {needed}"
        self.wrong.append(f"{self._name}: {what}{about}")
        return found


def _type(param: Param, swept: Sequence[ParamValue]) -> ParamType | None:
    """Return the type of a param: as declared, else that of the values in its declaration, else of those swept.

    None where the values that are swept have several types.
    """
    if param.type:
        return param.type
    declared = [each for each in (param.default, param.min, param.max, *(param.choices or ())) if each is not None]
    kinds = {_type_of(each) for each in declared or swept}
    if kinds == {"int", "float"}:
        return "float"
    if len(kinds) < 2:
        return kinds.pop() if kinds else "str"
    return None if not declared else _type_of(declared[0])


def _type_of(value: ParamValue) -> ParamType:
    kinds: tuple[tuple[type, ParamType], ...] = ((bool, "bool"), (int, "int"), (float, "float"))
    return next((name for kind, name in kinds if isinstance(value, kind)), "str")


def _parse(typed: str, kind: ParamType) -> ParamValue | None:
    """Return what was typed as a value of type `kind`, None if it is none."""
    if kind in ("str", "path"):
        return typed
    if kind == "bool":
        return {"true": True, "false": False}.get(typed)
    if _WHOLE.fullmatch(typed):
        return int(typed)
    return float(typed) if kind == "float" and _NUMBER.fullmatch(typed) else None


def _is_allowed(value: ParamValue, param: Param, kind: ParamType | None) -> bool:
    if kind and (_type_of(value), kind) not in _MAY_BE and _type_of(value) != kind:
        return False
    if isinstance(value, str) and any(unicodedata.category(each) in ("Cc", "Cs") for each in value):
        return False
    if isinstance(value, float) and not math.isfinite(value):
        return False
    if param.choices and value not in param.choices:
        return False
    if isinstance(value, str):
        return True
    return (param.min is None or value >= param.min) and (param.max is None or value <= param.max)


def _shown(value: ParamValue) -> str:
    return repr(value) if isinstance(value, str) else placeholders.value_text(value)


def _needed(param: Param, kind: ParamType) -> str:
    if param.choices:
        return f"one of {', '.join(map(placeholders.value_text, param.choices))}"
    limits = ""
    if param.min is not None and param.max is not None:
        limits = f" from {param.min} to {param.max}"
    elif param.min is not None:
        limits = f", at least {param.min}"
    elif param.max is not None:
        limits = f", at most {param.max}"
    return _NEEDED[kind] + limits


def _unknown(name: str, known: tuple[str, ...]) -> str:
    if not known:
        return "the job has no params"
    near = layers.nearest(name, known)
    return f"no such param; needed one of {', '.join(known)}" + (f" ({near})" if near else "")


def _error(job: Job, wrong: Sequence[str]) -> ConfigError:
    where = f"{job.path}: params"
    if len(wrong) == 1:
        return ConfigError(wrong[0], where=where)
    more = [f"and {len(wrong) - _MOST_NAMED} more"] if len(wrong) > _MOST_NAMED else []
    lines = [f"\n  {each}" for each in (*wrong[:_MOST_NAMED], *more)]
    return ConfigError(f"{len(wrong)} values are wrong{''.join(lines)}", where=where)


def _check_declaration(job: Job, name: str, param: Param, kind: ParamType | None) -> None:
    """Raise ConfigError for a param that no value could satisfy, or whose own values do not fit each other."""
    where = job.where(f"params.{name}" if name in job.spec.params else f"sweep.{name}")
    if not placeholders.NAME.fullmatch(name):
        raise ConfigError(f"found the key {name!r}", "letters, digits, _ and -, no digit first", where=where)
    if name in job.spec.sweep and not job.spec.sweep[name]:
        raise ConfigError("found an empty list", "at least one value", where=where)
    for key in ("min", "max"):
        limit = getattr(param, key)
        if limit is not None and not (kind == "float" or (kind == "int" and isinstance(limit, int))):
            raise ConfigError(f"found {key} = {limit} of a param of type {kind}", "a number and its type", where=where)
    if param.min is not None and param.max is not None and param.min > param.max:
        raise ConfigError(f"found min = {param.min} and max = {param.max}", "min below max", where=where)
    own = [*(param.choices or ()), *([] if param.default is None else [param.default])]
    wrong = [each for each in own if not _is_allowed(each, param, kind)]
    if wrong:
        raise ConfigError(f"found {_shown(wrong[0])} among its own values", _needed(param, kind or "str"), where=where)


def _check_placeholders(job: Job, known: tuple[str, ...]) -> None:
    """Raise ConfigError unless each {NAME} in command, env, stage and serve is a param, and each param one of them."""
    spec, used = job.spec, dict[str, str]()
    for name, role in spec.roles.with_tasks.items():
        key = f"roles.{name}.command" if role.command else "command"
        used |= {found: key for word in spec.command_of(role) for found in placeholders.names(word)}
    used |= {found: "stage.paths" for path in spec.stage.paths for found in placeholders.names(path)}
    for model in spec.serve.models.items():
        used |= {found: "serve.models" for text in model for found in placeholders.names(text)}
    used |= {found: f"env.{key}" for key, value in spec.env.items() for found in placeholders.names(value)}
    unknown = [name for name in used if name not in known]
    if unknown:
        first, listed = unknown[0], ", ".join(f"{{{name}}}" for name in unknown)
        needed = f"a param of this name; the job has {', '.join(known) or 'none'}"
        do = f"declare it in [params]: {first} = VALUE; for the text {{{first}}} itself, write {{{{{first}}}}}"
        raise ConfigError(f"found {listed}", needed, do, job.where(used[first]))
    for name in known:
        if name not in used:
            needed = (
                f'an argument of `command` or a value of [env] that holds {{{name}}}, such as "--{name}={{{name}}}"'
            )
            key = f"sweep.{name}" if name in spec.sweep else f"params.{name}"
            raise ConfigError("nothing uses it", needed, where=job.where(key))
