"""The forwarder's gRPC server: passes calls on to replicas as they are, with the service's token."""

import asyncio
import contextlib
import os
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc

from slurm_tf.errors import ServiceError
from slurm_tf.serve import replica_channel
from slurm_tf.serve.endpoint import Endpoint
from slurm_tf.serve.forwarder import socket_owner
from slurm_tf.serve.forwarder.spread import NoReplicaError, Spread
from slurm_tf.serve.forwarder.upstream import LostError

_MAX_BYTES = 256 << 20
_OPTIONS = (("grpc.max_send_message_length", _MAX_BYTES), ("grpc.max_receive_message_length", _MAX_BYTES))
_AUTHORIZATION = "authorization"
# What only computes: asked twice it answers the same.
_IDEMPOTENT = re.compile(r".*/(Predict|Classify|Regress|MultiInference|GetModelMetadata|GetModelStatus|Check)")
# What sends several messages: a client that watches takes UNIMPLEMENTED for a server that always answers.
_WATCH = "/grpc.health.v1.Health/Watch"
_CONNECT_SECONDS = 3.0
_LOST = (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN)
_PEER = re.compile(r"ipv[46]:\[?(?P<host>[^\]]+?)\]?:(?P<port>\d+)")

Metadata = tuple[tuple[str, str | bytes], ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """What a replica answered: the message and the trailers, or its error."""

    message: bytes
    trailers: Metadata
    error: "grpc.aio.AioRpcError | None" = None

    @property
    def is_busy(self) -> bool:
        """Whether the replica refused the call as it has too many: another one may have time."""
        return self.error is not None and replica_channel.is_pushed_back(self.error)


class Channel:
    """The channel to one replica, whose certificate is the one of its endpoint file."""

    def __init__(self, replica: Endpoint) -> None:
        """Make the channel; it connects with the first call."""
        self.in_flight = 0
        self._replica = replica
        self._channel: grpc.aio.Channel | None = None
        self._calls: set[Any] = set()
        self._is_closed = False

    async def ask(self, method: str, request: bytes, metadata: Metadata, seconds: float | None) -> Reply:
        """Call a method; return what the replica answered. Raises LostError."""
        self.in_flight += 1
        try:
            channel = await self._connected()
            call = channel.unary_unary(method)(request, metadata=metadata, timeout=seconds)
            self._calls.add(call)
            try:
                return Reply(await call, tuple(await call.trailing_metadata() or ()))
            finally:
                self._calls.discard(call)
        except asyncio.CancelledError:
            if self._is_closed:
                raise LostError("it has not renewed its endpoint file", is_sent=True) from None
            raise
        except grpc.aio.UsageError as error:  # the channel was closed while it connected
            raise LostError("it has not renewed its endpoint file", is_sent=False) from error
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE and not replica_channel.is_pushed_back(error):
                raise LostError(error.details() or "unavailable", is_sent=True) from error
            return Reply(b"", (), error)
        finally:
            self.in_flight -= 1

    async def close(self) -> None:
        """Close the channel; calls that are under way end with LostError, as when the replica's node is gone."""
        self._is_closed = True
        for call in tuple(self._calls):
            call.cancel()
        if self._channel is not None:
            await self._channel.close()

    async def _connected(self) -> "grpc.aio.Channel":
        """Return the channel once it is connected. Raises LostError where it cannot be: nothing was sent."""
        self._channel = channel = self._channel or _channel(self._replica)
        try:
            async with asyncio.timeout(_CONNECT_SECONDS):
                state = channel.get_state(try_to_connect=True)
                while state is not grpc.ChannelConnectivity.READY:
                    if state in _LOST:
                        raise LostError("it cannot be reached", is_sent=False)
                    await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        except TimeoutError as error:
            raise LostError("no connection in time", is_sent=False) from error
        return channel


class Server:
    """A server that runs."""

    def __init__(self, server: "grpc.aio.Server", watching: "asyncio.Future[None]") -> None:
        self._server, self._watching = server, watching

    async def stop(self) -> None:
        """End the server, and the calls that are under way."""
        self._watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._watching
        await self._server.stop(None)


class _Forwarded(grpc.GenericRpcHandler):  # type: ignore[misc]  # grpc has no types
    """Passes each call on, whatever its method is."""

    def __init__(self, spread: Spread[Channel], token: Callable[[], str], here: tuple[str, int] | None) -> None:
        """`here`: the address of 127.0.0.1 on which the server listens, None for a socket of this user."""
        self._spread, self._token, self._here = spread, token, here

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Return what answers a call."""
        method = details.method

        async def answer(request: bytes, context: "grpc.aio.ServicerContext[bytes, bytes]") -> bytes:
            return await self._answer(method, request, context)

        return grpc.unary_unary_rpc_method_handler(answer)

    async def _answer(self, method: str, request: bytes, context: Any) -> bytes:  # noqa: ANN401 - grpc has no types
        token = self._token()
        given: Metadata = tuple(context.invocation_metadata() or ())
        if not self._is_allowed(context.peer(), given, token):
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, "found no token, or a wrong one")
        if method == _WATCH:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "the forwarder passes no streams on; needed Check")
        metadata = _passed_on(given, token)
        try:
            reply = await self._spread.ask(
                "",
                bool(_IDEMPOTENT.fullmatch(method)),
                lambda channel: channel.ask(method, request, metadata, context.time_remaining()),
                lambda answer: answer.is_busy,
            )
        except NoReplicaError:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "no replica answers; slurm-tf serve status says why")
        except LostError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"the replica was lost before it answered: {error}")
        if reply.error is not None:
            trailers = tuple(reply.error.trailing_metadata() or ())
            await context.abort(reply.error.code(), reply.error.details() or "", trailers)
        context.set_trailing_metadata(reply.trailers)
        return reply.message

    def _is_allowed(self, peer: str, given: Metadata, token: str) -> bool:
        """Whether the call is from a program of this user, or names the token."""
        if self._here is None:
            return True
        match = _PEER.fullmatch(peer)
        if match and socket_owner.owner((match["host"], int(match["port"])), self._here) == os.getuid():
            return True
        return socket_owner.is_token(next((str(value) for name, value in given if name == _AUTHORIZATION), ""), token)


async def start(
    address: str, spread: Spread[Channel], token: Callable[[], str], here: tuple[str, int] | None = None
) -> Server:
    """Start a server at `address` ("unix:PATH" or "HOST:PORT"), and return it; `here`: HOST and PORT, None for PATH."""
    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers((_Forwarded(spread, token, here),))
    server.add_insecure_port(address)
    await server.start()
    return Server(server, asyncio.ensure_future(spread.watch()))


def _passed_on(given: Metadata, token: str) -> Metadata:
    """Return the metadata of a client's call for the replica, with the service's token in place of the client's."""
    own = ((_AUTHORIZATION, f"Bearer {token}"),) if token else ()
    return (
        *own,
        *(each for each in given if each[0] not in (_AUTHORIZATION, "user-agent") and not each[0].startswith("grpc-")),
    )


def _channel(replica: Endpoint) -> "grpc.aio.Channel":
    """Return a channel that trusts the replica's certificate alone. Raises LostError for one that is another."""
    try:
        made = replica_channel.settings(replica)
    except ServiceError as error:
        raise LostError(error.found, is_sent=False) from error
    if made.credentials is None:
        return grpc.aio.insecure_channel(made.target, options=made.options)
    return grpc.aio.secure_channel(made.target, made.credentials, options=made.options)
