"""The verb submit, which submits a job to Slurm, and what other verbs that submit print."""

import json
import os
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import completion, job_file_commands, job_words, options, watch_commands
from slurm_tf.cli.terminal import print_next_commands, short_path
from slurm_tf.errors import SlurmError, UnreachableError, UsageError

if TYPE_CHECKING:
    from slurm_tf.jobspec.configuration import Job
    from slurm_tf.jobspec.plan import Plan
    from slurm_tf.run.folder import RunFolder
    from slurm_tf.submit.sbatch import SubmittedJobs
    from slurm_tf.watch.find_run import SelectedRun
    from slurm_tf.watch.run_overview import RunOverview


@dataclass(frozen=True, slots=True)
class SubmitOptions:
    """What options of the verb say: its own, or those of sbatch. `verbose`: how many times --verbose."""

    dry_run: bool
    parsable: bool
    wait: bool
    quiet: bool
    verbose: int
    as_json: bool = False


# no -h: it is an option of sbatch, and may be part of an option's value, such as -phigh
SETTINGS = {"ignore_unknown_options": True, "help_option_names": ["--help"]}
WORDS = click.argument(
    "words",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="JOB [NAME=VALUE]... [SBATCH OPTIONS]",
    shell_complete=completion.job_words,
)


@click.command(cls=options.SbatchCommand, context_settings=SETTINGS, options_metavar="[OPTIONS]")
@WORDS
@job_words.LONG_TEMPLATE
@job_words.ASK
@options.SITE
@options.NAME
@options.SET
@click.option("--dry-run", is_flag=True, help="Print the script and when Slurm would start it; submit nothing.")
@click.option("--parsable", is_flag=True, help="Print only the job id (id;cluster).")
@click.option(
    "--wait", is_flag=True, help="Wait until the job has ended, and exit with its exit code, as sbatch --wait."
)
@options.JSON
@options.FORGET_BAD_NODES
def submit(
    words: tuple[str, ...],
    arguments: tuple[str, ...],
    template: str,
    ask: bool,
    site: str,
    name: str,
    overrides: tuple[str, ...],
    dry_run: bool,
    parsable: bool,
    wait: bool,
    as_json: bool,
    forget_bad_nodes: bool,
) -> None:
    """Submit JOB to Slurm; "-" reads the job file from standard input.

    -t TEMPLATE, in place of JOB, names a job template. NAME=VALUE gives a param of the job file a value. Options of
    sbatch (--partition, --dependency, --array, --hold, -t 30 ...) override the job file. ARGUMENTS are for the program,
    after those of the job file.
    """
    from slurm_tf.run import bad_nodes
    from slurm_tf.submit import new_run

    job, asked = load(words, template, arguments, ask, site, overrides)
    if job.site.scheduler == "local":
        raise UsageError("site local has no Slurm", "another --site", f"slurm-tf run {job.typed} runs it here")
    if as_json and (parsable or asked.parsable):
        raise UsageError("found --json and --parsable", "one of them")
    if dry_run or asked.dry_run:
        _dry_run(new_run.preview(job, name, to_submit=True), as_json)
        return
    if name and forget_bad_nodes:
        bad_nodes.forget(new_run.folder(job.runs, name))
    given = replace(asked, parsable=parsable or asked.parsable, wait=wait or asked.wait, as_json=as_json)
    send(new_run.prepare(job, name), given)


def load(
    words: tuple[str, ...],
    template: str,
    arguments: tuple[str, ...],
    ask: bool,
    site: str,
    overrides: tuple[str, ...],
) -> "tuple[Job, SubmitOptions]":
    """Return the job that `words` (WORDS) describe, and what sbatch's own options say to the verb."""
    from slurm_tf.jobspec import sbatch_options
    from slurm_tf.slurm import sbatch_variables

    plain, asked = sbatch_options.parse(words)
    wait = os.environ.get("SBATCH_WAIT")
    verb = SubmitOptions(
        dry_run="test-only" in asked,
        parsable="parsable" in asked,
        wait="wait" in asked or (wait is not None and sbatch_variables.is_set(wait)),
        quiet="quiet" in asked,
        verbose=int(asked.get("verbose", 0)),
    )
    named = template or str(asked.pop(sbatch_options.TEMPLATE, ""))
    options = {name: value for name, value in asked.items() if name not in sbatch_options.OF_VERB}
    return job_words.load(plain, named, arguments, ask, site, overrides, options), verb


