"""The verb usage, which adds up what jobs used, from Slurm's accounting."""

import importlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import completion, options, watch_commands
from slurm_tf.errors import SlurmError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from slurm_tf.account.html_report import Page
    from slurm_tf.account.run_records import RunRecords
    from slurm_tf.account.source import Source
    from slurm_tf.account.window import Window
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
FIELDS = click.option(
    "--fields",
    default="",
    metavar="NAMES",
    help="The columns of a FILE that has no header line.",
)


@click.command(options_metavar="[OPTIONS]")
@click.option(
    "--since",
    "-S",
    metavar="TIME",
    help="Start, as sacct --starttime; default: 30 days ago; for a file, its beginning.",
)
@click.option("--until", "-E", metavar="TIME", help="End, as sacct --endtime; default: now.")
@click.option("--by", metavar="KEYS", help="Group by these keys: user,account,template,name,partition,node,...")
@click.option("--group", is_flag=True, help="Report to the leader of accounts: each member, idle GPUs, ...")
@click.option("--sort", default="", metavar="WORD", help="Sort by a key of --by, or by a column: gpu-hours, wait, ...")
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Print only the first N groups.")
@click.option("--user", "-u", "users", multiple=True, metavar="NAMES", help="Only these users.")
@click.option("--account", "-A", "accounts", multiple=True, metavar="NAMES", help="Only these accounts.")
@click.option("--name", "names", multiple=True, metavar="GLOBS", help="Only jobs of these names: 'train*'.")
@click.option("--state", "-s", "states", multiple=True, metavar="STATES", help="Only jobs in these states: F,TO,OOM.")
@click.option("--run", metavar="RUN", default="", help="Only the jobs of this run.", shell_complete=completion.runs)
@ALL_USERS
@click.option("--json", "as_json", is_flag=True, help="Print JSON; null means unknown.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, one line for each group.")
@click.option(
    "--html", metavar="FILE", type=options.ExpandedPath(dir_okay=False), help="Write an HTML page with plots."
)
@click.option("--sql", metavar="QUERY", help='Print what "select ..." returns of the tables jobs and steps.')
@click.option(
    "--parquet", metavar="FILE", type=options.ExpandedPath(dir_okay=False), help="Write the rows of jobs as Parquet."
)
@FROM
@FIELDS
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
    by: str | None,
    group: bool,
    sort: str,
    top: int | None,
    users: tuple[str, ...],
    accounts: tuple[str, ...],
    names: tuple[str, ...],
    states: tuple[str, ...],
    run: str,
    all_users: bool,
    as_json: bool,
    as_csv: bool,
    html: Path | None,
    sql: str | None,
    parquet: Path | None,
    path: str | None,
    fields: str,
    prices: Path | None,
    no_ledger: bool,
    rebuild: bool,
    site: str,
) -> None:
    """Show what your jobs used, what was wasted and why, and what you may still use.

    With --by, --from or --all-users: show groups of jobs: hours, waiting times, efficiency, losses. Every incarnation
    of a requeued job counts.

    KEYS: user, account, template, name, partition, gpu-type, state, run, node, day, qos, wckey, cluster; several are
    separated by commas. A template is a job template, else the name in a job file; a name is the job's own.
    """
    from slurm_tf.account import connection
    from slurm_tf.cli.meanwhile import meanwhile

    context = click.get_current_context()
    connected = context.with_resource(connection.opened())  # while all else is imported
    known = context.with_resource(meanwhile(_sacct_fields, not path))
    from slurm_tf.account import database
    from slurm_tf.cli import group_options, usage_output

    window = time_window(since, until, None if path else _DAYS)
    groups = group_options.Groups.read(by, sort, top, group)
    where = group_options.conditions(split(names), split(states))
    is_for_person = not (by or group or sort or top or run or path or all_users or as_csv or html or sql or parquet)
    owners = split(accounts)
    if group and not path:
        owners, all_users = owners or group_options.own_accounts(), True
    asked = source(path, fields, all_users, known=known)
    if not (path or no_ledger):
        asked = _with_ledger(asked, all_users, rebuild)
    are_limits_wanted = (is_for_person or group) and not path and not users
    with (
        meanwhile(usage_output.limits, are_limits_wanted) as limits,
        meanwhile(_runs_and_prices, site, prices, bool(path)) as runs_and_prices,
    ):
        if run or site or prices:  # what is wrong with them is said before sacct is asked
            runs_and_prices()
        label, jobs = _of_run(run, runs_and_prices()[0]) if run else ("", [])
        found = database.Tables(connected)
        found.where = where
        asked.read(found, window, split(users), owners, jobs)
        from slurm_tf.account import exports
        from slurm_tf.account import report as reports
        from slurm_tf.account import usage as usages
        from slurm_tf.account.amounts import Amounts

        runs, table = runs_and_prices()
        runs.add_to(found)
        if parquet:
            exports.write_parquet(found.database, parquet)
            click.echo(f"slurm-tf: wrote {parquet}", err=True)
        if sql is not None:
            usage_output.print_answer(exports.answer(found.database, sql), as_json, as_csv)
            return
        noticed = found.noticed()
        sums = usages.Aggregate(found.database, window, groups.by, table, are_few=found.are_few)
        is_question = is_for_person or (group and not html)  # its answers are other sums
        rows = [] if is_question else sums.rows(as_json)
        shown = groups.shown(rows)
        total = Amounts() if is_question or (as_csv and not html) else sums.total()  # CSV has none
        report = reports.Report(
            window, sums.by, shown, total, noticed.result, table.currency, runs.problems, len(rows) - len(shown)
        )
        if is_for_person:
            usage_output.print_person(found.database, report, limits(), as_json)
            return

        def page() -> "Page":
            from slurm_tf.account.html_report import Page

            return Page(found.database, window, label, by=groups.by)

        forms = usage_output.Forms(as_json, as_csv, html, parquet)
        if group:
            usage_output.print_leader(found.database, report, page, limits(), forms)
        else:
            usage_output.print_groups(report, page, forms)


