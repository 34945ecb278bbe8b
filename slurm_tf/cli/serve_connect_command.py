"""The verb serve connect: a socket on this machine that leads to the replicas of a service."""

import getpass
import json
import os
import shlex
import socket
import sys
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import options, serve_extra
from slurm_tf.cli.serve_argument import SERVICE, find
from slurm_tf.cli.terminal import printable

if TYPE_CHECKING:
    from slurm_tf.watch.services import Service

_WAIT_SECONDS = 60.0


@click.command()
@SERVICE
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    help="A port of 127.0.0.1 in place of a socket: your own programs need no token there, others need it.",
)
@click.option("--grpc-port", type=click.IntRange(1, 65535), help="The same for gRPC.")
@click.option("--socket", "path", default="", metavar="PATH", help="Where the socket is; gRPC's is PATH.grpc.")
@click.option(
    "--wait",
    "seconds",
    type=click.FloatRange(0, 3600),
    default=_WAIT_SECONDS,
    metavar="SECONDS",
    help="How long a request waits while no replica answers, before it gets 503; default: 60.",
)
@options.JSON
def connect(
    service: str, port: int | None, grpc_port: int | None, path: str, seconds: float, as_json: bool
) -> None:  # fmt: skip
    """Lead programs here to the replicas of SERVICE, until Ctrl-C.

    Requests are spread over the replicas that live, with the service's token; one whose replica dies is asked again.
    Programs need to know nothing of the service: they speak TensorFlow Serving's REST or gRPC on a socket that only you
    can open, or on a port.
    """
    serve_extra.check()
    from slurm_tf.serve.forwarder import forwarding, local_sockets

    found = find(service)
    where = path or os.path.join(local_sockets.folder(), f"{found.run.name}.sock")
    calls: str | int | None = None
    if forwarding.has_grpc():
        calls = grpc_port or local_sockets.free_path(f"{where}.grpc")
    listening = local_sockets.listen_unix(where) if port is None else local_sockets.listen_tcp(port)
    try:
        if as_json:
            rest = listening.getsockname() if port is None else listening.getsockname()[1]
            click.echo(json.dumps({"run": found.run.name, "rest": rest, "grpc": calls}))
            sys.stdout.flush()
        else:
            _print(found, listening, calls)
        forwarding.run(forwarding.Forwarding(found.run, [listening], calls, seconds), found.settings.is_open)
    finally:
        listening.close()
        for left in (where if port is None else "", calls):
            if isinstance(left, str) and left and os.path.exists(left):
                os.unlink(left)


def _print(found: "Service", listening: socket.socket, calls: str | int | None) -> None:
    """Print to stderr where the service answers now, and how to reach it from elsewhere."""
    from slurm_tf.watch import services

    model = next(iter(found.settings.models))
    count = len(services.replicas(found.run))
    here = f"{getpass.getuser()}@{socket.gethostname()}"
    lines = [
        f"Service {found.run.name}: {count} replica{'s' * (count != 1)} answering; Ctrl-C ends this, not the service"
    ]
    if listening.family == socket.AF_UNIX:
        path = listening.getsockname()
        lines.append(f"  REST  curl --unix-socket {shlex.quote(path)} http://localhost/v1/models/{model}")
        lines.append(f"        elsewhere: ssh -N -L 8501:{shlex.quote(path)} {here}, then http://localhost:8501")
    else:
        port = listening.getsockname()[1]
        lines.append(f"  REST  curl http://127.0.0.1:{port}/v1/models/{model}")
        lines.append(f"        elsewhere: ssh -N -L 8501:127.0.0.1:{port} {here}, then http://localhost:8501")
    if isinstance(calls, str):
        lines.append(f"  gRPC  unix:{calls}")
        lines.append(f"        elsewhere: ssh -N -L 8500:{shlex.quote(calls)} {here}, then localhost:8500")
    elif calls is not None:
        lines.append(f"  gRPC  127.0.0.1:{calls}")
    click.echo("\n".join(map(printable, lines)), err=True)
