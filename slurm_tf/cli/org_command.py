"""The verb org: shows, makes and changes organizations, their users and their quotas."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from slurm_tf.cli import options
from slurm_tf.cli.terminal import printable

if TYPE_CHECKING:
    from slurm_tf.org.org_updates import Site, Update
    from slurm_tf.org.tree_changes import Change

Command = Callable[..., None]
_LIMITS = (
    click.option("--gpus", metavar="N|TYPE:N", help="GPUs that run at a time: 8, a100:4 or a100:4,v100:8."),
    click.option("--cpus", metavar="N", help="CPUs at a time."),
    click.option("--mem", metavar="SIZE", help="Memory at a time, such as 512G."),
    click.option("--gpu-hours", metavar="HOURS", help="GPU-hours of all jobs together (GrpTRESMins)."),
    click.option("--max-time", metavar="TIME", help="The longest time limit of a job, as sbatch --time."),
    click.option("--gpus-per-job", metavar="N|TYPE:N", help="GPUs of one job."),
)
_OF_ORGANIZATION = (
    click.option("--gpus-per-user", metavar="N|TYPE:N", help="GPUs of each user at a time, in a QOS of its own."),
    click.option("--no-decay/--decay", default=None, help="Whether GPU-hours are a total, which Slurm never forgets."),
    click.option(
        "--deny-on-limit/--wait-on-limit",
        default=None,
        help="Whether sbatch refuses a job that alone exceeds a limit.",
    ),
)
CANCEL = click.option("--cancel", is_flag=True, help="Cancel jobs in the queue first.")
DRY_RUN = click.option("--dry-run", is_flag=True, help="Print what would be done; change nothing.")


def _with(decorators: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for each in reversed(decorators):
            command = each(command)
        return command

    return decorate


@click.group()
def org() -> None:
    """Show and change organizations, their users and quotas: Slurm's accounts, associations and QOS.

    UNLIMITED takes a limit away. Changes need an operator of Slurm; those of users a coordinator of the organization;
    --gpus-per-user, --no-decay and --deny-on-limit an administrator, as only a QOS has them.
    """


@org.command()
@click.argument("name", required=False, default="")
@options.JSON
def show(name: str, as_json: bool) -> None:
    """Show organization NAME, or all: users, limits, and what is allocated, used, waiting and left."""
    from slurm_tf.cli import org_tables
    from slurm_tf.org import organizations

    found = organizations.read()
    shown = (found.named(name),) if name else found.organizations
    if as_json:
        click.echo(json.dumps(org_tables.as_dict(found, shown), indent=2))
        return
    click.echo(org_tables.text(found, shown), nl=False)
    if found.unknown:
        click.echo(f"slurm-tf: what is unknown was not said: {found.unknown}", err=True)


@org.command()
@click.argument("name")
@click.option("--parent", default="root", show_default=True, help="The organization above it.")
@_with((*_LIMITS, *_OF_ORGANIZATION))
@DRY_RUN
@options.JSON
def create(name: str, parent: str, dry_run: bool, as_json: bool, **limits: str | bool | None) -> None:
    """Make organization NAME: what its users may use together."""
    from slurm_tf.org import org_updates

    site = org_updates.ask()
    _make(site, org_updates.create(site, name, parent, _given(limits)), dry_run, as_json)


@org.command(name="set")
@click.argument("name")
@click.option("--user", default="", help="The user whose limits in NAME change.")
@_with((*_LIMITS, *_OF_ORGANIZATION))
@DRY_RUN
@options.JSON
def set_limits(name: str, user: str, dry_run: bool, as_json: bool, **limits: str | bool | None) -> None:
    """Change limits of organization NAME, or of a user in it."""
    from slurm_tf.org import org_updates

    given = _given(limits)
    if not given:
        raise click.UsageError("set needs a limit, such as --gpus 4")
    if user and any(name in given for name in ("gpus-per-user", "no-decay", "deny-on-limit")):
        raise click.UsageError("--gpus-per-user, --no-decay and --deny-on-limit are of organizations")
    site = org_updates.ask()
    _make(site, org_updates.set_limits(site, name, user, given), dry_run, as_json)


@org.command("add-user")
@click.argument("user")
@click.option("--org", "name", required=True, metavar="NAME", help="The organization.")
@_with(_LIMITS)
@DRY_RUN
@options.JSON
def add_user(user: str, name: str, dry_run: bool, as_json: bool, **limits: str | bool | None) -> None:
    """Add USER to an organization, with limits of the user's own there."""
    from slurm_tf.org import org_updates

    site = org_updates.ask()
    _make(site, org_updates.add_user(site, user, name, _given(limits)), dry_run, as_json)


