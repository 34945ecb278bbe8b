"""Reads and writes the JSON files of a data set: each holds one dataclass, and the format's version. For Python 3.9.

A later release of the same major version may add keys, which are not looked at here. Another major version is refused.
"""

import json
from dataclasses import is_dataclass
from typing import Optional, Type, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from slurm_tf import files
from slurm_tf.errors import DatasetError
from slurm_tf.run import json_file

FORMAT = "1.0"
_KEY = "format"
_Value = TypeVar("_Value")


def read(path: str, kind: Type[_Value]) -> _Value:
    """Return the dataclass `kind` that the file `path` holds. Raises DatasetError for another file, and OSError."""
    with open(path, "rb") as file:
        return loads(file.read(), kind, path)


def loads(text: Union[str, bytes], kind: Type[_Value], where: str) -> _Value:
    """Return the dataclass `kind` that `text` holds; `where`: its file, for the DatasetError that is raised else."""
    needed = f"what a data set of format {FORMAT.partition('.')[0]} has there"
    try:
        values = json.loads(text)
    except ValueError as error:
        raise DatasetError(f"it is not JSON ({error})", needed, where=where) from error
    found = values.get(_KEY) if isinstance(values, dict) else None
    if not isinstance(found, str):
        raise DatasetError("it does not say its format", needed, where=where)
    if found.partition(".")[0] != FORMAT.partition(".")[0]:
        raise DatasetError(f"it has format {found}", needed, "use the release of slurm-tf that wrote it", where)
    try:
        return cast(_Value, json_file.from_json(_known(values, kind), kind))
    except ValueError as error:
        raise DatasetError(str(error), needed, "copy or prepare the data set again", where) from error
    except DatasetError as error:
        raise DatasetError(error.found, error.needed, error.do, where) from error


def write(path: str, value: object, prefix: str = ".") -> None:
    """Write a dataclass, whole and private; its temporary file's name begins with `prefix`. Raises OSError."""
    files.write_whole(path, dumps(value, indent=1).encode() + b"\n", prefix=prefix)


def dumps(value: object, indent: Optional[int] = None) -> str:
    """Return the text of a dataclass; without `indent` in one line."""
    return json.dumps({_KEY: FORMAT, **vars(value)}, indent=indent, default=vars)


def _known(value: object, kind: object) -> object:
    """Return what JSON holds without the keys that the dataclasses of `kind` do not have."""
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(value, dict):
        if isinstance(kind, type) and is_dataclass(kind):
            kinds = get_type_hints(kind)
            return {key: _known(each, kinds[key]) for key, each in value.items() if key in kinds}
        return {key: _known(each, arguments[1]) for key, each in value.items()} if len(arguments) > 1 else value
    if isinstance(value, list) and origin is tuple:
        of_each = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return [_known(each, inner) for each, inner in zip(value, of_each)] if len(of_each) == len(value) else value
    return _known(value, arguments[0]) if origin is Union and value is not None else value
