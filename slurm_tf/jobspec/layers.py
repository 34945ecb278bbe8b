"""Reads layers of configuration, checks their keys and merges them; each value keeps its origin.

An error names one file and one key, the value that was found, what was needed, and the nearest known key.
"""

import difflib
import re
import types
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, time
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Generic, Literal, TypeVar, Union, get_args, get_origin

import msgspec
import tomllib

from slurm_tf.errors import ConfigError, UnitError
from slurm_tf.run import env

T = TypeVar("T", bound=msgspec.Struct)

_AT = re.compile(r"(?P<text>.*?)(?: - at `(?:key in )?\$(?P<path>.*)`)?", re.DOTALL)
_EXPECTED = re.compile(r"Expected `(?P<types>[^`]*)`(?P<limit>[^,]*)(?:, got `(?P<got>[^`]*)`)?")
_MISSING = re.compile(r"Object missing required field `(?P<key>[^`]*)`")
# That of a value in a list, at the end of its path.
_INDEX = r"\[\d*\]$"
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_LINE = re.compile(r"at line (?P<number>\d+)", re.ASCII)
_UNQUOTED = re.compile(r"\s*(?P<key>[\w.-]+)\s*=\s*(?P<value>[^\s\"'\[\]{}#][^\"'\[\]{}#]*?)\s*(#.*)?", re.ASCII)
_TYPE_NAMES = {"int": "a whole number", "str": "text", "bool": "true or false", "array": "a list", "object": "a table"}


@dataclass(frozen=True)
class Layer:
    """The values of one source; `origin` names it in messages."""

    origin: str
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Resolved(Generic[T]):
    """A merged spec, and the origin of each key by its dotted path; keys that no layer sets are not in `origins`."""

    spec: T
    origins: Mapping[str, str]


def read_toml(path: Path) -> dict[str, Any]:
    """Return the values of a TOML file. Raises ConfigError."""
    try:
        data = path.read_bytes()
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
        raise ConfigError(str(error), "TOML (https://toml.io)", _quotes(text, str(error)), str(path)) from error
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
    return f'text, and times from 24:00:00 on, are written in quotes: {found["key"]} = "{found["value"]}"'


def resolve(layers: Sequence[Layer], spec: type[T]) -> Resolved[T]:
    """Merge `layers`, the last one strongest, into a `spec`: tables merge, all else replaces. Raises ConfigError."""
    merged: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for layer in layers:
        _check_keys(layer.values, spec, layer.origin, "")
        _merge(merged, layer, layer.values, "", origins)
    try:
        return Resolved(msgspec.convert(merged, spec), origins)
    except msgspec.ValidationError as error:
        raise _explain(str(error), merged, spec, origins, layers) from error


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
    for path, text in _texts(msgspec.to_builtins(spec, str_keys=True), ""):
        allowed = "\n\t" if path in free else ""
        bad = [c for c in text if c not in allowed and unicodedata.category(c) in ("Cc", "Cs")]
        if bad:
            raise ConfigError(
                f"found {text!r}",
                f"text without control characters (here U+{ord(bad[0]):04X})",
                where=f"{origins.get(re.sub(_INDEX, '', path), where)}: {path}",
            )


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


def _fields(spec: type[msgspec.Struct]) -> dict[str, object]:
    return {each.encode_name: each.type for each in msgspec.structs.fields(spec)}


def _check_keys(values: Mapping[str, Any], spec: type[msgspec.Struct], origin: str, path: str) -> None:
    known = _fields(spec)
    for key, value in values.items():
        at = f"{path}{key}"
        if key not in known:
            raise ConfigError(
                f"found the key {key!r}", f"one of {', '.join(known)}", nearest(key, list(known)), f"{origin}: {at}"
            )
        inner, annotation = _struct_of(known[key]), known[key]
        if inner and isinstance(value, Mapping):
            _check_keys(value, inner, origin, f"{at}.")
        each = _struct_of(_values_of(annotation))
        if each and isinstance(value, Mapping):
            for name, table in value.items():
                if isinstance(table, Mapping):
                    _check_keys(table, each, origin, f"{at}.{name}.")


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
) -> ConfigError:
    """Return the error for msgspec's message, with the file and the key."""
    match = _AT.fullmatch(text)
    path = (match["path"] or "").lstrip(".") if match else ""
    message = match["text"] if match else text
    if "[...]" in path:
        path = _first_wrong(merged, spec, path)
    missing = _MISSING.fullmatch(message)
    if missing:
        at = f"{path}.{missing['key']}" if path else missing["key"]
        return ConfigError("the key is missing", "a value", where=f"{layers[-1].origin}: {at}")
    origin = origins.get(re.sub(_INDEX, "", path), layers[-1].origin)
    value, annotation = _look_up(merged, spec, path)
    found = f"found {value!r}"
    options = _options(annotation)
    if options and message.startswith("Invalid enum value"):
        return ConfigError(found, f"one of {', '.join(options)}", nearest(str(value), options), f"{origin}: {path}")
    expected = _EXPECTED.match(message)
    if not expected:
        return ConfigError(found, message, where=f"{origin}: {path}")
    kinds = [_TYPE_NAMES.get(kind, kind) for kind in expected["types"].split(" | ") if kind != "null"]
    return ConfigError(found, " or ".join(kinds) + expected["limit"], where=f"{origin}: {path}")


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
