"""The verb efficiency, which compares what a job asked for with what it used."""

import json
import re
import time
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import completion, options, usage_command, watch_commands
from slurm_tf.errors import UsageError

if TYPE_CHECKING:
    from slurm_tf.account.efficiency import JobEfficiency
    from slurm_tf.account.run_records import RunRecords

_JOB = re.compile(r"\d+(_\d+|\+\d+)?", re.ASCII)


@click.command(options_metavar="[OPTIONS]")
@click.argument("what", metavar="JOB|RUN", shell_complete=completion.runs)
@usage_command.FROM
@usage_command.FORMAT
@usage_command.ALL_USERS
@options.JSON
def efficiency(what: str, path: str | None, form: str, all_users: bool, as_json: bool) -> None:
    """Show what JOB (a job id) or the jobs of RUN asked for and used, and what to ask for next time.

    Of several incarnations and array tasks the highest value counts. A heterogeneous job is shown by component.
    """
    from slurm_tf.account import efficiency as efficiencies
    from slurm_tf.account.run_records import RunRecords
    from slurm_tf.account.usage_record import Window

    now, runs = int(time.time()), RunRecords(watch_commands.runs_folder())
    jobs = [what] if _JOB.fullmatch(what) else _jobs(what, runs)
    records = usage_command.source(path, form, all_users).records(Window(0, now + 1), jobs=jobs)
    found = efficiencies.gather(map(runs.with_gpu_use, records), now)
    if not found:
        do = "squeue shows pending jobs; --all-users includes the jobs of other users"
        raise UsageError(f"accounting has no job of {what} that has started", "a job that has started", do)
    if as_json:
        rows = [efficiencies.as_dict(component, asked) for component, asked in sorted(found.items())]
        click.echo(json.dumps({"asked": what, "jobs": jobs, "components": rows}, indent=2))
        return
    for number, (component, asked) in enumerate(sorted(found.items())):
        click.echo(("\n" if number else "") + _text(f"{what}{component}", asked), nl=False)


def _jobs(text: str, runs: "RunRecords") -> list[str]:
    """Return the ids of a run's jobs, of all its submissions; for NAME/POINT the newest job of that sweep point."""
    found = watch_commands.select_run(text)
    if found.point is not None:
        return [found.job_ids[found.point]]
    jobs = runs.jobs_of(found.run) or list(found.job_ids.values())
    if not jobs:
        raise UsageError(f"run {text} was not submitted", "a run that was submitted")
    return jobs


def _text(name: str, asked: "JobEfficiency") -> str:
    from slurm_tf.account import efficiency as efficiencies
    from slurm_tf.cli import terminal, text_table, usage_tables

    ends = ", ".join(f"{count} {end.word}" for end, count in sorted(asked.ends.items()))
    head = [
        f"{name}: {asked.incarnations} incarnation{'s' * (asked.incarnations != 1)} ({ends})",
        f"ran for {usage_tables.duration(asked.seconds)}, waited for {usage_tables.duration(asked.waited)}",
    ]
    rows = []
    for row in efficiencies.advice(asked):
        used = row.used if row.share is None else f"{row.used} ({usage_tables.share(row.share)})"
        rows.append([row.key, row.asked, used, row.next or "as now", row.why])
    table = text_table.table(["", "ASKED", "USED", "NEXT TIME", "WHY"], rows, ("WHY",), "--json has all")
    return "\n".join([*(terminal.printable(line) for line in head), "", table])
