"""Arguments and options that several verbs share."""

import os
from pathlib import Path

import click

from slurm_tf import files


class ExpandedPath(click.Path):
    """A path in which ~ and variables are replaced: a shell leaves --output=~/x as it is."""

    def __init__(self, exists: bool = False, dir_okay: bool = True) -> None:
        super().__init__(exists=exists, dir_okay=dir_okay)

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path that is meant. Raises UsageError."""
        return Path(os.fsdecode(super().convert(files.expand(os.fspath(value)), param, ctx)))


JOB = click.argument("job", type=click.Path(exists=True, dir_okay=False, path_type=Path))
SITE = click.option("--site", default="", help="Site profile: a name, or a path to a .toml file.")
NAME = click.option("--name", default="", help="The name of the run; an existing run is resumed.")
SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a key of JOB, such as roles.worker.count=4.",
)
FORGET_BAD_NODES = click.option(
    "--forget-bad-nodes", is_flag=True, help="Use every node again, also those that the run has found bad."
)
