"""Writes values as TOML has them, for messages that say what to write and for files that a user edits."""

import json
import shlex
from collections.abc import Mapping

EXAMPLE_OF_COMMAND = 'command = ["python", "train.py"]'
# Characters of a command line that a shell, and nobody else, obeys.
_OF_A_SHELL = frozenset("|&;<>()$`*?~")


def command(text: str) -> str:
    """Return how the command line `text` is written as a command."""
    try:
        words = shlex.split(text)
    except ValueError:
        return EXAMPLE_OF_COMMAND
    if _OF_A_SHELL & set(text):
        words = ["bash", "-c", text]
    return f"command = {toml(words)}"


def toml(value: object) -> str:
    """Return a value as TOML has it, in a line; a whole number that is text, as on a command line, as a number."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return value
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {toml(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(quoted(each) if isinstance(each, str) else toml(each) for each in value) + "]"
    return quoted(value) if isinstance(value, str) else json.dumps(value)


def quoted(text: str) -> str:
    """Return text as a string of TOML: JSON's, in which signs that cannot be printed are written by their numbers."""
    escaped = json.dumps(text, ensure_ascii=False)
    return "".join(each if each.isprintable() else f"\\U{ord(each):08x}" for each in escaped)
