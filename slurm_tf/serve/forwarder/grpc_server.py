"""The forwarder's gRPC server: passes calls on to replicas as they are, with the service's token."""

import asyncio
import contextlib
import os
import re
from collections.abc import Callable
from typing import Any

import grpc

from slurm_tf.serve import endpoint
from slurm_tf.serve.endpoint import Endpoint
from slurm_tf.serve.forwarder import socket_owner
from slurm_tf.serve.forwarder.spread import NoReplicaError, Spread
from slurm_tf.serve.forwarder.upstream import LostError

_MAX_BYTES = 256 << 20
_OPTIONS = (("grpc.max_send_message_length", _MAX_BYTES), ("grpc.max_receive_message_length", _MAX_BYTES))
_AUTHORIZATION = "authorization"
# What only computes: asked twice it answers the same.
_IDEMPOTENT = re.compile(r".*/(Predict|Classify|Regress|MultiInference|GetModelMetadata|GetModelStatus|Check)")
_PEER = re.compile(r"ipv[46]:\[?(?P<host>[^\]]+?)\]?:(?P<port>\d+)")

Metadata = tuple[tuple[str, str | bytes], ...]


class Channel:
    """The channel to one replica, whose certificate is the one of its endpoint file."""

    def __init__(self, replica: Endpoint) -> None:
        """Make the channel; it connects with the first call."""
        self.in_flight = 0
        self._channel = _channel(replica)
        self._calls: set[Any] = set()
        self._is_gone = False

    async def ask(self, method: str, request: bytes, metadata: Metadata, seconds: float | None) -> bytes:
        """Call a method; return the answer. Raises LostError, or grpc.aio.AioRpcError for an error of the replica."""
        self.in_flight += 1
        call = self._channel.unary_unary(method)(request, metadata=metadata, timeout=seconds)
        self._calls.add(call)
        try:
            answer: bytes = await call
        except asyncio.CancelledError:
            if self._is_gone:
                raise LostError("it has not renewed its endpoint file", is_sent=True) from None
            raise
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAVAILABLE:
                raise LostError(error.details() or "unavailable", is_sent=True) from error
            raise
        finally:
            self._calls.discard(call)
            self.in_flight -= 1
        return answer

    def give_up(self) -> None:
        """End all calls that are under way: the replica's node is gone."""
        self._is_gone = True
        for call in tuple(self._calls):
            call.cancel()


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
        own = ((_AUTHORIZATION, f"Bearer {token}"),) if token else ()
        metadata = (*own, *(each for each in given if each[0] not in (_AUTHORIZATION, "user-agent")))
        seconds = context.time_remaining()
        try:
            return await self._spread.ask(
                "",
                bool(_IDEMPOTENT.fullmatch(method)),
                lambda channel: channel.ask(method, request, metadata, seconds),
                lambda _: False,
            )
        except grpc.aio.AioRpcError as error:
            await context.abort(error.code(), error.details() or "", error.trailing_metadata() or ())
        except NoReplicaError:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "no replica answers; slurm-tf serve status says why")
        except LostError as error:
            await context.abort(grpc.StatusCode.UNAVAILABLE, f"the replica was lost before it answered: {error}")
        raise AssertionError("abort raises")

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


def _channel(replica: Endpoint) -> "grpc.aio.Channel":
    target = f"{replica.host}:{replica.grpc_port}"
    if not replica.certificate:
        return grpc.aio.insecure_channel(target, options=_OPTIONS)
    if endpoint.fingerprint(replica.certificate) != replica.fingerprint:
        raise LostError("its certificate is not that of its fingerprint", is_sent=False)
    credentials = grpc.ssl_channel_credentials(root_certificates=replica.certificate.encode())
    return grpc.aio.secure_channel(target, credentials, options=_OPTIONS)