@org.command("remove-user")
@click.argument("user")
@click.option("--org", "name", required=True, metavar="NAME", help="The organization.")
@CANCEL
@DRY_RUN
@options.JSON
def remove_user(user: str, name: str, cancel: bool, dry_run: bool, as_json: bool) -> None:
    """Remove USER from an organization; refused while jobs of the user are in its queue."""
    from slurm_tf.org import org_updates

    site = org_updates.ask()
    _make(site, org_updates.remove(site, name, user), dry_run, as_json, cancel)


@org.command()
@click.argument("name")
@CANCEL
@DRY_RUN
@options.JSON
def remove(name: str, cancel: bool, dry_run: bool, as_json: bool) -> None:
    """Remove organization NAME and its users from it; refused while it has jobs in the queue."""
    from slurm_tf.org import org_updates

    site = org_updates.ask()
    _make(site, org_updates.remove(site, name), dry_run, as_json, cancel)


@org.command()
@click.argument("file", metavar="FILE.toml", type=options.ExpandedPath(dir_okay=False))
@click.option("--remove", "with_removal", is_flag=True, help="Remove organizations and users that FILE does not have.")
@CANCEL
@DRY_RUN
@options.JSON
def apply(file: Path, with_removal: bool, cancel: bool, dry_run: bool, as_json: bool) -> None:
    """Make the organizations of FILE what it says: print what differs, change it, and read it back.

    Who is not in FILE stays, and is named, unless --remove is given.
    """
    from slurm_tf.org import org_file, org_updates
    from slurm_tf.org.tree_changes import Removal

    site = org_updates.ask()
    wanted = org_file.read(file, site.found)
    others = org_file.not_in_file(site.found, wanted)
    update = org_updates.plan(site, wanted, others if with_removal else Removal())
    if not with_removal:
        for said in [*others.organizations, *(f"{user} of {name}" for name, user in others.users)]:
            click.echo(f"slurm-tf: not in {printable(str(file))}, and stays: {printable(said)}", err=True)
    _make(site, update, dry_run, as_json, cancel)


def _given(limits: dict[str, str | bool | None]) -> dict[str, str | bool]:
    """Return the options that were typed, by their names."""
    return {name.replace("_", "-"): value for name, value in limits.items() if value is not None}


def _make(site: "Site", update: "Update", dry_run: bool, as_json: bool, cancel: bool = False) -> None:
    """Print what is to be done, do it, and print how Slurm forgets GPU-hours where some are limited."""
    from slurm_tf.cli import org_tables, text_table
    from slurm_tf.org import org_updates

    done: list[str] = []
    if not as_json:
        for each in update.changes:
            click.echo(f"will {printable(each.words)}")
        click.echo("" if update.changes else "nothing to change\n", nl=False)
    if update.jobs and (dry_run or cancel):
        click.echo(f"slurm-tf: jobs in the queue: {', '.join(update.jobs)}", err=True)
    if not dry_run:
        org_updates.make(update, cancel, lambda words: _say(words, done, as_json))
    if as_json:
        rows = [_as_dict(each, each.words in done) for each in update.changes]
        click.echo(json.dumps({"changes": rows, "jobs": update.jobs}, indent=2))
        return
    counted = [each for each in update.wanted if each.wish.limits.grp_tres_mins and update.changes]
    kept = [each.name for each in counted if each.wish.no_decay]
    lines = org_tables.hours_lines(site.found.forgetting, len(kept) < len(counted), kept)
    click.echo(text_table.sentences(lines), nl=False)


def _say(words: str, done: list[str], as_json: bool) -> None:
    done.append(words)
    if not as_json:
        click.echo(f"done: {printable(words)}")


def _as_dict(change: "Change", is_done: bool) -> dict[str, Any]:
    return {"words": change.words, "sacctmgr": list(change.argv), "done": is_done}
