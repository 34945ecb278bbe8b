"""Reads a program, and never runs it, for what a job file needs to know: how it is distributed, and its options."""

import ast
import re
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec.job_file import ParamType, ParamValue
from slurm_tf.run import placeholders

# What programs of 2016 read of their task, which slurm-tf types for them (cluster-flags).
_CLUSTER_FLAGS = ("ps_hosts", "worker_hosts", "job_name", "task_index")
_TYPES: dict[str, ParamType] = {"int": "int", "float": "float", "str": "str", "Path": "path"}
# of absl.flags, which tf.app.flags of TensorFlow 1 is
_DEFINED: dict[str, ParamType] = {
    "DEFINE_integer": "int", "DEFINE_float": "float", "DEFINE_string": "str", "DEFINE_enum": "str",
    "DEFINE_bool": "bool", "DEFINE_boolean": "bool",
}  # fmt: skip
_OF_FIT = frozenset({"batch_size", "callbacks", "epochs", "steps_per_epoch", "validation_data", "validation_split"})


class ProgramKind(Enum):
    """How a program is distributed, by what it calls; its value says so in words."""

    PS_FLAGS = "it reads --ps_hosts and --worker_hosts"
    HOROVOD = "it imports horovod"
    PARAMETER_SERVER = "it uses ParameterServerStrategy"
    MULTI_WORKER = "it uses MultiWorkerMirroredStrategy"
    MIRRORED = "it uses MirroredStrategy"
    SLURM_TF = "it imports slurm_tf.train"
    KERAS_FIT = "it calls model.fit of Keras, and does not distribute it"
    OTHER = "nothing in it distributes its training"


# Names of TensorFlow, those of older releases as well.
_STRATEGIES = {
    "ParameterServerStrategy": ProgramKind.PARAMETER_SERVER,
    "ParameterServerStrategyV2": ProgramKind.PARAMETER_SERVER,
    "MultiWorkerMirroredStrategy": ProgramKind.MULTI_WORKER,
    "CollectiveAllReduceStrategy": ProgramKind.MULTI_WORKER,
    "MirroredStrategy": ProgramKind.MIRRORED,
}


@dataclass(frozen=True, slots=True)
class ProgramOption:
    """An option of a program, as a param. `flag`: what stands in the command before its value, "" for a position.

    `default`: None for one that must be given. `left_out`: why it is no param, "" if it is one.
    """

    name: str
    line: int
    flag: str = ""
    type: ParamType = "str"
    default: ParamValue | None = None
    choices: tuple[ParamValue, ...] = ()
    help: str = ""
    left_out: str = ""


@dataclass(frozen=True, slots=True)
class Outline:
    """What a program is. `line`: where that is seen, 0 for nowhere; `fits`: the calls of model.fit of Keras."""

    kind: ProgramKind
    line: int
    options: tuple[ProgramOption, ...]
    fits: tuple[ast.Call, ...]


def read(path: Path) -> tuple[str, ast.Module]:
    """Return the text of a program and what Python makes of it. Raises ConfigError."""
    try:
        with tokenize.open(path) as file:
            text = file.read()
        return text, ast.parse(text)
    except OSError as error:
        raise ConfigError(
            f"cannot be read ({error.strerror})", "a program that can be read", where=str(path)
        ) from error
    except SyntaxError as error:
        needed = "a program of Python 3"
        raise ConfigError(f"found {error.msg} in line {error.lineno}", needed, where=str(path)) from error
    except (UnicodeDecodeError, ValueError) as error:
        raise ConfigError("it is no text that Python reads", "a program of Python 3", where=str(path)) from error


def outline(tree: ast.Module) -> Outline:
    """Return what a program is."""
    options = tuple(_options(tree))
    fits = _fits(tree)
    kind, line = _kind(tree, options, fits)
    hidden = _CLUSTER_FLAGS if kind is ProgramKind.PS_FLAGS else ()
    first = {each.name: each for each in reversed(options) if each.name not in hidden}
    return Outline(kind, line, tuple(each for each in options if first.get(each.name) is each), fits)


def _kind(tree: ast.Module, options: tuple[ProgramOption, ...], fits: tuple[ast.Call, ...]) -> tuple[ProgramKind, int]:
    """Return how a program is distributed, and the line that says so."""
    seen: dict[ProgramKind, int] = {}
    for each in options:
        if each.name == "ps_hosts":
            seen.setdefault(ProgramKind.PS_FLAGS, each.line)
    for node in ast.walk(tree):
        for module in _imported(node):
            by_module = {"horovod": ProgramKind.HOROVOD, "slurm_tf": ProgramKind.SLURM_TF}
            if found := by_module.get(module.partition(".")[0]):
                seen.setdefault(found, getattr(node, "lineno", 0))
        for name in (_name(node), *_taken(node)):
            if name in _STRATEGIES:
                seen.setdefault(_STRATEGIES[name], getattr(node, "lineno", 0))
    if fits:
        seen.setdefault(ProgramKind.KERAS_FIT, fits[0].lineno)
    return next(((kind, seen[kind]) for kind in ProgramKind if kind in seen), (ProgramKind.OTHER, 0))


def _imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []


def _taken(node: ast.AST) -> list[str]:
    """Return the names that a `from ... import` takes."""
    return [alias.name for alias in node.names] if isinstance(node, ast.ImportFrom) else []