def print_excluded_nodes(run: "RunFolder") -> dict[str, str]:
    """Print which nodes the submission excludes, and why; return them with their reasons."""
    from slurm_tf.run import bad_nodes

    bad = bad_nodes.known(run)
    for node, reason in sorted(bad.items()):
        click.echo(f"slurm-tf: excludes {node}: {reason}", err=True)
    if bad:
        click.echo("slurm-tf: --forget-bad-nodes uses every node again", err=True)
    return bad


def _dry_run(plan: "Plan", as_json: bool) -> None:
    """Print the exact script that would be submitted, and to stderr when it would start and what it would cost."""
    from slurm_tf.cli import limit_notes
    from slurm_tf.submit import render

    text = render.script(plan)
    if not as_json:
        click.echo(text, nl=False)
        sys.stdout.flush()
    start = _print_start(plan, text)
    if as_json:
        expected = start.timestamp() if start else None
        click.echo(json.dumps({**job_file_commands.script_as_dict(plan, text), "expected_start": expected}, indent=2))
        sys.stdout.flush()
    _print_nodes(plan, with_surplus=True)
    _print_highest_cost(plan)
    _print_lacking(plan)
    limit_notes.print_limit(plan)


def _print_start(plan: "Plan", script: str) -> datetime | None:
    """Print when Slurm would start the job, and with which changes it would start sooner; return when, if known."""
    from slurm_tf.slurm import sbatch_choices
    from slurm_tf.submit import sooner

    try:
        expected = sooner.estimate(script)
    except UnreachableError as error:
        click.echo(f"slurm-tf: when it would start is unknown: {error}", err=True)
        return None
    except SlurmError as error:
        raise sbatch_choices.explained(error) from error
    click.echo(expected.text, err=True)
    if expected.start:
        for line in sooner.lines(plan, expected.start, datetime.now().astimezone()):
            click.echo(f"  {line}", err=True)
    return expected.start


def send(plan: "Plan", options: SubmitOptions) -> None:
    """Submit a run that is prepared, and print what came of it."""
    from slurm_tf.submit import plan_submission
    from slurm_tf.watch.find_run import SelectedRun

    sent = plan_submission.submit_plan(plan, options.verbose)
    watch_commands.remember(plan.run)
    print_submitted(sent, options.parsable, options.quiet or options.as_json)
    if not options.quiet:
        print_excluded_nodes(plan.run)
    if not options.parsable and not options.quiet and not options.as_json:
        _print_where(plan)
    print_warnings(plan, sent.jobs[0].partition(";")[0])
    finish(SelectedRun(plan.run), [sent], options)


def finish(selected: "SelectedRun", sent: "Sequence[SubmittedJobs]", given: SubmitOptions) -> None:
    """Wait for the run's end if that is wanted, exit with its exit code then; print JSON if that is wanted."""
    points = watch_commands.wait_until_over(selected) if given.wait and given.as_json else []
    if given.as_json:
        jobs = [job for each in sent for job in each.jobs]
        print_json(selected, {"jobs": jobs, **_ends(points, given.wait)})
    if points:
        sys.exit(watch_commands.exit_code(points))
    if given.wait:
        sys.exit(watch_commands.wait_for_exit_code(selected, given.quiet))


def print_json(selected: "SelectedRun", more: "Mapping[str, object]") -> None:
    """Print a run's name and folders, and `more`, as JSON."""
    run = selected.run
    click.echo(json.dumps({"run": selected.name, "folder": run.path, "logs": run.logs, **more}, indent=2))
    sys.stdout.flush()


def _ends(points: "Sequence[RunOverview]", wait: bool) -> dict[str, object]:
    from slurm_tf.watch import status_rows

    return {"points": [status_rows.as_dict(point) for point in points]} if wait else {}


def print_submitted(sent: "SubmittedJobs", parsable: bool, quiet: bool = False) -> None:
    """Print what sbatch accepted: its messages and, unless `quiet`, the job ids."""
    if sent.messages:  # those of job_submit and cli_filter plugins, unchanged
        click.echo(sent.messages, err=True, nl=False)
    for job in () if quiet else sent.jobs:
        number, _, cluster = job.partition(";")
        on = f" on cluster {cluster}" if cluster else ""
        click.echo(job if parsable else f"Submitted batch job {number}{on}")
    sys.stdout.flush()


def _print_where(plan: "Plan") -> None:
    """Print where the run's files will be, its highest cost, and commands to type next."""
    run = plan.run
    name = shlex.quote(run.name)
    click.echo(f"Run {run.name} in {short_path(run.path)}", err=True)
    click.echo(f"  logs  {short_path(run.logs)}", err=True)
    _print_template(plan)
    _print_from_where(plan)
    _print_nodes(plan)
    _print_highest_cost(plan)
    _print_code(plan)
    if plan.settings.serve:
        print_service_commands(name)
        return
    print_next_commands(
        (f"status {name}", "its state, and why it is pending"),
        (f"logs {name} --follow", "its output"),
        (f"cancel {name}", "end it for good"),
    )


