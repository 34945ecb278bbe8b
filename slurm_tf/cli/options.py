"""Arguments and options that several verbs share."""

import os
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from slurm_tf import files
from slurm_tf.cli import completion


class ExpandedPath(click.Path):
    """A path in which ~ and variables are replaced: a shell leaves --output=~/x as it is."""

    def __init__(self, exists: bool = False, dir_okay: bool = True) -> None:
        super().__init__(exists=exists, dir_okay=dir_okay)

    def convert(self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None) -> Path:
        """Return the path that is meant. Raises UsageError."""
        return Path(os.fsdecode(super().convert(files.expand(os.fspath(value)), param, ctx)))


# Of a context: whether "--" was typed, after which all is for the program.
_FOR_PROGRAM = "slurm_tf.for_program"


class JobCommand(click.Command):
    """A verb that takes JOB [NAME=VALUE]... [-- ARGUMENTS]: what follows "--" is for the program (`arguments`)."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what is before "--", which click itself would drop."""
        at = args.index("--") if "--" in args else len(args)
        rest = super().parse_args(ctx, args[:at])
        ctx.params["arguments"] = tuple(args[at + 1 :])
        ctx.meta[_FOR_PROGRAM] = at < len(args)
        return rest

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """Return the params that what is typed next may belong to: none after "--"."""
        return [] if ctx.meta.get(_FOR_PROGRAM) else super().get_params(ctx)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Return the options; files for the program."""
        if ctx.meta.get(_FOR_PROGRAM):
            return completion.files_of_shell(incomplete)
        return super().shell_complete(ctx, incomplete)

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Return the words of the usage line, with those for the program."""
        return [*super().collect_usage_pieces(ctx), "[-- ARGUMENTS]"]


class SbatchCommand(JobCommand):
    """A JobCommand that takes options of sbatch as well: -h as a word of its own is --help, and -phigh is not."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what is before "--"."""
        before = args[: args.index("--")] if "--" in args else args
        return super().parse_args(ctx, ["--help"] if "-h" in before else args)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Return the options, those of sbatch as well."""
        own = super().shell_complete(ctx, incomplete)
        if ctx.meta.get(_FOR_PROGRAM):
            return own
        return [*own, *completion.sbatch_options(incomplete, {word for each in self.params for word in each.opts})]


SITE = click.option(
    "--site",
    default="",
    help="Site profile: a name, or a path to a .toml file.",
    shell_complete=completion.sites,
)
NAME = click.option(
    "--name",
    default="",
    help="The name of the run; an existing run is resumed.",
    shell_complete=completion.runs,
)
SET = click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a key of JOB, such as roles.worker.count=4.",
)
# Where the output of programs goes with --json: stdout is for the JSON alone.
STDERR = 2
JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON; null means unknown.")
ALWAYS_JSON = click.option("--json", is_flag=True, expose_value=False, help="Print JSON, as it does in any case.")
FORGET_BAD_NODES = click.option(
    "--forget-bad-nodes", is_flag=True, help="Use every node again, also those that the run has found bad."
)