def _sacct_fields(are_wanted: bool) -> frozenset[str]:
    """Return the fields that sacct has; none if they are not wanted. Raises SlurmError."""
    from slurm_tf.slurm import sacct

    return sacct.fields() if are_wanted else frozenset()


def _runs_and_prices(site: str, prices: Path | None, is_of_file: bool) -> "tuple[RunRecords, Prices]":
    """Return the records of the user's runs, and the prices. Raises ConfigError, UsageError or StorageError."""
    from slurm_tf.account.run_records import RunRecords
    from slurm_tf.jobspec import sites

    importlib.import_module("slurm_tf.account.person")  # which is wanted next
    settings = watch_commands.site_settings(site)
    runs = RunRecords(settings.runs)
    found = sites.read_prices(prices) if prices else settings.site.prices
    if found.currency and not is_of_file:
        found = _with_usage_factors(found, runs.problems)
    return runs, found


def _of_run(run: str, runs: "RunRecords") -> tuple[str, list[str]]:
    """Return the label and the jobs of the run that was typed. Raises UsageError."""
    selected = watch_commands.select_run(run).run
    jobs = runs.jobs_of(selected)
    if not jobs:
        raise UsageError(f"run {run} was not submitted", "a run that was submitted", "slurm-tf list --all")
    return runs.label(selected), jobs


def time_window(since: str | None, until: str | None, days: int | None) -> "Window":
    """Return the time that options mean; without --since so many days, None: all time. Raises UsageError."""
    from slurm_tf.account import when
    from slurm_tf.account.window import Window

    now = int(time.time())
    end = when.parse(until, now) if until else now
    first = 0 if days is None else when.parse(f"now-{days}days", when.parse("midnight", now))
    start = when.parse(since, now) if since else first
    if start >= end:
        raise UsageError(f"found --since {since} --until {until or 'now'}", "a --since that is before --until")
    return Window(start, end)


def source(
    path: str | None,
    fields: str,
    all_users: bool,
    lengths_suffice: bool = False,
    clusters: "Sequence[str]" = (),
    known: "Callable[[], frozenset[str]] | None" = None,
) -> "Source":
    """Return where records come from: a saved table, else sacct, of these clusters. Raises UsageError.

    `known`: what returns the fields of sacct; None: sacct is asked. `lengths_suffice`: whether a table without the
    times of start and end will do.
    """
    if fields and not path:
        raise UsageError("found --fields without --from", "both: --fields is for a file without a header line")
    if path:
        from slurm_tf.account.saved import FileSource

        return FileSource(path, fields, lengths_suffice=lengths_suffice)
    from slurm_tf.account.source import SacctSource

    return SacctSource(all_users, clusters=clusters, known=known)


def _with_ledger(inner: "Source", all_users: bool, rebuild: bool) -> "Source":
    """Return a source that keeps closed days in the ledger; `inner` itself where the cluster's name is unknown."""
    from slurm_tf.account import ledger
    from slurm_tf.slurm import slurm_conf

    cluster = os.environ.get("SLURM_CLUSTERS") or slurm_conf.cluster_name(os.environ)
    return ledger.LedgerSource(ledger.path(cluster), inner, all_users, rebuild) if cluster else inner


def _with_usage_factors(prices: "Prices", problems: list[str]) -> "Prices":
    """Return the prices with the UsageFactor of each QOS; where Slurm does not say it, `problems` has a line more."""
    from slurm_tf.slurm import usage_limits

    try:
        return prices.with_factors(usage_limits.usage_factors())
    except SlurmError as error:
        problems.append(f"the UsageFactor of each QOS is unknown, and 1 in prices: {error.found}")
        return prices


def split(lists: tuple[str, ...]) -> list[str]:
    """Return the words of options that take lists with commas."""
    return [word for each in lists for word in each.split(",") if word]
