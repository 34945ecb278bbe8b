"""Writes keys of TOML, each with a comment: for profiles and job files that slurm-tf writes for a user to edit."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from slurm_tf.jobspec import toml_values

_BARE = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)
_WIDTH = 118

Value = str | int | float | bool | tuple["Value", ...] | Mapping[str, "Value"]


@dataclass(frozen=True, slots=True)
class Entry:
    """One key. `value`: None where it could not be learned; `note`: where it comes from, or why not."""

    key: str
    value: Value | None
    note: str = ""


def lines(entries: Iterable[Entry]) -> Iterator[str]:
    """Yield the lines of entries; a comment goes above its key where the line would be too long."""
    for entry in entries:
        if entry.value is None:
            yield comment(f"{entry.key}: {entry.note}" if entry.key else entry.note)
            continue
        line = f"{key(entry.key)} = {text(entry.value)}"
        note = comment(entry.note) if entry.note else ""
        if note and len(line) + len(note) + 2 > _WIDTH:
            yield note
            note = ""
        yield f"{line}  {note}" if note else line


def comment(words: str) -> str:
    """Return text as a comment of one line: Slurm's messages have several."""
    return "# " + "".join(each if each.isprintable() else " " for each in words)


def text(value: Value) -> str:
    """Return a value as TOML, in one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key(name)} = {text(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(text, value)) + "]"
    return toml_values.quoted(value) if isinstance(value, str) else toml_values.toml(value)


def key(name: str) -> str:
    """Return a key, quoted if it has to be."""
    return name if _BARE.fullmatch(name) else toml_values.quoted(name)
