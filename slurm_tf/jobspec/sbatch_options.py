"""Reads options of sbatch: on the command line, in SBATCH_ variables, and as keys of [sbatch].

An option that the table does not have may be a site's own (SPANK), or of a newer release: it takes a value on the
command line, and is written into the script as it is.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from slurm_tf import units
from slurm_tf.errors import ConfigError, UnitError, UsageError
from slurm_tf.jobspec import key_advice, layers
from slurm_tf.jobspec.error_list import ErrorList
from slurm_tf.jobspec.sbatch_table import ALIASES, OPTIONS, Argument, SbatchOption, Use
from slurm_tf.slurm import sbatch_variables

Value = str | bool

# Options that the verb obeys.
OF_VERB = frozenset(option.name for option in OPTIONS.values() if option.use is Use.VERB)
# Options that a job of slurm-tf may have.
USABLE = tuple(option.name for option in OPTIONS.values() if option.use is not Use.REFUSED)

# Of what `parse` returns: the job template that -t names.
TEMPLATE = "template"

_LETTERS = {option.letter: option for option in OPTIONS.values() if option.letter}
_NAME = re.compile(r"[a-z][a-z0-9-]*", re.ASCII)
# With these values sbatch prints what there is, and submits nothing.
_HELP = {"gres": ("help", "list"), "hint": ("help",), "mem-bind": ("help",)}
_TIME = "time"
# Of options with a value for yes and for no.
_TRUE = {"no": "yes", "0": "1"}


def parse(arguments: Sequence[str]) -> tuple[list[str], dict[str, Value]]:
    """Return the arguments that are no options, and each option's value by its long name; True for a flag.

    As sbatch does: names may be abbreviated, and the last of several equal options counts; of --verbose, how many. But
    -t with what is no time names a job template (TEMPLATE). Raises UsageError.
    """
    plain: list[str] = []
    options: dict[str, Value] = {}
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument == "--":
            return plain + rest, options
        if argument.startswith("--"):
            _long(argument, rest, options)
        elif argument.startswith("-") and len(argument) > 1:
            _short(argument, rest, options)
        else:
            plain.append(argument)
    return plain, options


def from_command_line(name: str, value: Value) -> Mapping[str, Any]:
    """Return an option as keys of the job file. Raises ConfigError."""
    return _as_keys(name, value, f"command line: --{name}", "")


def from_environ(environ: Mapping[str, str], errors: ErrorList) -> list[tuple[str, Mapping[str, Any]]]:
    """Return each variable that is about the job, as keys of the job file; those that are wrong are added to `errors`.

    Without what only sbatch itself or the verb obeys. An empty variable of an option that needs a value says nothing.
    """
    found = []
    for variable, name in sbatch_variables.OPTIONS.items():
        option, text = OPTIONS[name], environ.get(variable)
        if text is None or variable in sbatch_variables.FOR_SBATCH or option.use is Use.VERB:
            continue
        if text or option.argument is not Argument.REQUIRED:
            origin = f"environment: {variable}"
            with errors.collecting():
                found.append((origin, _as_keys(name, _of_variable(option, text), origin, f"unset {variable}")))
    return found


def of_table(table: Mapping[str, Any], origin: str) -> dict[str, Any]:
    """Return the table [sbatch] of a layer with one name and one kind of value for each option.

    `no-requeue` becomes `requeue`; false becomes the value that says so, False where the option is then not set. Raises
    ConfigError for all that is wrong.
    """
    read: dict[str, Any] = {}
    errors = ErrorList()
    for key, given in table.items():
        with errors.collecting():
            name, value = _of_entry(key, given, f"{origin}: sbatch.{key}", read)
            read[name] = value
    errors.raise_all()
    return read


def _of_entry(key: str, given: object, where: str, read: Mapping[str, Any]) -> tuple[str, object]:
    """Return the name and the value of one key of [sbatch]; `read`: those before it. Raises ConfigError."""
    option = _in_table(key, given, where)
    name, value = (option.name, _checked(option, given, where)) if option else (key, given)
    if name == "no-requeue":
        name, value = "requeue", value if value == "" else not value
    if read.get(name, value) != value:
        raise ConfigError(f"found {key} and another name of the same option", "one of them", where=where)
    return name, value


def _long(argument: str, rest: list[str], options: dict[str, Value]) -> None:
    typed, equals, value = argument[2:].partition("=")
    option = _abbreviated(typed)
    if option is None:
        options[typed] = value if equals else _next(argument, typed, rest)
    elif equals and option.argument is Argument.NONE:
        raise UsageError(f"found {argument}", f"--{option.name}, which takes no value")
    elif equals:
        options[option.name] = value
    else:
        _set(option, argument, rest, options)


def _short(argument: str, rest: list[str], options: dict[str, Value]) -> None:
    """Parse -p gpu, -pgpu, or flags together as in -HW into `options`. Raises UsageError."""
    letters = argument[1:]
    while letters:
        option = _LETTERS.get(letters[0])
        if option is None:
            raise UsageError(f"found the option -{letters[0]} in {argument!r}", "an option of sbatch")
        letters = letters[1:]
        if letters and option.argument is not Argument.NONE:
            options[_meant(option, letters)] = letters
            return
        if option.name == _TIME and rest:
            value = rest.pop(0)
            options[_meant(option, value)] = value
            return
        _set(option, f"-{option.letter}", rest, options)


def _meant(option: SbatchOption, value: str) -> str:
    """Return the name of the option that a letter with a value means."""
    if option.name != _TIME:
        return option.name
    try:
        units.parse_time(value)
    except UnitError:
        return TEMPLATE
    return option.name


def _set(option: SbatchOption, argument: str, rest: list[str], options: dict[str, Value]) -> None:
    """Take an option that stands alone, or before its value."""
    if option.argument is Argument.REQUIRED:
        options[option.name] = _next(argument, option.name, rest)
    elif option.name == "verbose":
        options["verbose"] = str(int(options.get("verbose", 0)) + 1)
    else:
        options[option.name] = True


def _next(argument: str, name: str, rest: list[str]) -> str:
    if not rest:
        raise UsageError(f"option {argument} has no value", f"--{name}=VALUE")
    return rest.pop(0)


def _abbreviated(name: str) -> SbatchOption | None:
    """Return the option of a name that may be shortened, None for one that is not known. Raises UsageError."""
    if name in OPTIONS or name in ALIASES:
        return OPTIONS[ALIASES.get(name, name)]
    possible = {ALIASES.get(each, each) for each in (*OPTIONS, *ALIASES) if each.startswith(name)}
    if len(possible) > 1:
        raise UsageError(f"found --{name}", f"one of {', '.join(f'--{each}' for each in sorted(possible))}")
    return OPTIONS[possible.pop()] if possible else None


def _as_keys(name: str, value: Value, origin: str, hint: str) -> Mapping[str, Any]:
    option = OPTIONS.get(name)
    if option is None or option.use is Use.KEPT:
        try:
            return {"sbatch": of_table({name: value}, origin)}
        except ConfigError as error:
            do = ", and ".join(filter(None, (hint, error.do)))
            raise ConfigError(error.found, error.needed, do, origin) from error
    if option.use is Use.KEY:
        return {option.instead: value}
    found = f"found {value!r}" if isinstance(value, str) else "found it"
    raise ConfigError(found, option.instead, hint or key_advice.as_set(name, value), origin)


def _of_variable(option: SbatchOption, text: str) -> Value:
    """Return the value that sbatch gives an option by its variable; "" for an option that is then not set."""
    if option.argument is Argument.NONE or (option.name == "requeue" and text.lower() != "expedite"):
        return sbatch_variables.is_set(text) or ""
    return text or True


def _in_table(key: str, given: object, where: str) -> SbatchOption | None:
    """Return the option of a key of [sbatch], None for an unknown one. Raises ConfigError for one not allowed."""
    option = OPTIONS.get(ALIASES.get(key, key))
    if option is None:
        known = [each for each in (*OPTIONS, *ALIASES) if each.startswith(key)]
        if known or not _NAME.fullmatch(key):
            needed, hint = "a long option of sbatch without its dashes", layers.nearest(key, known or list(OPTIONS))
            raise ConfigError(f"found the option {key!r}", needed, hint, where)
        return None
    if option.use is Use.KEPT:
        return option
    needed = {
        Use.KEY: f"the key `{option.instead}`",
        Use.VERB: f"it on the command line: slurm-tf submit JOB --{option.name}",
        Use.REFUSED: option.instead,
    }[option.use]
    advice = key_advice.of_word(key, given)
    raise ConfigError(f"found the option {key}", needed, advice.example if advice else "", where)


def _checked(option: SbatchOption, value: object, where: str) -> object:
    """Return the value as it is written into the script. Raises ConfigError."""
    if isinstance(value, bool):
        return _of_bool(option, value, where)
    if option.argument is Argument.NONE and value != "":
        raise ConfigError(f"found {value!r}", "true or false", where=where)
    if value in _HELP.get(option.name, ()):
        raise ConfigError(f"found {value!r}", "a value", f"sbatch --{option.name}={value} prints what there is", where)
    if option.name in key_advice.GPU_KEYS and isinstance(value, str):
        _refuse_gpus(option.name, value, where)
    return value


def _of_bool(option: SbatchOption, value: bool, where: str) -> Value:
    found = f"found {str(value).lower()}"
    if option.argument is Argument.REQUIRED and not option.false:
        raise ConfigError(found, "a value", where=where)
    if option.name == "oversubscribe" and not value:
        needed = "true: without it the partition decides"
        raise ConfigError(found, needed, "the key `exclusive` keeps other jobs from the nodes", where)
    if value:
        return _TRUE[option.false] if option.argument is Argument.REQUIRED else True
    return option.false or False


def _refuse_gpus(name: str, value: str, where: str) -> None:
    """Raise ConfigError if the list asks for GPUs, which the launcher divides among tasks by what the roles say."""
    gpus, rest = key_advice.gpus_and_rest(value)
    if gpus:
        key = key_advice.GPU_KEYS[name]
        hint = f"say --set roles.worker.{key}={gpus}" + (f" --{name}={rest}" if rest else "")
        advice = key_advice.of_word(name, value)
        if advice and not where.startswith(("command line: ", "environment: ")):
            hint = advice.example
        raise ConfigError(f"found {value!r}", f"`{key}` in a role's table for GPUs", hint, where)
