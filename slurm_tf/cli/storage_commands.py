"""The verbs for what runs take on storage: du, rm."""

import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from slurm_tf import units
from slurm_tf.cli import completion, options, terminal, watch_commands
from slurm_tf.errors import RunError, SlurmError, UsageError

if TYPE_CHECKING:
    from slurm_tf.watch.disk_usage import DiskUsage
    from slurm_tf.watch.find_run import SelectedRun
    from slurm_tf.watch.removal import Part

RUNS = click.argument("runs", nargs=-1, metavar="[RUN]...", shell_complete=completion.runs)


@dataclass(frozen=True, slots=True)
class _Taken:
    """What a run takes: in all, and in bytes its checkpoints and the copies of its code."""

    label: str
    folder: str
    usage: "DiskUsage"
    checkpoints: int
    code: int


@dataclass(frozen=True, slots=True)
class _Removal:
    """What is removed of one run, and what that takes."""

    selected: "SelectedRun"
    label: str
    usage: "DiskUsage"


@click.command()
@RUNS
@options.JSON
def du(runs: tuple[str, ...], as_json: bool) -> None:
    """Show what each RUN takes on storage, the largest first; without RUN all runs, in any folder."""
    selected_runs = _select(runs)
    found = sorted(_taken(selected_runs), key=lambda each: -each.usage.size)
    if as_json:
        click.echo(json.dumps([_as_dict(each) for each in found], indent=2))
        return
    from slurm_tf.cli import tables, text_table
    from slurm_tf.watch import status_rows

    cells = [
        [each.label, *map(tables.size_text, (each.usage.size, each.checkpoints, each.code)), str(each.usage.files),
         status_rows.age_text(each.usage.changed)]
        for each in found
    ]  # fmt: skip
    if len(found) > 1:
        sums = (sum(column) for column in zip(*((e.usage.size, e.checkpoints, e.code) for e in found), strict=True))
        cells.append(["TOTAL", *map(tables.size_text, sums), str(sum(each.usage.files for each in found)), ""])
    heads = ["RUN", "SIZE", "CHECKPOINTS", "CODE", "FILES", "CHANGED"]
    click.echo(text_table.table(heads, cells, ("FILES", "CODE", "CHANGED"), "--json has all"), nl=False)
    _print_unreadable([each.usage for each in found])


def _taken(selected_runs: "list[SelectedRun]") -> "list[_Taken]":
    from slurm_tf.watch import disk_usage, find_run

    return [
        _Taken(
            label=label,
            folder=selected.folder.path,
            usage=disk_usage.measure([selected.folder.path]),
            checkpoints=disk_usage.measure(disk_usage.checkpoints(selected)).size,
            code=disk_usage.measure(disk_usage.copies_of_code(selected.folder)).size,
        )
        for selected, label in zip(selected_runs, find_run.labels(selected_runs), strict=True)
    ]


def _as_dict(taken: _Taken) -> dict[str, object]:
    return {
        "run": taken.label, "folder": taken.folder, "size": taken.usage.size, "checkpoints": taken.checkpoints,
        "code": taken.code, "files": taken.usage.files, "changed": taken.usage.changed,
    }  # fmt: skip


