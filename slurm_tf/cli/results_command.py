"""The verb results, which compares what runs and the points of a sweep reported of their training."""

import json
import sys
from pathlib import Path

import click

from slurm_tf.cli import completion, options, watch_commands
from slurm_tf.errors import UsageError


@click.command()
@click.argument("runs", metavar="RUN...", nargs=-1, required=True, shell_complete=completion.runs)
@click.option("--sort", "key", metavar="METRIC", default="", help="The best first; or the name of a param.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; null means unknown.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, one line for each run or sweep point.")
@click.option(
    "--html", metavar="FILE", type=options.ExpandedPath(dir_okay=False), help="Write an HTML page with the curves."
)
def results(runs: tuple[str, ...], key: str, as_json: bool, as_csv: bool, html: Path | None) -> None:
    """Compare what RUNs reported: a line for each run or sweep point, with its params and metrics.

    A metric has its last value and its best one, which is the lowest of a loss or error and the highest of an accuracy.
    """
    from slurm_tf.cli import results_tables
    from slurm_tf.watch import results as watched

    if as_csv and as_json:
        raise UsageError("found --csv and --json", "one of them")
    selected = list(dict.fromkeys(watch_commands.select_run(name) for name in runs))
    found = watched.read(watch_commands.connect(), selected)
    known = [*watched.all_metrics(found), *dict.fromkeys(name for each in found for name in each.params)]
    if key and key not in known:
        raise UsageError(f"found --sort {key}", f"a metric or a param of these runs: {', '.join(known) or 'none yet'}")
    rows = watched.ordered(found, key) if key else found
    metric = key if key in watched.all_metrics(found) else watched.main_metric(found)
    if html:
        from slurm_tf.watch import results_page

        results_page.write(html, rows, metric)
        click.echo(f"slurm-tf: wrote {html}", err=True)
    if as_json:
        click.echo(json.dumps([results_tables.as_dict(each) for each in rows], indent=2))
    elif as_csv:
        sys.stdout.writelines(results_tables.comma_separated(rows))
    elif not html:
        click.echo(results_tables.text(rows, metric), nl=False)
    for note in found[0].overview.notes:
        click.echo(f"slurm-tf: {note}", err=True)
