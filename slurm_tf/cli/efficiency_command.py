"""The verb efficiency, which compares what jobs asked for with what they used."""

import csv
import json
import re
import sys
import time
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import completion, options, usage_command, watch_commands
from slurm_tf.errors import UsageError

if TYPE_CHECKING:
    from slurm_tf.account.efficiency import JobEfficiency
    from slurm_tf.account.job_use import Chosen, JobUse
    from slurm_tf.account.run_records import RunRecords

_JOB = re.compile(r"\d+(_\d+|\+\d+)?", re.ASCII)
_DAYS = 7


@click.command(options_metavar="[OPTIONS]")
@click.argument("what", nargs=-1, metavar="[JOB|RUN]...", shell_complete=completion.runs)
@click.option("--since", "-S", metavar="TIME", help="Start, as sacct --starttime, or -7d, -2h; default: 7 days ago.")
@click.option("--until", "-E", metavar="TIME", help="End, as sacct --endtime; default: now.")
@click.option("--user", "-u", "users", multiple=True, metavar="NAMES", help="Only jobs of these users.")
@click.option("--account", "-A", "accounts", multiple=True, metavar="NAMES", help="Only jobs of these accounts.")
@click.option("--partition", "-r", "partitions", multiple=True, metavar="NAMES", help="Only jobs in these partitions.")
@click.option("--state", "-s", "states", multiple=True, metavar="STATES", help="Only jobs in these states: CD,TO,OOM.")
@click.option("--name", "names", multiple=True, metavar="GLOBS", help="Only jobs of these names: 'cnn*,bert'.")
@usage_command.ALL_USERS
@click.option("--duplicates", "-D", is_flag=True, help="A row for each incarnation of a requeued job.")
@click.option("--format", "-o", "form", default="", metavar="COLUMNS", help="Columns; +User,NNodes adds to the usual.")
@click.option("--sort", "order", default="", metavar="COLUMNS", help="Order by these; -CPUEff is descending.")
@options.JSON
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV; empty means unknown.")
@usage_command.FROM
@usage_command.FIELDS
def efficiency(
    what: tuple[str, ...],
    since: str | None,
    until: str | None,
    users: tuple[str, ...],
    accounts: tuple[str, ...],
    partitions: tuple[str, ...],
    states: tuple[str, ...],
    names: tuple[str, ...],
    all_users: bool,
    duplicates: bool,
    form: str,
    order: str,
    as_json: bool,
    as_csv: bool,
    path: str | None,
    fields: str,
) -> None:
    """Show what jobs asked for and used, and what to ask for next time.

    Of one JOB (a job id) or RUN: each resource, and advice. Of several, or of all jobs that ended or ran since a TIME:
    a table. A run stands for its jobs. Of several incarnations and array tasks the highest value counts in the advice.
    """
    from slurm_tf.account import database, efficiency_table, job_use
    from slurm_tf.account.run_records import RunRecords
    from slurm_tf.account.usage_record import Window
    from slurm_tf.cli import text_table

    now, runs = int(time.time()), RunRecords(watch_commands.runs_folder())
    jobs = [job for word in what for job in ([word] if _JOB.fullmatch(word) else _jobs(word, runs))]
    chosen = _chosen(states, names, partitions)
    efficiency_table.check(form, order)
    is_one = len(what) == 1 and not (since or until or form or order or as_csv or chosen != job_use.Chosen())
    window = Window(0, now + 1)
    if since or until or not (what or path):
        window = usage_command.time_window(since, until, None if path or what else _DAYS)
    source = usage_command.source(path, fields, all_users, lengths_suffice=True)
    with database.opened() as found:
        source.read(found, window, usage_command.split(users), usage_command.split(accounts), jobs)
        runs.add_to(found)
        uses = list(job_use.found(found.database, chosen, each=is_one or duplicates))
        missing, remarks = found.diagnostics.missing_fields, efficiency_table.remarks(found.diagnostics)
    ran = [use for use in uses if use.ran]
    if what and not ran:
        do = "squeue shows pending jobs; --all-users includes the jobs of other users"
        named = ", ".join(what)
        raise UsageError(f"accounting has no job of {named} that has started", "a job that has started", do)
    pending = len(uses) - len(ran)
    if pending and not is_one:
        remarks.append(f"{pending} job{'s' * (pending != 1)} did not start")
    if is_one:
        _print_one(what[0], jobs, ran, missing, remarks, as_json)
    else:
        _print_table(ran, remarks, form, order, as_json, as_csv)
    if not as_json:
        click.echo(text_table.sentences([f"Note: {remark}" for remark in remarks]), nl=False, err=as_csv)


