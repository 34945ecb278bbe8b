"""The verb page, which shows the user's runs in a browser."""

import contextlib
import getpass
import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import options, watch_commands
from slurm_tf.errors import StoppedError, UsageError

if TYPE_CHECKING:
    from slurm_tf.page.server import Listening


@click.command()
@click.option("--port", type=click.IntRange(0, 65535), help="The port to listen on; default: any free port.")
@click.option(
    "--socket",
    "path",
    metavar="FILE",
    type=options.ExpandedPath(dir_okay=False),
    help="Listen on a socket that no other user of this machine can connect to, and on no port.",
)
@click.option("--admin", is_flag=True, help="Offer what an operator of Slurm sees and does; Slurm decides.")
@options.JSON
def page(port: int | None, path: Path | None, admin: bool, as_json: bool) -> None:
    """Show your runs in a browser, until Ctrl-C, and print the ssh command with which to reach it.

    It listens on this machine alone, and the link that it prints opens it once: for another browser, Enter prints
    another link, and so does SIGUSR1.
    """
    if port is not None and path is not None:
        raise UsageError("found --port and --socket", "one of them")
    try:
        from slurm_tf.page import server
    except ModuleNotFoundError as error:
        raise UsageError(
            f"this Python has no {error.name}", "the extra page", "pip install 'slurm-tf[page]'"
        ) from error
    signal.signal(signal.SIGTERM, _stop)
    runs = watch_commands.runs_folder()
    with contextlib.ExitStack() as stack:
        if path is None:
            listener = stack.enter_context(server.listen_on_port(port or 0))
        else:
            listener = stack.enter_context(server.listening_socket(os.path.abspath(path)))
        server.serve(listener, watch_commands.connect, runs, admin, _print_json if as_json else _print_how_to_reach)


def _print_json(place: "Listening") -> None:
    """Print where the page is, once it is up; it runs until its process gets a signal."""
    where = {"port": place.port or None, "socket": place.socket or None, "link": place.link}
    click.echo(json.dumps({**where, "pid": os.getpid()}))
    sys.stdout.flush()


def _print_how_to_reach(place: "Listening") -> None:
    from slurm_tf.watch import tensorboard

    user = f"{getpass.getuser()}@{tensorboard.host_name()}"
    here = f"{place.port}:localhost:{place.port}" if place.port else f"8080:{place.socket}"
    click.echo("The page is up. On your own machine, type:", err=True)
    click.echo(f"ssh -L {here} {user}")
    click.echo(
        "and open this link in a browser, within ten minutes; it works once. Enter prints another one.", err=True
    )
    click.echo(place.link.replace("PORT", "8080"))
    click.echo("Ctrl-C here ends the page.", err=True)
    sys.stdout.flush()


def _stop(number: int, _frame: object) -> None:
    raise StoppedError(f"got {signal.Signals(number).name}", 128 + number)