def _name(node: ast.AST) -> str:
    """Return the last name of `tf.distribute.MirroredStrategy`, "" of what is no name."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _fits(tree: ast.Module) -> tuple[ast.Call, ...]:
    """Return the calls of model.fit of Keras: scikit-learn's know no epochs, batches or callbacks."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)]
    found = [call for call in calls if _name(call.func) == "fit" and _OF_FIT & {each.arg for each in call.keywords}]
    return tuple(sorted(found, key=lambda call: call.lineno))


def _options(tree: ast.Module) -> Iterator[ProgramOption]:
    """Yield the options of argparse and of absl.flags, in the order of the program."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for call in sorted(calls, key=lambda call: (call.lineno, call.col_offset)):
        name = _name(call.func)
        if name == "add_argument":
            yield from _of_argparse(call)
        elif name.startswith("DEFINE_"):
            yield from _of_flags(call, name)


def _literal(node: ast.expr | None, otherwise: object = None) -> object:
    """Return the value of a literal; `...` of what is computed, which no program's option is."""
    if node is None:
        return otherwise
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return ...


def _of_argparse(call: ast.Call) -> Iterator[ProgramOption]:
    words = [_literal(each) for each in call.args]
    texts = [each for each in words if isinstance(each, str)]
    flags = [each for each in texts if each.startswith("-")]
    flag = max(flags, key=len, default="")
    name = (flag or next(iter(texts), "")).lstrip("-")
    if not name:
        return
    given = {each.arg: each.value for each in call.keywords if each.arg}
    option = ProgramOption(name, call.lineno, flag)
    yield _complete(option, given, is_required=not flag or _literal(given.get("required")) is True)


def _complete(option: ProgramOption, given: dict[str, ast.expr], is_required: bool) -> ProgramOption:
    """Return an option of argparse with its type, default, choices and help, or why it is left out."""
    default = _literal(given.get("default"))
    choices = _literal(given.get("choices"), ())
    kind = _TYPES.get(_name(given["type"])) if "type" in given else _type_of(default)
    text = _help(_literal(given.get("help")))
    why = ""
    if "action" in given and _literal(given["action"]) != "store":
        why = "a switch without a value"
    elif "nargs" in given:
        why = "it may take several values, or none"
    elif kind is None:
        why = "its type is the program's own"
    elif default is ... or choices is ... or not isinstance(choices, tuple | list):
        why = "its default or its choices are computed"
    elif default is None and not is_required:
        why = "it has no default"
    return _checked(
        option, kind or "str", default, tuple(choices) if isinstance(choices, tuple | list) else (), text, why
    )


def _of_flags(call: ast.Call, name: str) -> Iterator[ProgramOption]:
    """Yield an option of absl.flags: DEFINE_integer(name, default, help), DEFINE_enum(name, default, values, help)."""
    is_enum = name == "DEFINE_enum"
    places = ("name", "default", "enum_values", "help") if is_enum else ("name", "default", "help")
    given = dict(zip(places, call.args, strict=False)) | {each.arg: each.value for each in call.keywords if each.arg}
    typed, default, kind = _literal(given.get("name")), _literal(given.get("default")), _DEFINED.get(name)
    choices = _literal(given.get("enum_values"), ())
    if not isinstance(typed, str):
        return
    why = ""
    if kind is None:
        why = "its type is the program's own"
    elif default is ... or not isinstance(choices, tuple | list):
        why = "its default or its choices are computed"
    elif default is None:
        why = "it has no default"
    option = ProgramOption(typed, call.lineno, f"--{typed}")
    values = tuple(choices) if isinstance(choices, tuple | list) else ()
    yield _checked(option, kind or "str", default, values, _help(_literal(given.get("help"))), why)


def _checked(
    option: ProgramOption, kind: ParamType, default: object, choices: tuple[object, ...], text: str, why: str
) -> ProgramOption:
    """Return the option with what is known of it, left out if that is no param."""
    if kind == "float":
        default, choices = _as_float(default), tuple(map(_as_float, choices))
    values = [*choices, *([] if default is None else [default])]
    if not why and not placeholders.NAME.fullmatch(option.name):
        why = "no param can have its name"
    if not why and any(_type_of(each) != ("str" if kind == "path" else kind) for each in values):
        why = f"its default or its choices are not of its type, {kind}"
    if not why and any(isinstance(each, str) and not each.isprintable() for each in values):
        why = "its default or its choices have control characters"
    if why:
        return ProgramOption(option.name, option.line, option.flag, left_out=why)
    known = tuple(each for each in choices if isinstance(each, int | float | str))
    value = default if isinstance(default, int | float | str) else None
    return ProgramOption(option.name, option.line, option.flag, kind, value, known, text)


def _as_float(value: object) -> object:
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def _type_of(value: object) -> ParamType | None:
    """Return the type of a default, of None that of any text."""
    kinds: tuple[tuple[type, ParamType], ...] = ((bool, "bool"), (int, "int"), (float, "float"), (str, "str"))
    if value is None or value is ...:
        return "str"
    return next((name for kind, name in kinds if isinstance(value, kind)), None)


def _help(value: object) -> str:
    """Return a text of help in one line, without what argparse fills in."""
    text = value if isinstance(value, str) else ""
    text = re.sub(r"\s*[\[(]?(default\s*[:=]?\s*)?%\(\w+\)\w[\])]?", "", text).replace("%%", "%")
    return "".join(each if each.isprintable() else "?" for each in " ".join(text.split()))
