"""Runs the forwarder of a service: REST on sockets that listen, and gRPC on one more where grpcio is installed."""

import asyncio
import importlib.util
import os
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from slurm_tf.errors import ServiceError
from slurm_tf.run.folder import RunFolder
from slurm_tf.serve.forwarder import http_server
from slurm_tf.serve.forwarder.local_sockets import LOOPBACK
from slurm_tf.serve.forwarder.spread import NoReplicaError, Spread
from slurm_tf.serve.forwarder.upstream import Answer, LostError, Request, Upstream
from slurm_tf.serve.replica_watch import ReplicaWatch

if TYPE_CHECKING:
    from slurm_tf.serve.forwarder import grpc_server


@dataclass(frozen=True, slots=True)
class Forwarding:
    """What to forward. `rest`: sockets that listen; `grpc`: the path of a socket, or a port, None for no gRPC.

    `hold`: seconds for which a request waits for a replica.
    """

    run: RunFolder
    rest: Sequence[socket.socket]
    grpc: str | int | None
    hold: float


def has_grpc() -> bool:
    """Whether grpcio is installed."""
    return importlib.util.find_spec("grpc") is not None


def run(forwarding: Forwarding, is_open: bool) -> None:
    """Forward until SIGINT or SIGTERM; in a thread for as long as the process lives."""
    asyncio.run(_run(forwarding, _token(forwarding.run, is_open)))


async def ask(run: RunFolder, is_open: bool, model: str, request: Request, hold: float) -> Answer:
    """Ask a service once, as the forwarder does for its clients; its connection is closed then.

    Raises ServiceError where no replica answers, ModelError for a folder of endpoints that others can change, OSError.
    """
    token = _token(run, is_open)()
    closing = replace(request, headers=(*request.headers, (b"connection", b"close")))
    spread = Spread(ReplicaWatch(run.endpoints), Upstream, hold)
    try:
        return await spread.ask(
            model, request.is_idempotent, lambda replica: replica.ask(closing, token), http_server.is_busy
        )
    except NoReplicaError as error:
        found = f"no replica of the service {run.name} answers"
        raise ServiceError(found, "one", f"slurm-tf serve status {run.name} says why") from error
    except LostError as error:
        raise ServiceError(f"the replica was lost before it answered: {error}", "an answer") from error


async def _run(forwarding: Forwarding, token: Callable[[], str]) -> None:
    calls = await _start_grpc(forwarding, token) if forwarding.grpc is not None else None
    spread = Spread(ReplicaWatch(forwarding.run.endpoints), Upstream, forwarding.hold)
    try:
        await http_server.serve(forwarding.rest, spread, token)
    finally:
        if calls is not None:
            await calls.stop()


async def _start_grpc(forwarding: Forwarding, token: Callable[[], str]) -> "grpc_server.Server":
    from slurm_tf.serve.forwarder import grpc_server  # noqa: PLC0415 - grpcio may be missing on the login node

    where = forwarding.grpc
    here = (LOOPBACK, where) if isinstance(where, int) else None
    address = f"unix:{where}" if here is None else f"{LOOPBACK}:{where}"
    spread = Spread(ReplicaWatch(forwarding.run.endpoints), grpc_server.Channel, forwarding.hold)
    before = os.umask(0o177)  # only this user is to open the socket
    try:
        return await grpc_server.start(address, spread, token, here)
    finally:
        os.umask(before)


def _token(run: RunFolder, is_open: bool) -> Callable[[], str]:
    """Return what reads the token of a service: once, as it never changes."""
    if is_open:
        return lambda: ""
    with open(run.token, encoding="ascii") as file:
        token = file.read().strip()
    return lambda: token
