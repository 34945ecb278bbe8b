"""Reads and writes the JSON files of a run: each holds one dataclass, and the version that wrote it.

The version stands under "contract" beside the fields of the dataclass. A file is accepted only if it has this version
and exactly the fields of this release, at every depth: anything else was written by another release of slurm-tf.
Standard library, Python 3.9.
"""

import functools
import json
import sys
from dataclasses import is_dataclass
from enum import Enum
from typing import (
    Any,
    Mapping,
    Optional,
    Tuple,
    Type,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from slurm_tf import files
from slurm_tf.errors import RunError
from slurm_tf.run.version import ONE_RELEASE, VERSION

_Value = TypeVar("_Value")
_KEY = "contract"
# of each dataclass once: it takes as long as all else of reading a small file
_type_hints = functools.lru_cache(maxsize=None)(get_type_hints)


def read(path: str, kind: Type[_Value], do: str = ONE_RELEASE) -> _Value:
    """Return the dataclass `kind` that the file `path` holds.

    `do`: what the user can do about a file that cannot be used. Raises RunError for such a file, OSError for one that
    cannot be opened (FileNotFoundError where there is none).
    """
    with open(path, "rb") as file:
        return parse(file.read(), kind, path, do)


def parse(text: Union[str, bytes], kind: Type[_Value], name: str, do: str = ONE_RELEASE) -> _Value:
    """Return the dataclass `kind` that `text` holds; `name` and `do` are for the RunError that is raised otherwise."""
    try:
        values = json.loads(text)
    except ValueError as error:
        raise RunError(f"{name} is not JSON ({error})", "a file that slurm-tf wrote, as it wrote it", do) from error
    if not isinstance(values, dict):
        raise _other_release(name, f"found {_shown(values)}", do)
    version = values.pop(_KEY, "none")
    if version != VERSION:
        raise _other_release(name, f"found contract version {version}", do)
    try:
        return cast(_Value, from_json(values, kind))
    except ValueError as error:
        raise _other_release(name, str(error), do) from error


def write(path: str, value: object, indent: Optional[int] = 1) -> None:
    """Write a dataclass so that a reader sees the old file or the new one. Raises OSError."""
    files.write_whole(path, dumps(value, indent).encode() + b"\n")


def dumps(value: object, indent: Optional[int] = None) -> str:
    """Return the text of a dataclass; without `indent` in one line, which is ten times faster."""
    return json.dumps({_KEY: VERSION, **vars(value)}, indent=indent, default=vars)


def _other_release(name: str, found: str, do: str) -> RunError:
    return RunError(f"{name} was written by another release of slurm-tf ({found})", f"contract version {VERSION}", do)


def from_json(value: object, kind: object, at: str = "") -> object:
    """Return `value`, as JSON holds it, as the type `kind`; `at`: the keys that lead to it. Raises ValueError."""
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Union:
        return _optional(value, arguments, at)
    if origin is tuple:
        return _tuple(value, arguments, at)
    if origin is not None and issubclass(origin, Mapping):
        table = _checked(value, dict, at)
        return {key: from_json(each, arguments[1], f"{at}.{key}") for key, each in table.items()}
    if not isinstance(kind, type):
        raise TypeError(f"{at} is a {kind}, which is not known here")
    if is_dataclass(kind):
        return _dataclass(value, kind, at)
    if issubclass(kind, Enum):
        return _enum(value, kind, at)
    return _checked(value, kind, at)


def _optional(value: object, kinds: Tuple[object, ...], at: str) -> object:
    """Return a value of Optional[...], the one union that files have."""
    kind, none = kinds
    if none is not type(None):
        raise TypeError(f"{at} may be one of {kinds}: only Optional is known here")
    return None if value is None else from_json(value, kind, at)


def _tuple(value: object, kinds: Tuple[object, ...], at: str) -> Tuple[object, ...]:
    """Return a tuple: of any length for Tuple[X, ...], else of one member for each of `kinds`."""
    members = _checked(value, list, at)
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(members)
    if len(members) != len(kinds):
        raise ValueError(f"{_path(at)} has {len(members)} members, not {len(kinds)}")
    return tuple(from_json(each, kind, f"{at}.{index}") for index, (each, kind) in enumerate(zip(members, kinds)))


def _dataclass(value: object, kind: type, at: str) -> object:
    table = _checked(value, dict, at)
    kinds = _type_hints(kind)
    for what, keys in (("unknown", set(table) - set(kinds)), ("missing", set(kinds) - set(table))):
        if keys:
            raise ValueError(f"{what}: {', '.join(_path(f'{at}.{key}') for key in sorted(keys))}")
    found: object = kind(**{key: from_json(each, kinds[key], f"{at}.{key}") for key, each in table.items()})
    return found


def _enum(value: object, kind: Type[Enum], at: str) -> Enum:
    try:
        return kind(value)
    except ValueError:
        raise ValueError(f"{_path(at)} is {_shown(value)}") from None


def _checked(value: object, kind: Type[_Value], at: str) -> _Value:
    """Return `value` if it is of a type of JSON, else raise ValueError. An int is a float too, a bool is neither."""
    kinds: Tuple[type, ...] = (int, float) if kind is float else (kind,)
    if not isinstance(value, kinds) or (isinstance(value, bool) and kind is not bool):
        raise ValueError(f"{_path(at)} is {_shown(value)}")
    if isinstance(value, int) and kind is float and not _fits_float(value):
        raise ValueError(f"{_path(at)} is {_shown(value)}")
    return cast(_Value, value)


def _fits_float(value: int) -> bool:
    """Return whether `value` can be converted to a float: an int of 400 digits is an OverflowError."""
    return abs(value) <= sys.float_info.max


def _path(at: str) -> str:
    return at.lstrip(".") or "the file"


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
