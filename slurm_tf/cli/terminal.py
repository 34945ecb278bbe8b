"""Formats text for the terminal: commands to type next, short paths, text without control characters."""

import os
import shutil
import sys

import click


def _program_as_typed() -> str:
    """Return how this program is started here: by its name if a shell would find it, otherwise by its path."""
    name = click.get_current_context().find_root().info_name or "slurm-tf"
    found = shutil.which(name)
    by_name = found is not None and os.path.exists(sys.argv[0]) and os.path.samefile(found, sys.argv[0])
    return name if by_name or name.startswith("python") else short_path(sys.argv[0])


def print_next_commands(*rows: tuple[str, str]) -> None:
    """Print commands to type next; each row is a verb with its arguments, and what it does."""
    me = _program_as_typed()
    typed = [(f"{me} {words}", why) for words, why in rows]
    width = max(len(command) for command, _ in typed)
    click.echo("Next:", err=True)
    for command, why in typed:
        click.echo(f"  {command:{width}}  # {why}", err=True)


def short_path(path: str) -> str:
    """Return `path` relative to the working directory if it is below it."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def printable(text: str) -> str:
    """Return `text` with "?" for every control character, so that it cannot move the terminal's cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)
