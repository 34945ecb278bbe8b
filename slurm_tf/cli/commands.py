"""The list of all verbs, and the handling of errors: one message and one exit code each, without a traceback."""

import importlib
import os
import signal
import sys

import click
from click.shell_completion import CompletionItem

from slurm_tf import __version__, files
from slurm_tf.cli import completion_shells, terminal
from slurm_tf.cli.help_formatter import HelpFormatter
from slurm_tf.errors import SlurmTfError

# of every verb, whose contexts click makes
click.Context.formatter_class = HelpFormatter
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
# The verbs by what one wants to do; each with its module in slurm_tf.cli, and its name there.
GROUPS = {
    "Learn": {
        "docs": ("guide_commands", "docs"),
        "examples": ("guide_commands", "examples"),
        "completion": ("completion_command", "completion"),
    },
    "Run a job": {
        "run": ("run_command", "run"),
        "submit": ("submit_commands", "submit"),
        "resubmit": ("resubmit_command", "resubmit"),
        "preflight": ("preflight_command", "preflight"),
    },
    "Watch and end runs": {
        "list": ("watch_commands", "list_runs"),
        "status": ("watch_commands", "status"),
        "logs": ("watch_commands", "logs"),
        "wait": ("watch_commands", "wait"),
        "page": ("page_command", "page"),
        "cancel": ("watch_commands", "cancel"),
        "interrupt": ("interrupt_command", "interrupt"),
        "attach": ("attach_command", "attach"),
        "describe": ("watch_commands", "describe"),
    },
    "See what came of them": {
        "results": ("results_command", "results"),
        "tensorboard": ("tensorboard_command", "tensorboard"),
        "checkpoints": ("checkpoints_command", "checkpoints"),
        "export": ("export_command", "export"),
        "predict": ("predict_command", "predict"),
    },
    "See what they took, and clear up": {
        "efficiency": ("efficiency_command", "efficiency"),
        "usage": ("usage_command", "usage"),
        "quota": ("quota_command", "quota"),
        "du": ("storage_commands", "du"),
        "rm": ("storage_commands", "rm"),
    },
    "Serve models": {
        "serve": ("serve_commands", "serve"),
    },
    "Prepare data": {
        "prepare": ("prepare_command", "prepare"),
        "data": ("data_command", "data"),
    },
    "Describe a cluster": {
        "doctor": ("doctor_command", "doctor"),
        "org": ("org_command", "org"),
        "sites": ("sites_command", "sites"),
        "images": ("images_command", "images"),
    },
    "Write job files": {
        "init": ("init_command", "init"),
        "templates": ("templates_command", "templates"),
        "explain": ("job_file_commands", "explain"),
        "render": ("job_file_commands", "render"),
        "schema": ("job_file_commands", "schema"),
    },
    "Start tasks without a job file": {
        "launch": ("plugin_commands", "launch"),
        "plugin": ("plugin_commands", "plugin"),
    },
}
# Of the column of verbs.
_WIDTH = max(len(name) for verbs in GROUPS.values() for name in verbs)
VERBS = {name: where for verbs in GROUPS.values() for name, where in verbs.items()}


class _Verbs(click.Group):
    """Imports the verb that is typed, and not the others, which would take longer than all else before it runs."""

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if super().get_command(ctx, cmd_name) is None:
            return None
        module, name = VERBS[cmd_name]
        command: click.Command = getattr(importlib.import_module(f"slurm_tf.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the verbs, those that do alike together."""
        for title, verbs in GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:{_WIDTH}}", self._sentence(ctx, name)) for name in verbs])

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Return the verbs and options. bash shows no help of a verb, so none is imported for it."""
        if os.environ.get(completion_shells.VARIABLE) != "bash_complete":
            return super().shell_complete(ctx, incomplete)
        verbs = [CompletionItem(name) for name in VERBS if name.startswith(incomplete)]
        return [*verbs, *click.Command.shell_complete(self, ctx, incomplete)]

    def _sentence(self, ctx: click.Context, verb: str) -> str:
        """Return the first sentence of the verb's help."""
        command = self.get_command(ctx, verb)
        text = " ".join(((command and command.help) or "").split())
        return text.partition(". ")[0].removesuffix(".")


# click names the verb that is nearest to a wrong one from its own list, in which these stand for the verbs
@click.group(cls=_Verbs, commands={name: click.Command(name) for name in VERBS}, context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="slurm-tf")
def cli() -> None:
    """Distributed TensorFlow under Slurm.

    A job file and a site profile become one sbatch script. Inside the job every task is assigned its role in a
    TensorFlow cluster.
    """
    # click takes colours out of what goes to no terminal
    click.get_current_context().color = terminal.has_colour(sys.stdout) or None


def run_commands() -> None:
    """Run the verb on the command line, and exit with its exit code."""
    # A shell starts its background jobs with SIGINT ignored; Python then installs no handler, and Ctrl-C would end
    # neither this program nor what it starts, which inherits "ignored".
    signal.signal(signal.SIGINT, signal.default_int_handler)
    completion_shells.answer_quietly()
    try:
        cli.main(standalone_mode=False)
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except SlurmTfError as error:  # it may quote a key or a file's name
        click.echo(f"slurm-tf: {terminal.printable_lines(str(error))}", err=True)
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
        if _is_interrupt(error):
            sys.exit(130)
        if os.environ.get("SLURM_TF_DEBUG"):
            raise
        click.echo(f"slurm-tf: {type(error).__name__}: {error}\nHINT: SLURM_TF_DEBUG=1 shows the traceback", err=True)
        sys.exit(70)


def _is_interrupt(error: BaseException | None) -> bool:
    """Return whether an error is what became of Ctrl-C.

    What is raised while a class is made, as where a module with an enum is imported, becomes a RuntimeError (type_new
    in typeobject.c, Python 3.11).
    """
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None
