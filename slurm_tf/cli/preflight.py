"""The verb preflight."""

import json
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import options, run, submit, watch
from slurm_tf.cli.words import say_next, short
from slurm_tf.errors import SchedulerError, SpecError, UnreachableError

if TYPE_CHECKING:
    from slurm_tf.spec.plan import Plan


@click.command(context_settings=submit.SETTINGS, options_metavar="[OPTIONS]")
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="JOB [SBATCH OPTIONS]")
@options.SITE
@options.NAME
@options.SET
@options.FORGET_BAD_NODES
def preflight(words: tuple[str, ...], site: str, name: str, overrides: tuple[str, ...], forget_bad_nodes: bool) -> None:
    """Try the nodes that JOB gets, and the ways between them; start no program.

    Waits for the end. The exit code is 76 if a node is bad; the run's next submission leaves it out.
    """
    from slurm_tf.launch import bad_nodes, local
    from slurm_tf.submit import runs

    job, _ = submit.load(words, site, overrides)
    if job.spec.sweep or job.spec.array:
        where = job.where("sweep" if job.spec.sweep else "array")
        raise SpecError("found points", "one job", "`preflight = true` tries the nodes of each point", where)
    if name and forget_bad_nodes:
        bad_nodes.forget(runs.folder(job.runs, name))
    fitted = runs.prepare(job, name)
    runs.write_preflight(fitted)
    if fitted.settings.local:
        code = local.run_script(fitted.run.preflight_script, run.environ_here(os.environ))
    else:
        code = _on_nodes(fitted)
    click.echo(f"Run {fitted.run.name} in {short(fitted.run.path)}", err=True)
    file, known = shlex.quote(str(job.path)), shlex.quote(fitted.run.name)
    if not fitted.settings.local:
        say_next((f"submit {file} --name {known}", "train, without the bad nodes"))
    sys.exit(code)


def _on_nodes(fitted: "Plan") -> int:
    """Submit the preflight, wait for it, print its table; return its exit code."""
    from slurm_tf.submit import runs
    from slurm_tf.submit import submit as sender
    from slurm_tf.watch.find import Target

    try:
        sent = sender.send(sender.Order(fitted.run, script=fitted.run.preflight_script))
    except SchedulerError as error:
        if not isinstance(error, UnreachableError):
            runs.forget(fitted.run)
        raise
    submit.say_sent(sent, parsable=False)
    submit.say_left_out(fitted.run)
    code = watch.wait_for(Target(fitted.run))
    number = sent.jobs[0].partition(";")[0]
    path = Path(fitted.run.preflight)
    found = json.loads(path.read_bytes()) if path.exists() else {}
    if found.get("job") == number:
        click.echo("\n".join(found["table"]))
    else:  # it ended before anything was measured
        log = Path(fitted.run.logs, f"slurm-{number}.out")
        click.echo(log.read_text(errors="replace") if log.exists() else f"there is no {log}", err=True)
    return code
