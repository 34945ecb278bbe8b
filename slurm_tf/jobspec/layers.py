"""Reads layers of configuration, checks their keys and merges them; each value keeps its origin.

An error names one file and one key, the value that was found, what was needed, and the nearest known key, or an
example. All errors are found at once.
"""

import difflib
import re
import sys
import types
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

import msgspec
import tomllib

from slurm_tf.errors import ConfigError, UnitError
from slurm_tf.jobspec import toml_values
from slurm_tf.jobspec.error_list import Advice, ErrorList
from slurm_tf.run import env

T = TypeVar("T", bound=msgspec.Struct)

_AT = re.compile(r"(?P<text>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?", re.DOTALL)
_EXPECTED = re.compile(r"Expected `(?P<types>[^`]*)`(?P<limit>[^,]*)(?:, got `(?P<got>[^`]*)`)?")
_MISSING = re.compile(r"Object missing required field `(?P<key>[^`]*)`")
_INDEX = re.compile(r"\[\d*\]", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_LINE = re.compile(r"at line (?P<number>\d+)", re.ASCII)
_UNQUOTED = re.compile(r"\s*(?P<key>[\w.-]+)\s*=\s*(?P<value>[^\s\"'\[\]{}#][^\"'\[\]{}#]*?)\s*(#.*)?", re.ASCII)
# In the place of a path.
STANDARD_INPUT = "-"
_NO_JOB_FILE = "a job file names the program, and is no script itself: `slurm-tf examples` copies some to start from"
_TYPE_NAMES = {"int": "a whole number", "str": "text", "bool": "true or false", "array": "a list", "object": "a table"}


@dataclass(frozen=True)
class Layer:
    """The values of one source; `origin` names it in messages."""

    origin: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Resolved(Generic[T]):
    """A merged spec, and the origin of each key by its dotted path; keys that no layer sets are not in `origins`.

    `errors`: what is wrong with the layers; `left_out`: the dotted paths of the keys that are not in `spec` therefore.
    """

    spec: T
    origins: Mapping[str, str]
    errors: tuple[ConfigError, ...] = ()
    left_out: frozenset[str] = frozenset()


# Returns what to write for an unknown key, by its dotted path and its value; None where nobody knows.
AdviceOfKey = Callable[[str, object], Advice | None]


def read_toml(path: Path) -> dict[str, Any]:
    """Return the values of a TOML file, or of standard input. Raises ConfigError."""
    try:
        data = sys.stdin.buffer.read() if str(path) == STANDARD_INPUT else path.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot be read ({error.strerror})", "a file that can be read", where=str(path)) from error
    return parse_toml(data, path)


def parse_toml(data: bytes, path: Path) -> dict[str, Any]:
    """Return the values of TOML that was read from `path`. Raises ConfigError."""
    text = ""
    try:
        text = data.decode("utf-8-sig")
        values: dict[str, Any] = plain_values(tomllib.loads(text))
    except UnicodeDecodeError as error:
        raise ConfigError(f"byte {error.start} is no UTF-8", "TOML, which is UTF-8 text", where=str(path)) from error
    except tomllib.TOMLDecodeError as error:
        do = _NO_JOB_FILE if text.startswith("#!") or path.suffix == ".py" else _quotes(text, str(error))
        raise ConfigError(str(error), "TOML (https://toml.io)", do, str(path)) from error
    return values


def plain_values(value: Any) -> Any:  # noqa: ANN401 - whatever TOML can say
    """Return a value of TOML with its own times and dates as text: `time = 12:00:00` needs no quotes."""
    if isinstance(value, dict):
        return {key: plain_values(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain_values(item) for item in value]
    return value.isoformat() if isinstance(value, date | time) else value  # a datetime is a date


def _quotes(text: str, error: str) -> str:
    """Return a hint to quote the value of the line that an error of tomllib names, "" where that would not help."""
    at = _LINE.search(error)
    line = text.split("\n")[int(at["number"]) - 1] if at else ""
    found = _UNQUOTED.fullmatch(line.rstrip())
    if found is None:
        return ""
    if found["key"] == "command":
        return toml_values.command(found["value"])
    return f'text, and times from 24:00:00 on, are written in quotes: {found["key"]} = "{found["value"]}"'


def resolve(layers: Sequence[Layer], spec: type[T]) -> Resolved[T]:
    """Merge `layers`, the last one strongest, into a `spec`: tables merge, all else replaces.

    Raises ConfigError, which names all that is wrong.
    """
    found = resolve_all(layers, spec)
    ErrorList(found.errors).raise_all()
    return found


def resolve_all(
    layers: Sequence[Layer],
    spec: type[T],
    advice: AdviceOfKey = lambda _path, _value: None,
    stand_ins: Mapping[str, object] = {},
) -> Resolved[T]:
    """Merge `layers` as `resolve` does, and leave out what is wrong, so that all else can be checked as well.

    `stand_ins`: values of the keys that a spec must have, in the place of wrong ones.
    """
    errors, unknown = ErrorList(), _UnknownKeys(advice)
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        known = unknown.without(layer.values, spec, layer.origin, "")
        _merge(merged, layer, known, "", origins)
    for error in unknown.errors:
        errors.add(error)
    left_out = {path for path in unknown.meant if _is_unset(merged, path)}
    while True:
        try:
            converted = msgspec.convert(merged, spec)
        except msgspec.ValidationError as error:
            path, explained = _explain(str(error), merged, spec, origins, layers)
            if path not in left_out:
                errors.add(explained)
            if not _leave_out(merged, path, stand_ins):
                raise explained from error
            left_out.add(_INDEX.sub("", path))
        else:
            return Resolved(converted, origins, tuple(errors.errors), frozenset(left_out))


def merged(layers: Sequence[Layer]) -> dict[str, Any]:
    """Return the values of layers, the last one strongest: tables merge, all else replaces."""
    values: dict[str, Any] = {}
    for layer in layers:
        _merge(values, layer, layer.values, "", {})
    return values


def nearest(name: str, known: Sequence[str]) -> str:
    """Return a hint that names the known name most like `name`, "" if none is."""
    found = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {found[0]!r}?" if found else ""


def check_strings(
    spec: msgspec.Struct, where: str, free: Sequence[str], origins: Mapping[str, str] = MappingProxyType({})
) -> None:
    """Raise ConfigError for a control character in any text of `spec` but the top-level fields `free`.

    `where`: the file, of keys that are not in `origins`.

    Quoting makes all other characters harmless; a newline would begin a new line of the script. The free fields are
    shell lines, which may hold newlines and tabs.
    """
    errors = ErrorList()
    for path, text in _texts(msgspec.to_builtins(spec, str_keys=True), ""):
        allowed = "\n\t" if path in free else ""
        bad = [c for c in text if c not in allowed and unicodedata.category(c) in ("Cc", "Cs")]
        if bad:
            needed = f"text without control characters (here U+{ord(bad[0]):04X})"
            errors.add(
                ConfigError(f"found {text!r}", needed, where=f"{origins.get(_INDEX.sub('', path), where)}: {path}")
            )
    errors.raise_all()


def check_unit(value: str | int | None, parse: Callable[[str], object], where: str) -> None:
    """Raise ConfigError if `parse` cannot read `value`."""
    try:
        if value is not None:
            parse(str(value))
    except UnitError as error:
        raise ConfigError(error.found, error.needed, where=where) from error


def check_variable(name: str, where: str) -> None:
    """Raise ConfigError for what is no name of an environment variable, or that of one which is not the user's."""
    if not _VARIABLE.fullmatch(name):
        raise ConfigError(f"found the name {name!r}", "letters, digits and _, no digit first", where=where)
    if name in env.RESERVED or name.startswith(env.RESERVED_PREFIXES):
        raise ConfigError(f"found {name}", "a variable that neither Slurm nor slurm-tf sets", where=where)


def _texts(value: object, path: str) -> list[tuple[str, str]]:
    if isinstance(value, str):
        return [(path, value)]
    if isinstance(value, Mapping):
        inside = [(f"{path}.{key}" if path else str(key), item) for key, item in value.items()]
        keys = [(name, str(name.rpartition(".")[2])) for name, _ in inside]
        return keys + [text for name, item in inside for text in _texts(item, name)]
    if isinstance(value, list | tuple):
        return [text for index, item in enumerate(value) for text in _texts(item, f"{path}[{index}]")]
    return []


def _struct_of(annotation: object) -> type[msgspec.Struct] | None:
    """Return the Struct in `annotation`: itself or one of its alternatives."""
    if isinstance(annotation, type) and issubclass(annotation, msgspec.Struct):
        return annotation
    if get_origin(annotation) in (Annotated, Union, types.UnionType):
        return next(filter(None, map(_struct_of, get_args(annotation))), None)
    return None


def _values_of(annotation: object) -> object:
    """Return the annotation of the values of a free table, None of anything else."""
    if get_origin(annotation) is Annotated:
        return _values_of(get_args(annotation)[0])
    return get_args(annotation)[1] if get_origin(annotation) is dict else None


@lru_cache
def _fields(spec: type[msgspec.Struct]) -> Mapping[str, object]:
    return {each.encode_name: each.type for each in msgspec.structs.fields(spec)}


class _UnknownKeys:
    """Finds keys that a spec does not have; `meant`: the dotted paths of known keys that they are most like."""

    def __init__(self, advice: AdviceOfKey) -> None:
        self.errors: list[ConfigError] = []
        self.meant: set[str] = set()
        self._advice = advice

    def without(self, values: Mapping[str, Any], spec: type[msgspec.Struct], origin: str, path: str) -> dict[str, Any]:
        """Return `values` without them."""
        known, kept = _fields(spec), {}
        for key, value in values.items():
            at = f"{path}{key}"
            if key in known:
                kept[key] = self._inside(value, known[key], origin, at)
            else:
                self._add(key, value, list(known), origin, at)
        return kept

    def _inside(self, value: object, annotation: object, origin: str, at: str) -> object:
        inner, each = _struct_of(annotation), _struct_of(_values_of(annotation))
        if inner and isinstance(value, Mapping):
            return self.without(value, inner, origin, f"{at}.")
        if each and isinstance(value, Mapping):
            return {
                name: self.without(table, each, origin, f"{at}.{name}.") if isinstance(table, Mapping) else table
                for name, table in value.items()
            }
        return value

    def _add(self, key: str, value: object, known: list[str], origin: str, at: str) -> None:
        advice = self._advice(at, value)
        needed, do = (advice.needed, advice.example) if advice else (f"one of {', '.join(known)}", nearest(key, known))
        self.errors.append(ConfigError(f"found the key {key!r}", needed, do, f"{origin}: {at}"))
        for like in difflib.get_close_matches(key, known, n=1):
            self.meant.add(f"{at.removesuffix(key)}{like}")


def _is_unset(values: Mapping[str, Any], path: str) -> bool:
    for key in path.split("."):
        if not isinstance(values, Mapping) or key not in values:
            return True
        values = values[key]
    return False


def _leave_out(values: dict[str, Any], path: str, stand_ins: Mapping[str, object]) -> bool:
    """Take what stands at `path`, or the table around it, out of `values`; return whether that changes anything."""
    key, _, rest = path.partition(".")
    inner = values.get(key)
    if rest and isinstance(inner, dict) and _leave_out(inner, rest, {}):
        return True
    key = _INDEX.sub("", key)
    if key in stand_ins and values.get(key) != stand_ins[key]:
        values[key] = stand_ins[key]
        return True
    return values.pop(key, None) is not None


def _merge(merged: dict[str, Any], layer: Layer, values: Mapping[str, Any], path: str, origins: dict[str, str]) -> None:
    for key, value in values.items():
        at = f"{path}{key}"
        if isinstance(value, Mapping):
            if not isinstance(merged.get(key), dict):
                merged[key] = {}
            _merge(merged[key], layer, value, f"{at}.", origins)
        else:
            merged[key] = value
        origins[at] = layer.origin


def _explain(
    text: str,
    merged: Mapping[str, Any],
    spec: type[msgspec.Struct],
    origins: Mapping[str, str],
    layers: Sequence[Layer],
) -> tuple[str, ConfigError]:
    """Return the dotted path in msgspec's message, and the error for it, with the file and the key."""
    match = _AT.fullmatch(text)
    path = (match["path"] or "").lstrip(".") if match else ""
    message = match["text"] if match else text
    if "[...]" in path:
        path = _first_wrong(merged, spec, path)
    missing = _MISSING.fullmatch(message)
    if missing:
        at = f"{path}.{missing['key']}" if path else missing["key"]
        return at, ConfigError("the key is missing", "a value", where=f"{layers[-1].origin}: {at}")
    origin = origins.get(_INDEX.sub("", path), layers[-1].origin)
    return path, _wrong_value(message, f"{origin}: {path}", path, *_look_up(merged, spec, path))


def _wrong_value(message: str, where: str, path: str, value: object, annotation: object) -> ConfigError:
    found = f"found {value!r}"
    options = _options(annotation)
    if options and message.startswith("Invalid enum value"):
        return ConfigError(found, f"one of {', '.join(options)}", nearest(str(value), options), where)
    expected = _EXPECTED.match(message)
    if not expected:
        return ConfigError(found, message, where=where)
    types = expected["types"].split(" | ")
    kinds = [_TYPE_NAMES.get(kind, kind) for kind in types if kind != "null"]
    return ConfigError(found, " or ".join(kinds) + expected["limit"], _example(path, value, types), where)


def _example(path: str, value: object, types: Sequence[str]) -> str:
    """Return how a value of another type is written, "" where that cannot be told."""
    key = path.rpartition(".")[2]
    if "array" in types and isinstance(value, str) and key == "command":
        return toml_values.command(value)
    if "array" in types and not isinstance(value, list | dict):
        return f"{key} = {toml_values.toml([value])}"
    if "str" in types and isinstance(value, int | float) and "[" not in key:
        return f'{key} = "{toml_values.toml(value)}"'
    if "int" in types and isinstance(value, str) and value.isascii() and value.isdigit():
        return f"{key} = {value}"
    if "bool" in types and value in ("true", "false"):
        return f"{key} = {value}"
    if "object" in types and path.startswith("roles.") and isinstance(value, int):
        return f"[{path}] in a line of its own, and below it: count = {toml_values.toml(value)}"
    return f"[{path}] in a line of its own, and its keys below it" if types == ["object"] else ""


def _look_up(values: Any, spec: type[msgspec.Struct], path: str) -> tuple[object, object]:  # noqa: ANN401 - TOML
    """Return the value at `path` and its annotation, None where no struct declares it."""
    annotation: object = spec
    for key, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        if key:
            inner = _struct_of(annotation)
            annotation = _fields(inner).get(key) if inner else _values_of(annotation)
            values = values.get(key) if isinstance(values, Mapping) else None
        else:
            values = values[int(index)] if isinstance(values, list) else None
    return values, annotation


def _first_wrong(merged: Mapping[str, Any], spec: type[msgspec.Struct], path: str) -> str:
    """Return `path` with the key of a free table that is wrong, which msgspec does not name."""
    before, _, after = path.partition("[...]")
    table, annotation = _look_up(merged, spec, before)
    kinds = [get_args(each)[1] for each in (annotation, *get_args(annotation)) if get_origin(each) is dict]
    for key, value in table.items() if isinstance(table, Mapping) else ():
        try:
            msgspec.convert(value, kinds[0])
        except msgspec.ValidationError:
            return f"{before}.{key}{after}"
    return before


def _options(annotation: object) -> list[str]:
    if get_origin(annotation) is Literal:
        return [str(option) for option in get_args(annotation)]
    return [option for each in get_args(annotation) for option in _options(each)]