def _chosen(states: tuple[str, ...], names: tuple[str, ...], partitions: tuple[str, ...]) -> "Chosen":
    from slurm_tf.account.job_use import Chosen
    from slurm_tf.slurm.job_states import JobState

    words = usage_command.split(states)
    found = [JobState.parse(word) for word in words]
    for word, state in zip(words, found, strict=True):
        if state is JobState.UNKNOWN:
            raise UsageError(f"found --state {word!r}", "states as sacct names them: COMPLETED, CD, TIMEOUT, OOM, ...")
    return Chosen(tuple(found), tuple(usage_command.split(names)), tuple(usage_command.split(partitions)))


def _jobs(text: str, runs: "RunRecords") -> list[str]:
    """Return the ids of a run's jobs, of all its submissions; for NAME/POINT the newest job of that sweep point."""
    found = watch_commands.select_run(text)
    if found.point is not None:
        return [found.job_ids[found.point]]
    jobs = runs.jobs_of(found.run) or list(found.job_ids.values())
    if not jobs:
        raise UsageError(f"run {text} was not submitted", "a run that was submitted")
    return jobs


def _print_one(
    what: str, jobs: list[str], uses: "list[JobUse]", missing: list[str], remarks: list[str], as_json: bool
) -> None:
    from slurm_tf.account import efficiency as efficiencies

    found = efficiencies.gather(uses)
    if as_json:
        rows = [efficiencies.as_dict(component, asked, missing) for component, asked in sorted(found.items())]
        click.echo(json.dumps({"asked": what, "jobs": jobs, "components": rows, "notes": remarks}, indent=2))
        return
    for number, (component, asked) in enumerate(sorted(found.items())):
        click.echo(("\n" if number else "") + _text(f"{what}{component}", asked, missing), nl=False)


def _text(name: str, asked: "JobEfficiency", missing: "list[str] | tuple[str, ...]" = ()) -> str:
    from slurm_tf.account import efficiency as efficiencies
    from slurm_tf.cli import terminal, text_table, usage_tables

    ends = ", ".join(f"{count} {end.word}" for end, count in sorted(asked.ends.items()))
    waited = "an unknown time" if asked.waited is None else usage_tables.duration(asked.waited)
    head = [
        f"{name}: {asked.incarnations} incarnation{'s' * (asked.incarnations != 1)} ({ends})",
        f"ran for {usage_tables.duration(asked.seconds)}, waited for {waited}",
    ]
    rows = []
    for row in efficiencies.advice(asked):
        used = row.used if row.share is None else f"{row.used} ({usage_tables.share(row.share)})"
        rows.append([row.key, row.asked, used, row.next or "as now", row.why])
    table = text_table.table(["", "ASKED", "USED", "NEXT TIME", "WHY"], rows, ("WHY",), "--json has all")
    notes = text_table.sentences([f"Note: {line}" for line in efficiencies.notes(asked, missing)])
    return "\n".join([*map(terminal.printable, head), "", table]) + ("\n" + notes if notes else "")


def _print_table(uses: "list[JobUse]", remarks: list[str], form: str, order: str, as_json: bool, as_csv: bool) -> None:
    from slurm_tf.account import efficiency_table
    from slurm_tf.cli import text_table

    jobs = efficiency_table.ordered(uses, order)
    is_whole = (as_json or as_csv) and not form
    wanted = list(efficiency_table.COLUMNS) if is_whole else efficiency_table.columns(form, jobs)
    if as_json:
        rows = [efficiency_table.as_dict(job, wanted) for job in jobs]
        click.echo(json.dumps({"jobs": rows, "notes": remarks}, indent=1))
        return
    if as_csv:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow([column.name for column in wanted])
        writer.writerows(list(efficiency_table.as_dict(job, wanted).values()) for job in jobs)
        return
    if jobs:
        cells = [[column.cell(job) for column in wanted] for job in jobs]
        numbers = [column.name for column in wanted if column.is_number]
        names = [column.name for column in wanted if not column.is_number]
        droppable = [column.name for column in wanted[::-1] if column.name != "JobID"]
        heads = [column.name for column in wanted]
        click.echo(text_table.table(heads, cells, droppable, "--json and --csv have all", names, numbers), nl=False)
    else:
        click.echo("No job ran in that time.")
