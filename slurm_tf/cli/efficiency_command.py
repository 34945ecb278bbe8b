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
    from slurm_tf.account.efficiency_nodes import Detail
    from slurm_tf.account.efficiency_table import Column
    from slurm_tf.account.job_use import Chosen, JobUse
    from slurm_tf.account.run_records import RunRecords
    from slurm_tf.slurm.job_states import JobState

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
@click.option("--not-state", "not_states", multiple=True, metavar="STATES", help="Only jobs in none of these states.")
@click.option("--name", "names", multiple=True, metavar="GLOBS", help="Only jobs of these names: 'cnn*,bert'.")
@click.option("--cluster", "-M", "clusters", multiple=True, metavar="NAMES", help="Only jobs of these clusters.")
@click.option(
    "--array-min-size",
    type=click.IntRange(min=0),
    default=0,
    metavar="N",
    help="No jobs of arrays of which fewer than N are there; other jobs stay.",
)
@click.option(
    "--slurm-format",
    default="",
    metavar="PATTERN",
    help="Take the arguments as output files of jobs, named by this pattern of sbatch: slurm-%j.out.",
)
@usage_command.ALL_USERS
@click.option("--node", "-n", "by_node", is_flag=True, help="A line for each node of a job, too, where jobstats runs.")
@click.option("--node-and-gpu", "-g", "by_gpu", is_flag=True, help="Lines for each node and each GPU of a job, too.")
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
    not_states: tuple[str, ...],
    names: tuple[str, ...],
    clusters: tuple[str, ...],
    array_min_size: int,
    slurm_format: str,
    all_users: bool,
    by_node: bool,
    by_gpu: bool,
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
    from slurm_tf.account import database, efficiency_nodes, efficiency_table, job_use
    from slurm_tf.account.efficiency_nodes import Detail
    from slurm_tf.account.run_records import RunRecords
    from slurm_tf.account.window import Window
    from slurm_tf.cli import text_table

    now, runs = int(time.time()), RunRecords(watch_commands.runs_folder())
    jobs = _of_files(what, slurm_format) if slurm_format else [job for word in what for job in _jobs(word, runs)]
    chosen = _chosen(states, not_states, names, partitions, clusters)
    efficiency_table.check(form, order)
    detail = _detail(by_node, by_gpu)
    is_table = since or until or form or order or as_csv or array_min_size or detail is not Detail.JOB
    is_one = len(what) == 1 and not is_table and chosen == job_use.Chosen(clusters=chosen.clusters)
    window = Window(0, now + 1)
    if since or until or not (what or path):
        window = usage_command.time_window(since, until, None if path or what else _DAYS)
    source = usage_command.source(path, fields, all_users, lengths_suffice=True, clusters=chosen.clusters)
    with database.opened() as found:
        source.read(found, window, usage_command.split(users), usage_command.split(accounts), jobs)
        runs.add_to(found)
        uses = list(job_use.found(found.database, chosen, each=is_one or duplicates))
        missing, remarks = found.diagnostics.missing_fields, efficiency_table.remarks(found.diagnostics)
    uses = job_use.without_small_arrays(uses, array_min_size)
    ran = [use for use in uses if use.ran]
    if what and not ran:
        do = "squeue shows pending jobs; --all-users includes the jobs of other users"
        named = ", ".join(what)
        raise UsageError(f"accounting has no job of {named} that has started", "a job that has started", do)
    pending = len(uses) - len(ran)
    if pending and not is_one:
        remarks.append(f"{pending} job{'s' * (pending != 1)} did not start")
    remarks += filter(None, [efficiency_nodes.remark(ran, detail)])
    if is_one:
        _print_one(what[0], jobs, ran, missing, remarks, as_json)
    else:
        _print_table(efficiency_table.ordered(ran, order), remarks, form, detail, as_json, as_csv)
    if not as_json:
        click.echo(text_table.sentences([f"Note: {remark}" for remark in remarks]), nl=False, err=as_csv)


def _chosen(
    states: tuple[str, ...], not_states: tuple[str, ...], names: tuple[str, ...], partitions: tuple[str, ...],
    clusters: tuple[str, ...],
) -> "Chosen":  # fmt: skip
    from slurm_tf.account.job_use import Chosen

    return Chosen(
        _states("--state", states),
        tuple(usage_command.split(names)),
        tuple(usage_command.split(partitions)),
        _states("--not-state", not_states),
        tuple(usage_command.split(clusters)),
    )


