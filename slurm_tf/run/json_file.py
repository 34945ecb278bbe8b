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
    Callable,
    Dict,
    List,
    Mapping,
    Optional,
    Set,
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


def from_json(value: object, kind: object) -> object:
    """Return `value`, as JSON holds it, as the type `kind`. Raises ValueError."""
    return _reader(kind)(value, None)


# The keys that lead to a value: those before, and its own; None for the whole file.
_At = Optional[Tuple[Any, object]]
_Reader = Callable[[object, _At], object]


@functools.cache
def _reader(kind: object) -> _Reader:
    """Return what makes a `kind` of a value and its place: types are looked at once, a thousand runs have many files.

    It raises ValueError.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return lambda value, _: value
    if origin is Union:
        return _optional(arguments)
    if origin is tuple:
        return _tuple(arguments)
    if origin is not None and issubclass(origin, Mapping):
        return _mapping(_reader(arguments[1]))
    if not isinstance(kind, type):
        raise TypeError(f"{kind} is not known here")
    if is_dataclass(kind):
        return _dataclass(kind)
    if issubclass(kind, Enum):
        return _enum(kind)
    return _plain(kind)


def _optional(kinds: Tuple[object, ...]) -> _Reader:
    """Return the reader of Optional[...], the one union that files have."""
    kind, none = kinds
    if none is not type(None):
        raise TypeError(f"one of {kinds}: only Optional is known here")
    of_value = _reader(kind)
    return lambda value, at: None if value is None else of_value(value, at)


def _tuple(kinds: Tuple[object, ...]) -> _Reader:
    """Return the reader of a tuple: of any length for Tuple[X, ...], else of one member for each of `kinds`."""
    of_list = _plain(list)
    readers = [_reader(kind) for kind in kinds if kind is not Ellipsis]
    any_length = kinds[-1] is Ellipsis

    def read(value: object, at: _At) -> object:
        members = cast(List[object], of_list(value, at))
        found = readers * len(members) if any_length else readers
        if len(members) != len(found):
            raise ValueError(f"{_path(at)} has {len(members)} members, not {len(found)}")
        return tuple(of_member(each, (at, index)) for index, (of_member, each) in enumerate(zip(found, members)))

    return read


def _mapping(of_value: _Reader) -> _Reader:
    of_table = _plain(dict)

    def read(value: object, at: _At) -> object:
        table = cast(Dict[str, object], of_table(value, at))
        return {key: of_value(each, (at, key)) for key, each in table.items()}

    return read


def _dataclass(kind: type) -> _Reader:
    of_table = _plain(dict)
    readers = {name: _reader(each) for name, each in get_type_hints(kind).items()}

    def read(value: object, at: _At) -> object:
        table = cast(Dict[str, object], of_table(value, at))
        if table.keys() != readers.keys():
            raise _wrong_keys(set(table), set(readers), at)
        return kind(**{key: readers[key](each, (at, key)) for key, each in table.items()})

    return read


def _wrong_keys(found: Set[str], needed: Set[str], at: _At) -> ValueError:
    what, keys = ("unknown", found - needed) if found - needed else ("missing", needed - found)
    return ValueError(f"{what}: {', '.join(_path((at, key)) for key in sorted(keys))}")


def _enum(kind: Type[Enum]) -> _Reader:
    members = {each.value: each for each in kind}

    def read(value: object, at: _At) -> object:
        if isinstance(value, (str, int)) and value in members:
            return members[value]
        raise ValueError(f"{_path(at)} is {_shown(value)}")

    return read


def _plain(kind: type) -> _Reader:
    """Return the reader of a type of JSON. An int is a float too, a bool is neither."""

    def read(value: object, at: _At) -> object:
        if type(value) is kind or (kind is float and type(value) is int and _fits_float(value)):
            return value
        raise ValueError(f"{_path(at)} is {_shown(value)}")

    return read


def _fits_float(value: int) -> bool:
    """Return whether `value` can be converted to a float: an int of 400 digits is an OverflowError."""
    return abs(value) <= sys.float_info.max


def _path(at: _At) -> str:
    keys: List[str] = []
    while at is not None:
        at, key = at
        keys.insert(0, str(key))
    return ".".join(keys) or "the file"


def _shown(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:40]}..."
