"""The verb usage, which adds up what jobs used, from Slurm's accounting."""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import completion, options, watch_commands
from slurm_tf.errors import SlurmError, UsageError

if TYPE_CHECKING:
    from slurm_tf.account.report import Report
    from slurm_tf.account.source import Source
    from slurm_tf.account.usage_record import Window
    from slurm_tf.jobspec.sites import Prices

_DAYS = 30

ALL_USERS = click.option(
    "--all-users", "-a", is_flag=True, help="Include the jobs of all users that you may see, as sacct --allusers."
)
FROM = click.option(
    "--from",
    "path",
    metavar="FILE",
    help='Read what sacct printed (-P, CSV or --json; also gzip) from this file; "-": standard input.',
)
FORMAT = click.option(
    "--format", "form", default="", metavar="FIELDS", help="The columns of a FILE that has no header line."
)


@click.command(options_metavar="[OPTIONS]")
@click.option(
    "--since",
    "-S",
    metavar="TIME",
    help="Start, as sacct --starttime; default: 30 days ago; for a file, its beginning.",
)
@click.option("--until", "-E", metavar="TIME", help="End, as sacct --endtime; default: now.")
@click.option("--by", default="user", metavar="KEYS", help="Group by these keys: user,account,template,partition,...")
@click.option("--user", "-u", "users", multiple=True, metavar="NAMES", help="Only these users.")
@click.option("--account", "-A", "accounts", multiple=True, metavar="NAMES", help="Only these accounts.")
@click.option("--run", metavar="RUN", default="", help="Only the jobs of this run.", shell_complete=completion.runs)
@ALL_USERS
@click.option("--json", "as_json", is_flag=True, help="Print JSON; null means unknown.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, one line for each group.")
@click.option(
    "--html", metavar="FILE", type=options.ExpandedPath(dir_okay=False), help="Write an HTML page with plots."
)
@FROM
@FORMAT
@click.option(
    "--prices",
    metavar="FILE",
    type=options.ExpandedPath(exists=True, dir_okay=False),
    help="A TOML file with the keys of [prices] of a site profile.",
)
@click.option("--no-ledger", is_flag=True, help="Ask Slurm for past days as well, and do not store them.")
@click.option("--rebuild", is_flag=True, help="Delete what the ledger holds of past days, and ask for them again.")
@options.SITE
def usage(
    since: str | None,
    until: str | None,
    by: str,
    users: tuple[str, ...],
    accounts: tuple[str, ...],
    run: str,
    all_users: bool,
    as_json: bool,
    as_csv: bool,
    html: Path | None,
    path: str | None,
    form: str,
    prices: Path | None,
    no_ledger: bool,
    rebuild: bool,
    site: str,
) -> None:
    """Show what jobs used: hours, waiting times, efficiency, losses. Every incarnation of a requeued job counts.

    KEYS: user, account, template, partition, gpu-type, state, run, day, qos, wckey, cluster; several are separated by
    commas. A template is a job template, else the name in a job file.
    """
    from slurm_tf.account import database
    from slurm_tf.account import report as reports
    from slurm_tf.account import usage as usages
    from slurm_tf.account.run_records import RunRecords
    from slurm_tf.jobspec import sites

    window = _window(since, until, path)
    around = watch_commands.site_settings(site)
    runs = RunRecords(around.runs)
    table = sites.read_prices(prices) if prices else around.site.prices
    if table.currency and not path:
        table = _with_usage_factors(table, runs.problems)
    selected = watch_commands.select_run(run).run if run else None
    jobs = runs.jobs_of(selected) if selected else []
    if selected and not jobs:
        raise UsageError(f"run {run} was not submitted", "a run that was submitted", "slurm-tf list --all")
    words = [word.strip() for word in by.split(",") if word.strip()]
    usages.check_words(words)
    asked = source(path, form, all_users)
    if not (path or no_ledger):
        asked = _with_ledger(asked, all_users, rebuild)
    with database.opened() as accounted:
        asked.read(accounted, window, _split(users), _split(accounts), jobs)
        runs.add_to(accounted)
        sums = usages.Aggregate(accounted.database, window, words, table)
        found = reports.Report(
            window, sums.by, sums.rows(as_json), sums.total(), accounted.diagnostics, table.currency, runs.problems
        )
        if html:
            from slurm_tf.account.html_report import Page

            Page(accounted.database, window, runs.label(selected) if selected else "", by=words).write(html, found)
            click.echo(f"slurm-tf: wrote {html}", err=True)
    if not html or as_json or as_csv:
        _print_report(found, as_json, as_csv)


def _window(since: str | None, until: str | None, path: str | None) -> "Window":
    from slurm_tf.account import when
    from slurm_tf.account.usage_record import Window

    now = int(time.time())
    end = when.parse(until, now) if until else now
    first = 0 if path else when.parse(f"now-{_DAYS}days", when.parse("midnight", now))
    start = when.parse(since, now) if since else first
    if start >= end:
        raise UsageError(f"found --since {since} --until {until or 'now'}", "a --since that is before --until")
    return Window(start, end)


def source(path: str | None, form: str, all_users: bool) -> "Source":
    """Return where records come from: a saved table, else sacct. Raises UsageError."""
    from slurm_tf.account.saved import FileSource
    from slurm_tf.account.source import SacctSource

    if form and not path:
        raise UsageError("found --format without --from", "both: --format is for a file without a header line")
    return FileSource(path, form) if path else SacctSource(all_users)


def _with_ledger(inner: "Source", all_users: bool, rebuild: bool) -> "Source":
    """Return a source that keeps closed days in the ledger; `inner` itself where the cluster's name is unknown."""
    from slurm_tf.account import ledger
    from slurm_tf.jobspec import sites

    cluster = os.environ.get("SLURM_CLUSTERS") or sites.cluster_name(os.environ)
    return ledger.LedgerSource(ledger.path(cluster), inner, all_users, rebuild) if cluster else inner


def _with_usage_factors(prices: "Prices", problems: list[str]) -> "Prices":
    """Return the prices with the UsageFactor of each QOS; where Slurm does not say it, `problems` has a line more."""
    from slurm_tf.slurm import usage_limits

    try:
        return prices.with_factors(usage_limits.usage_factors())
    except SlurmError as error:
        problems.append(f"the UsageFactor of each QOS is unknown, and 1 in prices: {error.found}")
        return prices


def _split(lists: tuple[str, ...]) -> list[str]:
    return [word for each in lists for word in each.split(",") if word]


def _print_report(report: "Report", as_json: bool, as_csv: bool) -> None:
    from slurm_tf.cli import terminal, usage_tables

    if as_json:
        sys.stdout.writelines(report.json())
    elif as_csv:
        sys.stdout.writelines(usage_tables.comma_separated(report))
        for remark in report.remarks():
            click.echo(f"slurm-tf: {remark}", err=True)
    else:
        narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
        width = shutil.get_terminal_size().columns if narrow else None
        screen = terminal.Screen(width, terminal.has_colour(sys.stdout))
        click.echo(usage_tables.text(report, screen), nl=False)
