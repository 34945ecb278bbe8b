"""The verb checkpoints, which lists, verifies, prunes and exports the checkpoints of a run."""

import json
import os
import sys
from typing import TYPE_CHECKING

import click

from slurm_tf import files
from slurm_tf.cli import options, watch_commands
from slurm_tf.errors import CheckpointError, UsageError
from slurm_tf.run import manifest

if TYPE_CHECKING:
    from slurm_tf.watch.find_run import SelectedRun

_WORDS = {"list": (0, 0), "verify": (0, 1), "prune": (0, 0), "export": (2, 2)}


@click.command(options_metavar="[OPTIONS]")
@watch_commands.RUN
@click.argument("what", type=click.Choice(list(_WORDS)), default="list")
@click.argument("words", nargs=-1, metavar="[STEP [FOLDER]]")
@click.option(
    "--keep", type=click.IntRange(min=1), help="prune: how many to keep; default: checkpoint.keep of the job file."
)
@click.option(
    "--python", default=sys.executable, help="verify: a Python with TensorFlow; default: the Python of slurm-tf."
)
@options.JSON
def checkpoints(run: str, what: str, words: tuple[str, ...], keep: int | None, python: str, as_json: bool) -> None:
    """List the checkpoints of RUN, verify or prune them, or export one.

    list: print step, time, size, and whether it is whole. verify: compare every byte of all checkpoints, or of STEP,
    with its checksums. prune: remove all but the newest; refused while an attempt of the run is alive, which prunes by
    itself. export: copy STEP (or "latest") to a new FOLDER, which tf.train.load_checkpoint(FOLDER) reads.
    """
    least, most = _WORDS[what]
    if not least <= len(words) <= most:
        raise UsageError(f"found {len(words)} words after {what}", "STEP FOLDER" if most == 2 else f"at most {most}")
    selected_runs = watch_commands.select_run(run).points()
    if what == "list":
        _list(selected_runs, as_json)
    elif what == "verify":
        _verify(selected_runs, words[0] if words else "", python, as_json)
    elif what == "prune":
        _prune_all(selected_runs, keep, as_json)
    elif len(selected_runs) > 1:
        raise UsageError(
            f"run {run} has {len(selected_runs)} sweep points", f"one of them, such as {selected_runs[0].name}"
        )
    else:
        _export(selected_runs[0], words[0], words[1], as_json)


def _list(selected_runs: "list[SelectedRun]", as_json: bool) -> None:
    from slurm_tf.watch import stored_checkpoints

    listed = {selected.name: stored_checkpoints.describe(selected.folder.checkpoints) for selected in selected_runs}
    if as_json:
        click.echo(json.dumps([{"run": name, **row} for name, rows in listed.items() for row in rows], indent=2))
        return
    from slurm_tf.cli import tables, text_table

    heads = ["RUN"] * (len(selected_runs) > 1) + ["STEP", "WRITTEN", "SIZE", "STATE"]
    for name, rows in listed.items():
        if not rows:
            click.echo(f"slurm-tf: run {name} has no checkpoints", err=True)
    cells = [
        [name] * (len(selected_runs) > 1) + tables.checkpoint_cells(row)
        for name, rows in listed.items()
        for row in rows
    ]
    if cells:
        click.echo(text_table.table(heads, cells, ("SIZE", "WRITTEN"), "--json has all"), nl=False)


def _verify(selected_runs: "list[SelectedRun]", step: str, python: str, as_json: bool) -> None:
    from slurm_tf.watch import stored_checkpoints

    compared: list[dict[str, object]] = []
    for selected in selected_runs:
        folder = selected.folder.checkpoints
        rows = stored_checkpoints.describe(folder)
        steps = [stored_checkpoints.find(folder, step).step] if step else [int(str(row["step"])) for row in rows]
        wrong = {int(str(row["step"])): str(row["problem"]) for row in rows if row["problem"]}
        whole = [each for each in steps if each not in wrong]
        found = [(each, wrong[each]) for each in steps if each in wrong]
        for each, problem in [*found, *stored_checkpoints.verify(folder, whole, python)] if whole else found:
            compared.append({"run": selected.name, "step": each, "problem": problem})
            if not as_json:
                click.echo(f"{selected.name} step {each}: {problem or 'every tensor is as it was written'}")
    if as_json:
        click.echo(json.dumps(compared, indent=2))
    bad = sum(row["problem"] is not None for row in compared)
    if bad:
        raise CheckpointError(f"{bad} checkpoints cannot be used", "checkpoints whose bytes are as they were written")


def _prune_all(selected_runs: "list[SelectedRun]", keep: int | None, as_json: bool) -> None:
    rows = []
    for selected in selected_runs:
        removed, kept = _prune(selected, keep)
        rows.append({"run": selected.name, "removed": removed, "kept": kept})
        if not as_json:
            click.echo(f"{selected.name}: removed {removed}, kept {kept}")
    if as_json:
        click.echo(json.dumps(rows, indent=2))


def _prune(selected: "SelectedRun", keep: int | None) -> tuple[int, int]:
    """Remove old checkpoints under a lease of the run's last attempt, which must have ended.

    Return how many were removed, and how many whole ones are left.
    """
    from slurm_tf.launch.requeue import lease_holder
    from slurm_tf.run import checkpoint_folder

    folder = selected.folder
    held = lease_holder.over(folder, os.environ, lambda text: click.echo(f"slurm-tf: {text}", err=True))
    # an attempt that starts now takes the lease over, and pruning stops
    fence = checkpoint_folder.fence(folder.path, held.attempt, held.step) if held else checkpoint_folder.no_fence
    number = keep or int(manifest.read(selected.run.manifest).job["checkpoint"]["keep"])
    before = sorted(os.listdir(folder.checkpoints))
    checkpoint_folder.remove_unfinished(folder.checkpoints, fence)
    checkpoint_folder.prune(folder.checkpoints, number, fence)
    gone = len(before) - len(os.listdir(folder.checkpoints))
    return gone, sum(1 for _ in checkpoint_folder.complete(folder.checkpoints))


def _export(selected: "SelectedRun", step: str, folder: str, as_json: bool) -> None:
    from slurm_tf.watch import stored_checkpoints

    found = stored_checkpoints.find(selected.folder.checkpoints, step)
    with files.explained(f"export step {found.step}", folder):
        stored_checkpoints.export(found, folder)
    if as_json:
        click.echo(json.dumps({"run": selected.name, "step": found.step, "folder": files.absolute(folder)}, indent=2))
        return
    click.echo(f"step {found.step} of {selected.name} is in {folder}: tf.train.load_checkpoint({folder!r})")
