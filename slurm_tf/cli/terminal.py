"""Formats text for the terminal: its width and colours, commands to type next, text without control characters."""

import os
import re
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TextIO

import click

from slurm_tf.errors import UsageError

# Words of states, the worst first, and their colour; a sweep has several of them.
_COLOURS: Mapping[str, str] = {
    r"failed|boot fail|deadline|node fail|out of memory|timeout|special exit": "red",
    r"cancelled|preempted|pending|suspended|stopped|requeue\w*|revoked|resv del hold": "yellow",
    r"running|configuring|completing|resizing|signaling|stage out": "cyan",
    r"done|completed|whole": "green",
}


@dataclass(frozen=True, slots=True)
class Screen:
    """Where output goes: its width in columns, None where it is no terminal, and whether it has colours."""

    width: int | None
    colour: bool


def screen(stream: TextIO | None = None) -> Screen:
    """Return what a stream is; default: stdout."""
    stream = stream or sys.stdout
    width = shutil.get_terminal_size((120, 24)).columns if stream.isatty() else None
    return Screen(width, has_colour(stream))


def has_colour(stream: TextIO) -> bool:
    """Whether a stream gets colours: a terminal does, unless NO_COLOR is set; FORCE_COLOR means any stream.

    Source: no-color.org and force-color.org; an empty variable says nothing.
    """
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR"):
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def state_colour(text: str) -> str:
    """Return the colour of words that say a state, "" for none; of those of a sweep that of the worst one."""
    words = text.lower().replace("_", " ")
    return next((colour for pattern, colour in _COLOURS.items() if re.search(rf"\b({pattern})\b", words)), "")


def coloured(text: str, colour: str) -> str:
    """Return `text` in a colour, as it is for "" or no text."""
    return click.style(text, fg=colour) if colour and text else text


def _program_as_typed() -> str:
    """Return how this program is started here: by its name if a shell would find it, otherwise by its path."""
    name = click.get_current_context().find_root().info_name or "slurm-tf"
    found = shutil.which(name)
    by_name = found is not None and os.path.exists(sys.argv[0]) and os.path.samefile(found, sys.argv[0])
    return name if by_name or name.startswith("python") else short_path(sys.argv[0])


def ask(question: str, otherwise: str) -> None:
    """Ask whether to go on, and exit with 1 if not. Raises UsageError, which names `otherwise`, without a terminal."""
    if not sys.stdin.isatty():
        raise UsageError("nobody can be asked here", otherwise)
    if not click.confirm(question, err=True):
        sys.exit(1)


def print_next_commands(*rows: tuple[str, str]) -> None:
    """Print commands to type next; each row is a verb with its arguments, and what it does.

    Where the terminal is too narrow, what a command does stands below it: a command that somebody copies is one line.
    """
    me, room = _program_as_typed(), screen(sys.stderr).width
    typed = [(f"{me} {words}", why) for words, why in rows]
    width = max(len(command) for command, _ in typed)
    lines = [f"  {command:{width}}  # {why}" for command, why in typed]
    if room is not None and max(map(len, lines)) > room:
        lines = [line for command, why in typed for line in (f"  {command}", f"    # {why}")]
    click.echo("\n".join(["Next:", *lines]), err=True)


def short_path(path: str) -> str:
    """Return `path` relative to the working directory if it is below it."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def printable(text: str) -> str:
    """Return `text` with "?" for every control character, so that it cannot move the terminal's cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)


def printable_lines(text: str) -> str:
    """Return `text` as `printable` does, with its own ends of lines and tabs."""
    return "".join(each if each in "\n\t" or each.isprintable() else "?" for each in text)
