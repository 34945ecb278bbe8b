"""The list of all verbs, and the handling of errors: one message and one exit code each, without a traceback."""

import os
import signal
import sys

import click

from slurm_tf import __version__, files
from slurm_tf.cli import (
    checkpoints_command,
    efficiency_command,
    interrupt_command,
    job_file_commands,
    plugin_commands,
    preflight_command,
    run_command,
    submit_commands,
    tensorboard_command,
    usage_command,
    watch_commands,
)
from slurm_tf.errors import SlurmTfError

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}


@click.group(context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="slurm-tf")
def cli() -> None:
    """Distributed TensorFlow under Slurm.

    A job file and a site profile become one sbatch script. Inside the job every task is assigned its role in a
    TensorFlow cluster.
    """


for command in (
    run_command.run,
    submit_commands.submit,
    submit_commands.resubmit,
    preflight_command.preflight,
    watch_commands.status,
    watch_commands.list_runs,
    watch_commands.logs,
    watch_commands.cancel,
    interrupt_command.interrupt,
    watch_commands.wait,
    watch_commands.describe,
    usage_command.usage,
    efficiency_command.efficiency,
    checkpoints_command.checkpoints,
    tensorboard_command.tensorboard,
    job_file_commands.render,
    job_file_commands.explain,
    job_file_commands.schema,
    plugin_commands.launch,
    plugin_commands.plugin,
):
    cli.add_command(command)


def run_commands() -> None:
    """Run the verb on the command line, and exit with its exit code."""
    # A shell starts its background jobs with SIGINT ignored; Python then installs no handler, and Ctrl-C would end
    # neither this program nor what it starts, which inherits "ignored".
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        cli.main(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except SlurmTfError as error:
        click.echo(f"slurm-tf: {error}", err=True)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # the reader has closed the pipe: Python must not flush into it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except OSError as error:
        if os.environ.get("SLURM_TF_DEBUG"):
            raise
        explained = files.storage_error(error, f"do {' '.join(sys.argv[1:2]) or 'it'}")
        click.echo(f"slurm-tf: {explained}", err=True)
        sys.exit(explained.exit_code)
    except Exception as error:
        if os.environ.get("SLURM_TF_DEBUG"):
            raise
        click.echo(f"slurm-tf: {type(error).__name__}: {error}\nHINT: SLURM_TF_DEBUG=1 shows the traceback", err=True)
        sys.exit(70)
