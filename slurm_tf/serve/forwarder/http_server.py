"""The forwarder's HTTP server: takes requests of REST on a socket of this user, and passes them on."""

import asyncio
import contextlib
import json
import os
import re
import socket
import urllib.parse
from collections.abc import Awaitable, Callable, Iterator, Mapping, MutableMapping, Sequence
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from slurm_tf.serve.forwarder import socket_owner
from slurm_tf.serve.forwarder.spread import NoReplicaError, Spread
from slurm_tf.serve.forwarder.upstream import Answer, Headers, LostError, Request, Upstream

# What a replica takes at most is its own affair; this is what is held in memory of one request.
_MAX_BODY = 256 << 20
# When a client may try again where no replica answers.
_RETRY_AFTER = b"5"
_UNAVAILABLE, _BUSY = 503, 429
# Headers that are about one connection, and those that are made anew (RFC 9110, 7.6.1).
_OF_CONNECTION = frozenset({
    b"connection", b"keep-alive", b"proxy-connection", b"proxy-authenticate", b"proxy-authorization", b"te", b"trailer",
    b"transfer-encoding", b"upgrade", b"expect", b"host", b"authorization", b"content-length",
})  # fmt: skip
_MODEL = re.compile(r"/v1/models/([^/:]+)")
# What only computes: asked twice it answers the same.
_CALL = re.compile(r"/v1/models/.*:(predict|classify|regress)", re.IGNORECASE)
# How programs name this machine, or the end of a tunnel. A browser that a web page of another site has ask (by a form,
# or by a name that resolves to this machine) is this user's program as well, but names that site: it needs the token.
_HERE = re.compile(rb"(localhost|127\.0\.0\.1|\[::1\])(:\d+)?", re.IGNORECASE)
# Of the state that uvicorn gives with each request of a connection.
_OWNER = "slurm_tf_owner"

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


class OwnedConnection(H11Protocol):
    """A connection that knows whose program is at its other end, None over a socket that only its owner can open."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Look whose program it is once, as the connection cannot change hands."""
        super().connection_made(transport)
        peer, here = transport.get_extra_info("peername"), transport.get_extra_info("sockname")
        is_tcp = isinstance(peer, tuple)
        found = socket_owner.owner(peer[:2], here[:2]) if is_tcp else os.getuid()
        self.app_state = {**self.app_state, _OWNER: found}


class Forwarder:
    """An ASGI application that passes each request on to a replica."""

    def __init__(self, spread: Spread[Upstream], token: Callable[[], str]) -> None:
        """`token`: reads the service's token, "" for a service without one."""
        self._spread, self._token = spread, token

    async def __call__(self, scope: Mapping[str, Any], receive: Receive, send: Send) -> None:
        """Answer one request."""
        await _reply(send, await self._answer(scope, receive))

    async def _answer(self, scope: Mapping[str, Any], receive: Receive) -> Answer:
        token = self._token()
        if not _is_allowed(scope, token):
            return _error(401, "found no token, or a wrong one; needed Authorization: Bearer TOKEN")
        body = await _body(receive)
        if body is None:
            return _error(413, f"found a request of more than {_MAX_BODY} bytes")
        request = _request(scope, body)
        model = _MODEL.match(scope["path"])
        try:
            return await self._spread.ask(
                urllib.parse.unquote(model[1]) if model else "",
                request.is_idempotent,
                lambda upstream: upstream.ask(request, token),
                is_busy,
            )
        except NoReplicaError:
            return _error(
                _UNAVAILABLE, "no replica answers; slurm-tf serve status says why", (b"retry-after", _RETRY_AFTER)
            )
        except LostError as error:
            return _error(502, f"the replica was lost before it answered: {error}")


async def serve(sockets: Sequence[socket.socket], spread: Spread[Upstream], token: Callable[[], str]) -> None:
    """Serve on sockets that listen, until SIGINT or SIGTERM."""
    config = uvicorn.Config(
        cast("Any", Forwarder(spread, token)),
        http=OwnedConnection,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,
        timeout_keep_alive=60,
        timeout_graceful_shutdown=5,
    )
    watching = asyncio.ensure_future(spread.watch())
    try:
        await uvicorn.Server(config).serve(sockets=list(sockets))
    finally:
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching


def is_busy(answer: Answer) -> bool:
    """Return whether an answer says that another replica may do better."""
    return answer.status in (_UNAVAILABLE, _BUSY)


def _is_allowed(scope: Mapping[str, Any], token: str) -> bool:
    """Whether the request is from a program of this user, or names the token."""
    headers = dict(scope["headers"])
    is_web_page = b"origin" in headers or not _HERE.fullmatch(headers.get(b"host", b""))
    if scope.get("state", {}).get(_OWNER) == os.getuid() and not is_web_page:
        return True
    return socket_owner.is_token(headers.get(b"authorization", b"").decode("latin-1"), token)


async def _body(receive: Receive) -> bytes | None:
    """Return the body of a request, None for one that is too large."""
    parts, size = [], 0
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > _MAX_BODY:
            return None
        if not message.get("more_body", False):
            return b"".join(parts)


def _request(scope: Mapping[str, Any], body: bytes) -> Request:
    target: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    method: str = scope["method"]
    is_idempotent = method in ("GET", "HEAD", "OPTIONS") or bool(_CALL.fullmatch(scope["path"]))
    return Request(
        method=method.encode(),
        target=target + (b"?" + query if query else b""),
        headers=tuple(_end_to_end(scope["headers"])),
        body=body,
        is_idempotent=is_idempotent,
    )


def _end_to_end(headers: Sequence[tuple[bytes, bytes]] | Headers) -> Iterator[tuple[bytes, bytes]]:
    """Yield the headers that are for the other end, not for the next connection."""
    named = b",".join(value for name, value in headers if name.lower() == b"connection").lower().split(b",")
    skipped = _OF_CONNECTION | {each.strip() for each in named}
    return ((name.lower(), value) for name, value in headers if name.lower() not in skipped)


def _error(status: int, text: str, *headers: tuple[bytes, bytes]) -> Answer:
    """Return an error as TensorFlow Serving's REST has it."""
    return Answer(status, ((b"content-type", b"application/json"), *headers), json.dumps({"error": text}).encode())


async def _reply(send: Send, answer: Answer) -> None:
    length = (b"content-length", str(len(answer.body)).encode())
    headers = [*_end_to_end(answer.headers), length]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})
