"""The verb tensorboard, which starts TensorBoard for a run."""

import json
import os
import signal
import sys
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import completion, options, watch_commands
from slurm_tf.errors import StoppedError, UsageError
from slurm_tf.run import manifest

if TYPE_CHECKING:
    from slurm_tf.watch.find_run import SelectedRun
    from slurm_tf.watch.tensorboard import Address


@click.command(context_settings={"ignore_unknown_options": True}, options_metavar="[OPTIONS]")
@click.argument(
    "words",
    nargs=-1,
    type=click.UNPROCESSED,
    metavar="RUN [SRUN OPTIONS]",
    shell_complete=completion.first_run,
)
@click.option("--node", is_flag=True, help="Run it on a node, as a job of one task; options of srun may follow RUN.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="The port to listen on; default: any free port.")
@options.JSON
def tensorboard(words: tuple[str, ...], node: bool, port: int, as_json: bool) -> None:
    """Run TensorBoard for RUN until Ctrl-C, and print the ssh command with which to reach it."""
    from slurm_tf.jobspec import sbatch_options
    from slurm_tf.slurm.in_job import environ_for_srun
    from slurm_tf.watch import tensorboard as board

    plain, typed = sbatch_options.parse(words)
    if len(plain) != 1:
        raise UsageError(f"found {len(plain)} runs", "one", "slurm-tf tensorboard RUN")
    if typed and not node:
        raise UsageError(f"found the option --{next(iter(typed))}", "--node for options of srun")
    found = watch_commands.select_run(plain[0])
    folder = board.log_folder(found)
    argv, environ = board.command(folder, port), dict(os.environ)
    if node:
        job = manifest.read(found.run.manifest).job
        argv, environ = board.srun_command(job, typed, argv), environ_for_srun(os.environ)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _stop)
    if not any(os.scandir(folder)):
        click.echo(
            f"slurm-tf: nothing is in {folder} yet: a program writes to the folder in SLURM_TF_TENSORBOARD_FOLDER",
            err=True,
        )
    with board.TensorBoardServer(argv, environ) as server:
        place = server.wait_until_up(lambda line: click.echo(line, err=True))
        if as_json:
            _print_json(found, folder, place, server.pid)
        else:
            _print_how_to_reach(found, place)
        server.wait()


def _print_how_to_reach(found: "SelectedRun", place: "Address") -> None:
    where = place.node or "this machine"
    click.echo(
        f"TensorBoard of {found.name} is up; other users of {where} can reach it too. On your own machine, type:",
        err=True,
    )
    click.echo(place.ssh())
    click.echo(f"and open {place.url} in a browser. Ctrl-C here ends TensorBoard.", err=True)


def _print_json(found: "SelectedRun", logdir: str, place: "Address", pid: int) -> None:
    """Print where TensorBoard is, once it is up; it runs until the process `pid` of this machine gets a signal."""
    where = {"url": place.url, "host": place.host, "port": place.port, "ssh": place.ssh()}
    click.echo(json.dumps({"run": found.name, "logdir": logdir, **where, "pid": pid}, indent=2))
    sys.stdout.flush()


def _stop(number: int, _frame: object) -> None:
    raise StoppedError(f"got {signal.Signals(number).name}", 128 + number)
