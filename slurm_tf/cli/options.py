"""Arguments and options that several verbs share."""

from pathlib import Path

import click

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
