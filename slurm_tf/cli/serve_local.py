"""Serves on this machine: the service's job as Slurm would run it, and a port of 127.0.0.1 that leads to it."""

import http.client
import json
import os
import socket
import threading
import time
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import run_command, serve_extra, watch_commands
from slurm_tf.cli.terminal import short_path

if TYPE_CHECKING:
    from slurm_tf.jobspec.plan import Plan

_HOLD_SECONDS = 30.0
_POLL_SECONDS = 0.2


def run(plan: "Plan", port: int) -> int:
    """Run the service until Ctrl-C; return its exit code."""
    serve_extra.check()
    from slurm_tf.launch.direct import local_tasks
    from slurm_tf.serve.forwarder import forwarding, local_sockets

    folder, serve = plan.run, plan.settings.serve
    is_open = serve is not None and serve.is_open
    watch_commands.remember(folder)
    listening = local_sockets.listen_tcp(port)
    click.echo(f"Service {folder.name} in {short_path(folder.path)}", err=True)
    what = forwarding.Forwarding(folder, [listening], None, _HOLD_SECONDS)
    threading.Thread(target=forwarding.run, args=(what, is_open), daemon=True).start()
    threading.Thread(target=_say_when_ready, args=(plan, listening), daemon=True).start()
    return local_tasks.run_script(plan.submission.script, run_command.environ_here(os.environ))


def _say_when_ready(plan: "Plan", listening: socket.socket) -> None:
    """Print how to ask the models, once a replica answers."""
    from slurm_tf.watch import services

    while not services.replicas(plan.run):
        time.sleep(_POLL_SECONDS)
    serve, port = plan.settings.serve, listening.getsockname()[1]
    for name in serve.models if serve else ():
        click.echo(f"slurm-tf: {name} answers: {_example(port, name)}", err=True)


def _example(port: int, model: str) -> str:
    """Return a command that asks a model, or for its state where its signature is not known."""
    from slurm_tf.serve.forwarder import example_request
    from slurm_tf.serve.forwarder.local_sockets import LOOPBACK

    url = f"http://{LOOPBACK}:{port}/v1/models/{model}"
    asking = http.client.HTTPConnection(LOOPBACK, port, timeout=_HOLD_SECONDS)
    try:
        asking.request("GET", f"/v1/models/{model}/metadata")
        return example_request.command(url, json.load(asking.getresponse()))
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return f"curl {url}"
    finally:
        asking.close()