def print_service_commands(name: str) -> None:
    """Print commands to type next for a service; `name`: of its run, quoted for a shell."""
    print_next_commands(
        (f"serve status {name}", "its jobs, its replicas, and whether somebody will answer"),
        (f"serve connect {name}", "a socket here that leads to its replicas"),
        (f"serve stop {name}", "end it for good"),
    )


def _print_template(plan: "Plan") -> None:
    template = plan.job.template
    if template:
        click.echo(f"  template {template.name}, {short_path(template.path)}", err=True)


def _print_from_where(plan: "Plan") -> None:
    """Print from which step a run goes on that was submitted before."""
    from slurm_tf.watch import resubmit

    if plan.submission.number > 1:
        run = plan.run
        folders = [run.point(index) for index in plan.array.points] if plan.array else [run]
        click.echo(f"  {resubmit.from_where(folders)}", err=True)


def _print_nodes(plan: "Plan", with_surplus: bool = False) -> None:
    """Print how many nodes roles with different needs take, and what the job pays for above these."""
    from slurm_tf.submit import nodes_needed

    for text in (nodes_needed.words(plan.layout), nodes_needed.surplus(plan.layout) if with_surplus else ""):
        if text:
            click.echo(f"  nodes {text}", err=True)


def _print_code(plan: "Plan") -> None:
    """Print which code the job runs: a copy, and what of it is not copied, or the original."""
    from slurm_tf.run import manifest

    code = manifest.read(plan.submission.manifest).code
    if code is None:
        click.echo(f"  code  {short_path(plan.chdir)} itself: later edits have an effect", err=True)
        return
    click.echo(f"  code  {code.words}", err=True)
    if code.checkpoints:
        folders = _named(code.checkpoints)
        click.echo(f"  note  checkpoints in {folders} are linked, not copied: the job may go on from them", err=True)
    if code.continued:
        folders = _named(code.continued)
        click.echo(f"  note  checkpoints that the run has written to {folders} are linked into this copy", err=True)


def _named(folders: Sequence[str]) -> str:
    more = f" and {len(folders) - 3} more" if len(folders) > 3 else ""
    return ", ".join("its top folder" if path == "." else path for path in folders[:3]) + more


def _print_highest_cost(plan: "Plan") -> None:
    from slurm_tf.submit import highest_cost

    click.echo(f"  takes at most {highest_cost.words(plan)}", err=True)


def _print_lacking(plan: "Plan") -> None:
    """Print a warning about what the job's programs may lack on the nodes."""
    from slurm_tf.submit import new_run

    for line in new_run.warnings(plan.job):
        click.echo(f"slurm-tf: warning: {line}", err=True)


def print_warnings(plan: "Plan", job: str) -> None:
    """Print warnings about a job that sbatch accepted without a message: shared nodes, a job that cannot start."""
    from slurm_tf.cli import limit_notes
    from slurm_tf.slurm import pending_reasons, sbatch_choices
    from slurm_tf.submit import said_once, sbatch

    _print_lacking(plan)
    site = Path(plan.job.site_name).stem  # it may be a path
    if sbatch.has_open_data_service(plan):
        click.echo(
            "slurm-tf: warning: the job's tf.data service authenticates nobody: users with jobs on the same nodes, and "
            'all others who reach its ports, can run code as you; exclusive = "user" (--exclusive=user) keeps the '
            "nodes for your jobs",
            err=True,
        )
    elif sbatch.shares_nodes(plan) and said_once.is_first("shared-nodes", site):
        click.echo(
            "slurm-tf: warning: jobs of other users may run on the same nodes, and who reaches a port of TensorFlow "
            'can run code as you; exclusive = "user" (--exclusive=user) keeps the nodes for your jobs; this is said '
            f"once for site {site}",
            err=True,
        )
    try:
        record = sbatch.pending_reason(watch_commands.connect(), job)
    except SlurmError as error:  # the job was submitted in any case
        click.echo(f"slurm-tf: warning: whether job {job} can start is unknown: {error.found}", err=True)
        return
    if record:
        never = "will never start" if pending_reasons.is_permanent(record.reason) else "is pending"
        about = sbatch_choices.topic(record.reason)
        needed = f"; needed {sbatch_choices.words(about)}" if about else ""
        limit = limit_notes.words([job]) if pending_reasons.is_limit(record.reason) else {}
        why = limit.get(job) or f"{pending_reasons.explain(record.reason)}{needed}"
        click.echo(f"slurm-tf: warning: job {job} {never}: {why}", err=True)
