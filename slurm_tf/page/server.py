"""Starts the page: listens on the loopback address or on a socket of the user's own, and answers until it is ended."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from slurm_tf import files
from slurm_tf.errors import UsageError
from slurm_tf.page.guards import OPEN, Guards
from slurm_tf.page.sessions import Sessions
from slurm_tf.slurm.client import Client

LOOPBACK = "127.0.0.1"
# After the link is printed, so that the terminal has it first.
_LATER_SECONDS = 0.05
# Connections at once, most of which are streams that wait.
_MOST_CONNECTIONS = 250


@dataclass(frozen=True, slots=True)
class Listening:
    """Where the page listens: a port of the loopback address, or the path of a socket ("" for none)."""

    port: int
    socket: str
    link: str


def listen_on_port(port: int) -> socket.socket:
    """Return a socket that is bound to a port of the loopback address, 0 for any free one. Raises UsageError."""
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.bind((LOOPBACK, port))
    except OSError as error:
        listener.close()
        what = f"port {port} of {LOOPBACK}: {error.strerror}"
        raise UsageError(what, "a free port", "without --port a free one is chosen") from error
    return listener


@contextlib.contextmanager
def listening_socket(path: str) -> Iterator[socket.socket]:
    """Return a listening socket at a path, which only the user can connect to; remove it at the end.

    Its folder is made, and is the user's own. Raises RunError, or UsageError where a page listens there already.
    """
    files.own_folder(os.path.dirname(path))
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with listener:
        with contextlib.suppress(FileNotFoundError):
            _remove_dead(path)
        before = os.umask(0o177)
        try:
            listener.bind(path)
        except OSError as error:
            raise UsageError(f"{path}: {error.strerror}", "the path of a socket, of at most 107 bytes") from error
        finally:
            os.umask(before)
        try:
            yield listener
        finally:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _remove_dead(path: str) -> None:
    """Remove a socket on which nothing listens any more."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
    raise UsageError(f"a page listens on {path} already", "another path, or the end of that page")


def serve(
    listener: socket.socket, connect: Callable[[], Client], runs: str, is_admin: bool, say: Callable[[Listening], None]
) -> None:
    """Answer requests until a signal ends it. `runs`: the runs folder; `is_admin`: see views.application.

    `say` gets where the page is, with a link that opens it once: at first, and again whenever a line is typed here.
    """
    sessions = Sessions()
    views = _Views(sessions, connect, runs, is_admin)
    guards = Guards(views, sessions)
    is_port = listener.family is socket.AF_INET
    port, path = (listener.getsockname()[1], "") if is_port else (0, str(listener.getsockname()))

    def invite() -> None:
        say(Listening(port, path, f"http://localhost:{port or 'PORT'}{guards.prefix}{OPEN}?link={sessions.new_link()}"))

    config = uvicorn.Config(
        guards, loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, limit_concurrency=_MOST_CONNECTIONS, timeout_graceful_shutdown=1,
    )  # fmt: skip
    asyncio.run(_answer(uvicorn.Server(config), listener, invite, views))


class _Views:
    """The views, imported in the background once the page listens: its user has to open the link first."""

    def __init__(self, sessions: Sessions, connect: Callable[[], Client], runs: str, is_admin: bool) -> None:
        self._sessions, self._connect, self._runs, self._is_admin = sessions, connect, runs, is_admin
        self._application: asyncio.Future[ASGIApp] | None = None

    def load(self) -> "asyncio.Future[ASGIApp]":
        """Return the views that are, or will be."""
        if self._application is None:
            self._application = asyncio.get_running_loop().run_in_executor(None, self._import)
        return self._application

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        application = await asyncio.shield(self.load())
        await application(scope, receive, send)

    def _import(self) -> ASGIApp:
        from slurm_tf.page import views  # noqa: PLC0415

        return views.application(self._sessions, self._connect, self._runs, self._is_admin)


async def _answer(server: uvicorn.Server, listener: socket.socket, invite: Callable[[], None], views: _Views) -> None:
    listener.listen()
    loop = asyncio.get_running_loop()

    def read_line() -> None:
        if sys.stdin.readline():
            invite()
        else:  # Ctrl-D
            loop.remove_reader(sys.stdin)

    if sys.stdin.isatty():
        loop.add_reader(sys.stdin, read_line)
    loop.add_signal_handler(signal.SIGUSR1, invite)
    # uvicorn ends at SIGINT and SIGTERM by itself
    loop.add_signal_handler(signal.SIGHUP, server.handle_exit, signal.SIGTERM, None)
    invite()
    loop.call_later(_LATER_SECONDS, views.load)
    await server.serve([listener])
