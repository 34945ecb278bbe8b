"""How things are said to whoever types."""

import os
import shutil
import sys

import click


def _as_typed() -> str:
    """Return what starts this program here: its name if a shell would find it, else its path."""
    name = click.get_current_context().find_root().info_name or "slurm-tf"
    found = shutil.which(name)
    by_name = found is not None and os.path.samefile(found, sys.argv[0])
    return name if by_name or name.startswith("python") else short(sys.argv[0])


def say_next(*rows: tuple[str, str]) -> None:
    """Say what to type next: a verb with its arguments, and why."""
    me = _as_typed()
    typed = [(f"{me} {words}", why) for words, why in rows]
    width = max(len(command) for command, _ in typed)
    click.echo("Next:", err=True)
    for command, why in typed:
        click.echo(f"  {command:{width}}  # {why}", err=True)


def short(path: str) -> str:
    """Return `path` as a person here would type it."""
    relative = os.path.relpath(path)
    return path if relative.startswith("..") else relative


def printable(text: str) -> str:
    """Return text that cannot move a terminal's cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)
