"""The verb resubmit, which submits a run again as it was."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import options, submit_commands, terminal, watch_commands
from slurm_tf.cli.submit_commands import SubmitOptions

if TYPE_CHECKING:
    from slurm_tf.watch.run_overview import RunOverview


@click.command()
@watch_commands.RUN
@click.option("--failed", is_flag=True, help="Submit only the sweep points that did not end with exit code 0.")
@click.option("--parsable", is_flag=True, help="Print only the job ids.")
@click.option("--wait", is_flag=True, help="Wait until RUN is over, as sbatch --wait.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask whether to submit again what has completed.")
@options.JSON
@options.FORGET_BAD_NODES
def resubmit(
    run: str, failed: bool, parsable: bool, wait: bool, yes: bool, as_json: bool, forget_bad_nodes: bool
) -> None:
    """Submit RUN, or sweep points of it, again: with the same code, from the last checkpoint.

    It asks before it submits again what has completed.
    """
    from slurm_tf.run import bad_nodes
    from slurm_tf.watch import resubmit

    found = watch_commands.select_run(run)
    over = resubmit.points_over(watch_commands.connect(), found, failed)
    requests = resubmit.submit_requests(over)
    if not yes:
        _ask(over)
    if forget_bad_nodes:
        bad_nodes.forget(found.run)
    bad = submit_commands.print_excluded_nodes(found.run)
    sent = []
    for each in resubmit.submit(requests, bad):
        submit_commands.print_submitted(each, parsable, quiet=as_json)
        sent.append(each)
    if not parsable:
        words = resubmit.from_where([point.selected.folder for point in over])
        click.echo(f"Run {terminal.printable(found.name)} {words}", err=True)
    given = SubmitOptions(False, parsable, wait, False, 0, as_json)
    submit_commands.finish(found, sent, given)


def _ask(over: "Sequence[RunOverview]") -> None:
    """Ask about runs or sweep points that have completed."""
    completed = [point for point in over if point.exit_code == 0]
    if not completed:
        return
    name = terminal.printable(over[0].selected.run.name)
    what = f"Run {name} has completed"
    if len(over) > 1:
        what = f"{len(completed)} of {len(over)} points of run {name} have completed"
    click.echo(what, err=True)
    otherwise = "--yes, to submit again what has completed"
    terminal.ask("Submit again?", otherwise if len(over) == 1 else f"{otherwise}, or --failed")