@click.command()
@RUNS
@click.option("--checkpoints", "only_checkpoints", is_flag=True, help="Remove checkpoints alone.")
@click.option(
    "--code", "only_code", is_flag=True, help="Remove the copies of the code alone, and what is written there."
)
@click.option(
    "--older-than", default="", metavar="AGE", help="Only runs in which nothing changed for AGE: 12h, 30d, 2w."
)
@click.option("--dry-run", is_flag=True, help="Print what would be removed; remove nothing.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@options.JSON
def rm(
    runs: tuple[str, ...],
    only_checkpoints: bool,
    only_code: bool,
    older_than: str,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Remove each RUN that is over; with --older-than and without RUN, all such runs, in any folder.

    What lives is never touched, and no symbolic link is followed. It asks before it removes anything.
    """
    from slurm_tf.watch import removal

    if only_checkpoints and only_code:
        raise UsageError("found --checkpoints and --code", "one of them, or neither to remove the whole run")
    if not runs and not older_than:
        raise UsageError("found no RUN", "runs, or --older-than AGE for all runs", "slurm-tf du shows them")
    if as_json and not dry_run and not yes:
        raise UsageError("found --json, with which nobody is asked", "--yes or --dry-run as well")
    chosen = {removal.Part.CHECKPOINTS: only_checkpoints, removal.Part.CODE: only_code}
    part = next((part for part, is_chosen in chosen.items() if is_chosen), removal.Part.ALL)
    removals = _removals(_select(runs), part, older_than, strict=bool(runs))
    if not removals and not as_json:
        click.echo("slurm-tf: nothing to remove", err=True)
        return
    if not as_json:
        _print_removals(removals, part)
    if not dry_run:
        if not yes:
            number = len(removals)
            question = f"Remove {'this' if number == 1 else f'these {number}'}?"
            terminal.ask(question, "--yes, to remove what is listed, or --dry-run")
        _remove(removals, part, as_json)
    if as_json:
        click.echo(json.dumps([_removal_as_dict(each, part, not dry_run) for each in removals], indent=2))


def _remove(removals: list[_Removal], part: "Part", quiet: bool) -> None:
    from slurm_tf.watch import removal

    for each in removals:
        removal.remove(each.selected, part)
        if not quiet:
            click.echo(f"removed {'' if part is removal.Part.ALL else f'{part.value} of '}{each.label}")


def _removal_as_dict(each: _Removal, part: "Part", removed: bool) -> dict[str, object]:
    return {
        "run": each.label, "folder": each.selected.folder.path, "part": part.value, "size": each.usage.size,
        "files": each.usage.files, "changed": each.usage.changed, "removed": removed,
    }  # fmt: skip


def _select(runs: tuple[str, ...]) -> "list[SelectedRun]":
    return list(dict.fromkeys(map(watch_commands.select_run, runs))) if runs else watch_commands.all_runs()


def _removals(selected_runs: "list[SelectedRun]", part: "Part", older_than: str, strict: bool) -> list[_Removal]:
    """Return what can be removed. Raises the error of a run that lives if `strict`, else leaves the run out."""
    from slurm_tf.launch.requeue import lease_holder
    from slurm_tf.watch import disk_usage, find_run, removal

    before = time.time() - units.parse_age(older_than).total_seconds() if older_than else None
    slurm, found = watch_commands.connect(), []

    def say(text: str) -> None:
        click.echo(f"slurm-tf: {text}", err=True)

    for selected, label in zip(selected_runs, find_run.labels(selected_runs), strict=True):
        if before is not None and disk_usage.measure([selected.folder.path]).changed > before:
            continue
        try:
            paths = removal.paths(selected, part)
            removal.check_jobs(selected.run, slurm)
            for folder in (selected.run, *disk_usage.points(selected.run)):
                lease_holder.over(folder, os.environ, say)
        except (RunError, SlurmError) as error:
            if strict:
                raise
            say(f"{label} is left: {error}")
            continue
        found.append(_Removal(selected, label, disk_usage.measure(paths)))
    return found


def _print_removals(removals: list[_Removal], part: "Part") -> None:
    """Print what each removal takes, and from where."""
    from slurm_tf.cli import tables, text_table
    from slurm_tf.watch import status_rows

    cells = [
        [each.label, part.value, tables.size_text(each.usage.size), str(each.usage.files),
         status_rows.age_text(each.usage.changed) if each.usage.files else "-", each.selected.folder.path]
        for each in removals
    ]  # fmt: skip
    heads = ["RUN", "REMOVES", "SIZE", "FILES", "CHANGED", "FOLDER"]
    click.echo(text_table.table(heads, cells, ("FILES", "CHANGED"), "--json has all"), nl=False)
    click.echo(f"{tables.size_text(sum(each.usage.size for each in removals))} in all")
    _print_unreadable([each.usage for each in removals])


def _print_unreadable(usages: "list[DiskUsage]") -> None:
    for path in (path for usage in usages for path in usage.unreadable):
        click.echo(f"slurm-tf: {path} cannot be read: what it holds is not counted", err=True)
