"""A format of JSON files that other releases read too: each file holds one dataclass, and the format's version.

A later release of the same major version may add keys, which are not looked at here. Another major version is refused.
Standard library, Python 3.9.
"""

import json
from dataclasses import dataclass, is_dataclass
from typing import Optional, Type, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from slurm_tf import files
from slurm_tf.errors import SlurmTfError
from slurm_tf.run import json_file

_KEY = "format"
_Value = TypeVar("_Value")


@dataclass(frozen=True)
class JsonFormat:
    """A format by its `name`, such as "data set", and its `version`, such as "1.0".

    `error`: raised for a file that is not of this format, with the file's path as `where`; `do`: what can be done
    about one that is damaged.
    """

    name: str
    version: str
    error: Type[SlurmTfError]
    do: str

    def read(self, path: str, kind: Type[_Value]) -> _Value:
        """Return the dataclass `kind` that the file `path` holds. Raises `error` for another file, and OSError."""
        with open(path, "rb") as file:
            return self.loads(file.read(), kind, path)

    def loads(self, text: Union[str, bytes], kind: Type[_Value], where: str) -> _Value:
        """Return the dataclass `kind` that `text` holds; `where`: its file, for the `error` that is raised else."""
        major = self.version.partition(".")[0]
        needed = f"what a {self.name} of format {major} has there"
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self.error(f"it is not JSON ({error})", needed, where=where) from error
        found = values.get(_KEY) if isinstance(values, dict) else None
        if not isinstance(found, str):
            raise self.error("it does not say its format", needed, where=where)
        if found.partition(".")[0] != major:
            raise self.error(f"it has format {found}", needed, "use the release of slurm-tf that wrote it", where)
        try:
            return cast(_Value, json_file.from_json(_known(values, kind), kind))
        except ValueError as error:
            raise self.error(str(error), needed, self.do, where) from error
        except self.error as error:
            raise self.error(error.found, error.needed, error.do, where) from error

    def write(self, path: str, value: object, prefix: str = ".", mode: int = 0o600) -> None:
        """Write a dataclass, whole; its temporary file's name begins with `prefix`. Raises OSError."""
        files.write_whole(path, self.dumps(value, indent=1).encode() + b"\n", mode, prefix=prefix)

    def dumps(self, value: object, indent: Optional[int] = None) -> str:
        """Return the text of a dataclass; without `indent` in one line."""
        return json.dumps({_KEY: self.version, **vars(value)}, indent=indent, default=vars)


def _known(value: object, kind: object) -> object:
    """Return what JSON holds without the keys that the dataclasses of `kind` do not have."""
    origin, arguments = get_origin(kind), get_args(kind)
    if isinstance(value, dict):
        if isinstance(kind, type) and is_dataclass(kind):
            kinds = get_type_hints(kind)
            return {key: _known(each, kinds[key]) for key, each in value.items() if key in kinds}
        if origin is Union:
            return _known(value, arguments[0])
        return {key: _known(each, arguments[1]) for key, each in value.items()} if len(arguments) > 1 else value
    if isinstance(value, list) and origin is tuple:
        of_each = arguments[:1] * len(value) if arguments[-1] is Ellipsis else arguments
        return [_known(each, inner) for each, inner in zip(value, of_each)] if len(of_each) == len(value) else value
    return _known(value, arguments[0]) if origin is Union and value is not None else value
