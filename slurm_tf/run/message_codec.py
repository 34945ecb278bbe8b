"""Writes messages as JSON and reads them: each is one dataclass, sent with the name of its type.

A message is accepted only if it has exactly the fields of its dataclass, each of its type. Standard library, Python
3.9.
"""

import json
from typing import Dict, Iterable, Mapping, Type, TypeVar, Union, cast

from slurm_tf.run import json_file

_Message = TypeVar("_Message")


def by_name(kinds: Iterable[Type[_Message]]) -> Dict[str, Type[_Message]]:
    """Return the types of messages by name, as `decode` takes them."""
    return {kind.__name__: kind for kind in kinds}


def encode(message: object) -> str:
    """Return the text of one message, a single line of ASCII characters."""
    return json.dumps({"type": type(message).__name__, **vars(message)}, separators=(",", ":"), default=vars)


def decode(text: Union[str, bytes], kinds: Mapping[str, Type[_Message]]) -> _Message:
    """Return the message that `text` holds, one of `kinds`. Raises ValueError, which says what was found instead."""
    values = _table(text)
    if "type" not in values:
        raise ValueError("something that is no message of slurm-tf came")
    name = values.pop("type")
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise ValueError(f"a message of type {name!r} came")
    try:
        return cast(_Message, json_file.from_json(values, kind))
    except ValueError as error:
        raise ValueError(f"a message of type {name} came that is not as expected: {error}") from error


def _table(text: Union[str, bytes]) -> Dict[str, object]:
    """Return the JSON object that `text` holds, {} if it holds something else."""
    try:
        values = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