def _states(option: str, texts: tuple[str, ...]) -> "tuple[JobState, ...]":
    from slurm_tf.slurm.job_states import JobState

    words = usage_command.split(texts)
    found = [JobState.parse(word) for word in words]
    for word, state in zip(words, found, strict=True):
        if state is JobState.UNKNOWN:
            raise UsageError(f"found {option} {word!r}", "states as sacct names them: COMPLETED, CD, TIMEOUT, OOM, ...")
    return tuple(found)


def _detail(by_node: bool, by_gpu: bool) -> "Detail":
    from slurm_tf.account.efficiency_nodes import Detail

    if by_gpu:
        return Detail.GPU
    return Detail.NODE if by_node else Detail.JOB


def _of_files(paths: tuple[str, ...], pattern: str) -> list[str]:
    """Return the ids of the jobs whose output files are named so. Raises UsageError."""
    from slurm_tf.slurm.output_pattern import OutputPattern

    if not paths:
        raise UsageError("found --slurm-format without a file", "the output files of jobs: slurm-*.out")
    named = OutputPattern(pattern)
    return list(dict.fromkeys(named.job(path) for path in paths))


def _jobs(text: str, runs: "RunRecords") -> list[str]:
    """Return the job of an id, or the jobs of a run, of all its submissions; for NAME/POINT the point's newest job."""
    if _JOB.fullmatch(text):
        return [text]
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
        rows = [efficiencies.as_dict(component, asked, missing) for component, asked in found.items()]
        click.echo(json.dumps({"asked": what, "jobs": jobs, "components": rows, "notes": remarks}, indent=2))
        return
    for number, (component, asked) in enumerate(found.items()):
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


def _print_table(
    jobs: "list[JobUse]", remarks: list[str], form: str, detail: "Detail", as_json: bool, as_csv: bool
) -> None:
    from slurm_tf.account import efficiency_nodes, efficiency_table
    from slurm_tf.account.efficiency_nodes import Detail
    from slurm_tf.cli import text_table

    is_whole = (as_json or as_csv) and not form
    wanted = list(efficiency_table.COLUMNS) if is_whole else efficiency_table.columns(form, jobs)
    if detail is not Detail.JOB:
        wanted = efficiency_table.with_id_first(wanted)
    if as_json:
        rows = [efficiency_table.as_dict(job, wanted) for job in jobs]
        if detail is not Detail.JOB:
            rows = [
                {**row, "nodes": efficiency_nodes.as_dicts(job, detail)} for row, job in zip(rows, jobs, strict=True)
            ]
        click.echo(json.dumps({"jobs": rows, "notes": remarks}, indent=1))
    elif as_csv:
        _write_csv(jobs, wanted, detail)
    elif jobs:
        cells = []
        for job in jobs:
            cells.append([column.cell(job) for column in wanted])
            cells += [[part.cell(column) for column in wanted] for part in efficiency_nodes.parts(job, detail)]
        numbers = [column.name for column in wanted if column.is_number]
        names = [column.name for column in wanted if not column.is_number]
        droppable = [column.name for column in wanted[::-1] if column.name != "JobID"]
        heads = [column.name for column in wanted]
        click.echo(text_table.table(heads, cells, droppable, "--json and --csv have all", names, numbers), nl=False)
    else:
        click.echo("No job ran in that time.")


def _write_csv(jobs: "list[JobUse]", wanted: "list[Column]", detail: "Detail") -> None:
    """Write a line for each job; by node with the columns Node and GPU after the id, which are empty for the job."""
    from slurm_tf.account import efficiency_nodes, efficiency_table
    from slurm_tf.account.efficiency_nodes import Detail

    writer = csv.writer(sys.stdout, lineterminator="\n")
    heads, more = [column.name for column in wanted], [] if detail is Detail.JOB else ["Node", "GPU"]
    writer.writerow([*heads[:1], *more, *heads[1:]])
    for job in jobs:
        first, *others = efficiency_table.as_dict(job, wanted).values()
        writer.writerow([first, *[""] * len(more), *others])
        writer.writerows(part.row(job, wanted) for part in efficiency_nodes.parts(job, detail))
