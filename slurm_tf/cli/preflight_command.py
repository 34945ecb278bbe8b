"""The verb preflight, which tests the nodes of a job without starting its program."""

import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import job_words, options, run_command, submit_commands, watch_commands
from slurm_tf.cli.terminal import print_next_commands, short_path
from slurm_tf.errors import ConfigError, SlurmError, UnreachableError, UsageError

if TYPE_CHECKING:
    from slurm_tf.jobspec.plan import Plan
    from slurm_tf.run.preflight_report import PreflightReport


@click.command(cls=options.SbatchCommand, context_settings=submit_commands.SETTINGS, options_metavar="[OPTIONS]")
@submit_commands.WORDS
@job_words.LONG_TEMPLATE
@job_words.ASK
@options.SITE
@options.NAME
@options.SET
@options.JSON
@options.FORGET_BAD_NODES
def preflight(
    words: tuple[str, ...],
    arguments: tuple[str, ...],
    template: str,
    ask: bool,
    site: str,
    name: str,
    overrides: tuple[str, ...],
    as_json: bool,
    forget_bad_nodes: bool,
) -> None:
    """Test the nodes that JOB gets and the network between them, without starting its program.

    The verb waits for the result. The exit code is 76 if a node is bad; the run's next submission excludes this node.
    """
    from slurm_tf.jobspec import checks, params, sweep
    from slurm_tf.launch.direct import local_tasks
    from slurm_tf.run import bad_nodes
    from slurm_tf.submit import new_run

    job, asked = submit_commands.load(words, template, arguments, ask, site, overrides)
    if asked.dry_run:
        raise UsageError("found the option --test-only", "a preflight that runs", "slurm-tf submit JOB --dry-run")
    checks.check(job)
    if sweep.array(job, params.resolve(job).swept):
        where = job.where("sweep" if job.spec.sweep else "array")
        raise ConfigError("found sweep points", "one job", "`preflight = true` tests the nodes of each point", where)
    if name and forget_bad_nodes:
        bad_nodes.forget(new_run.folder(job.runs, name))
    plan = new_run.prepare(job, name)
    new_run.write_preflight(plan)
    watch_commands.remember(plan.run)
    if plan.settings.local:
        environ, started = run_command.environ_here(os.environ), time.time()
        stdout = options.STDERR if as_json else None
        code = local_tasks.run_script(plan.submission.preflight_script, environ, stdout)
        if as_json:
            _print_json(plan, (), code, _report(plan, "", started))
    else:
        code = _on_nodes(plan, as_json)
    click.echo(f"Run {plan.run.name} in {short_path(plan.run.path)}", err=True)
    again = job_words.as_typed(job, f"--name {shlex.quote(plan.run.name)}", arguments)
    if not plan.settings.local:
        print_next_commands((f"submit {again}", "train, without the bad nodes"))
    sys.exit(code)


def _on_nodes(plan: "Plan", as_json: bool) -> int:
    """Submit the preflight, wait for it, print its table, or all that it measured; return its exit code."""
    from slurm_tf.submit import new_run, sbatch
    from slurm_tf.watch.find_run import SelectedRun

    try:
        sent = sbatch.submit(sbatch.SubmitRequest(plan.submission, script=plan.submission.preflight_script))
    except SlurmError as error:
        if not isinstance(error, UnreachableError):
            new_run.remove_unused(plan.submission)
        raise
    submit_commands.print_submitted(sent, parsable=False, quiet=as_json)
    submit_commands.print_excluded_nodes(plan.run)
    code = watch_commands.wait_for_exit_code(SelectedRun(plan.run), quiet=True)
    number = sent.jobs[0].partition(";")[0]
    report = _report(plan, number)
    if as_json:
        _print_json(plan, sent.jobs, code, report)
    elif report is not None:
        click.echo("\n".join(report.table))
    else:  # the job ended before it had measured anything
        log = Path(plan.run.logs, f"slurm-{number}.out")
        click.echo(log.read_text(errors="replace") if log.exists() else f"there is no {log}", err=True)
    return code


def _report(plan: "Plan", job: str, started: float = 0.0) -> "PreflightReport | None":
    """Return what the preflight of `job` measured, "" without Slurm; None if it ended before, or is one of before."""
    from slurm_tf.run import preflight_report

    report = preflight_report.read(plan.run)
    return report if report and report.job == job and report.at >= started else None


def _print_json(plan: "Plan", jobs: Sequence[str], code: int, report: "PreflightReport | None") -> None:
    from slurm_tf.watch.find_run import SelectedRun

    measured = {"exit_code": code, "report": report and asdict(report)}
    submit_commands.print_json(SelectedRun(plan.run), {"jobs": jobs, **measured})
