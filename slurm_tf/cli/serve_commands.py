"""The verb serve: starts a service, shows it, stops it. Its other verbs have modules of their own."""

import json
import shlex
import sys

import click

from slurm_tf.cli import completion, options, submit_commands, watch_commands
from slurm_tf.cli.serve_argument import SERVICE, find
from slurm_tf.cli.serve_compare_command import compare
from slurm_tf.cli.serve_connect_command import connect
from slurm_tf.cli.serve_version_commands import canary, label, promote, rollback
from slurm_tf.cli.terminal import short_path
from slurm_tf.errors import UsageError

_START = "start"


class ServeGroup(click.Group):
    """The verbs of serve; `serve MODEL` is `serve start MODEL`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse a verb and its arguments."""
        is_verb = bool(args) and (args[0] in self.list_commands(ctx) or args[0] in ("-h", "--help"))
        return super().parse_args(ctx, args if is_verb or not args else [_START, *args])


@click.group(cls=ServeGroup)
def serve() -> None:
    """Serve models: replicas in a Slurm job, or on this machine, that answer as TensorFlow Serving does.

    `slurm-tf serve MODEL` starts a service; the other verbs are about one that was started. SERVICE is the name, the
    path or a job's id of its run, or the name of a model that it serves.
    """


for _command in (connect, promote, rollback, canary, label, compare):
    serve.add_command(_command)


@serve.command(cls=options.SbatchCommand, context_settings=submit_commands.SETTINGS, options_metavar="[OPTIONS]")
@click.argument(
    "words",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="[NAME=]MODEL... | JOB [SBATCH OPTIONS]",
    shell_complete=completion.job_words,
)
@options.SITE
@options.NAME
@options.SET
@click.option("--local", is_flag=True, help="Serve on this machine, without Slurm, until Ctrl-C.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8501,
    help="With --local, the port of 127.0.0.1 that answers your programs; 0: a free one. Default: 8501.",
)
@click.option("--dry-run", is_flag=True, help="Print the script; submit nothing.")
@click.option("--parsable", is_flag=True, help="Print only the job id (id;cluster).")
@options.JSON
def start(
    words: tuple[str, ...],
    arguments: tuple[str, ...],
    site: str,
    name: str,
    overrides: tuple[str, ...],
    local: bool,
    port: int,
    dry_run: bool,
    parsable: bool,
    as_json: bool,
) -> None:
    """Start a service: a Slurm job of replicas that answer for each MODEL, a folder with versions of a model.

    Requests call a model by the name of its folder, or by NAME. In place of models, JOB is a job file with strategy
    serve. Options of sbatch override the job file; --ntasks, --cpus-per-task, --mem, --gpus-per-task and the like are
    about the replicas.
    """
    from slurm_tf.jobspec import sbatch_options, service_job
    from slurm_tf.submit import new_run, plan_submission, render

    if arguments:
        raise UsageError(f"found {' '.join(arguments)!r} behind --", "nothing: replicas are slurm-tf's own program")
    plain, asked = sbatch_options.parse(words)
    told = {each: value for each, value in asked.items() if each not in sbatch_options.OF_VERB}
    job = service_job.load(service_job.Start(tuple(plain), "local" if local else site, overrides, told))
    if dry_run or "test-only" in asked:
        click.echo(render.script(new_run.preview(job, name, to_submit=True)), nl=False)
        return
    if job.site.scheduler == "local":
        from slurm_tf.cli import serve_local

        sys.exit(serve_local.run(new_run.prepare(job, name), port))
    plan = new_run.prepare(job, name)
    sent = plan_submission.submit_plan(plan, int(asked.get("verbose", 0)))
    watch_commands.remember(plan.run)
    is_quiet = parsable or "parsable" in asked
    submit_commands.print_submitted(sent, is_quiet, as_json)
    submit_commands.print_warnings(plan, sent.jobs[0].partition(";")[0])
    run = plan.run
    if as_json:
        click.echo(json.dumps({"run": run.name, "folder": run.path, "jobs": list(sent.jobs)}, indent=2))
    elif not is_quiet:
        click.echo(f"Service {run.name} in {short_path(run.path)}", err=True)
        submit_commands.print_service_commands(shlex.quote(run.name))


@serve.command()
@SERVICE
@options.JSON
def status(service: str, as_json: bool) -> None:
    """Show the jobs and replicas of SERVICE, its versions, and whether nobody will answer for some time.

    Exit with 1 if no replica answers.
    """
    from slurm_tf.watch import run_overview, services

    served = find(service)
    points = run_overview.read_overviews(watch_commands.connect(), [served.selected])
    found = services.overview(served, points)
    if as_json:
        click.echo(json.dumps(services.as_dict(found), indent=2))
    else:
        from slurm_tf.cli import serve_tables

        click.echo(serve_tables.status(found), nl=False)
        for note in found.notes:
            click.echo(f"slurm-tf: {note}", err=True)
    sys.exit(0 if found.replicas else 1)


@serve.command()
@SERVICE
@options.JSON
def stop(service: str, as_json: bool) -> None:
    """Stop SERVICE for good: the job that runs ends once it has answered what it was asked, and none follows."""
    from slurm_tf.watch import cancel

    found = find(service)
    ended = cancel.cancel(watch_commands.connect(), found.selected)
    if as_json:
        click.echo(json.dumps({"run": found.run.name, "jobs": ended}, indent=2))
        return
    text = f"stopped: job {', '.join(ended)}" if ended else "it has no job that is not over"
    click.echo(f"service {found.run.name}: {text}")
