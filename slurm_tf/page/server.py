"""Starts the page: listens on the loopback address or on a socket of the user's own, and answers until it is ended."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from slurm_tf import files
from slurm_tf.errors import ConfigError, DatasetError, SlurmError, SlurmTfError, UsageError
from slurm_tf.page.context import PageContext
from slurm_tf.page.data_sets import DataSetViews
from slurm_tf.page.guards import OPEN, Guards
from slurm_tf.page.html_templates import HtmlTemplates
from slurm_tf.page.new_run_views import NewRunViews
from slurm_tf.page.run_cache import RunCache
from slurm_tf.page.run_views import RunViews
from slurm_tf.page.sessions import Sessions
from slurm_tf.slurm.client import Client

LOOPBACK = "127.0.0.1"
_STATIC = Path(__file__).with_name("static")
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


def serve(listener: socket.socket, connect: Callable[[], Client], runs: str, say: Callable[[Listening], None]) -> None:
    """Answer requests until a signal ends it. `runs`: the runs folder.

    `say` gets where the page is, with a link that opens it once: at first, and again whenever a line is typed here.
    """
    sessions = Sessions()
    context = PageContext(RunCache(connect, runs), sessions, HtmlTemplates(sessions), connect)
    guards = Guards(_app(context), sessions)
    is_port = listener.family is socket.AF_INET
    port, path = (listener.getsockname()[1], "") if is_port else (0, str(listener.getsockname()))

    def invite() -> None:
        say(Listening(port, path, f"http://localhost:{port or 'PORT'}{guards.prefix}{OPEN}?link={sessions.new_link()}"))

    config = uvicorn.Config(
        guards, loop="asyncio", http="h11", ws="none", lifespan="off", log_config=None, access_log=False,
        server_header=False, proxy_headers=False, limit_concurrency=_MOST_CONNECTIONS, timeout_graceful_shutdown=1,
    )  # fmt: skip
    asyncio.run(_answer(uvicorn.Server(config), listener, invite))


async def _answer(server: uvicorn.Server, listener: socket.socket, invite: Callable[[], None]) -> None:
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
    await server.serve([listener])


def _app(context: PageContext) -> Starlette:
    """Return the views behind the guards."""
    views = (RunViews(context), NewRunViews(context), DataSetViews(context))
    routes: list[Route | Mount] = [route for each in views for route in each.routes()]
    routes.append(Mount("/static", StaticFiles(directory=_STATIC)))

    def problem(request: Request, error: Exception) -> Response:
        values = {"title": "This did not work", "lines": _words(error).splitlines()}
        return context.answer(request, "problem", values, _status(error))

    return Starlette(
        routes=routes, exception_handlers={SlurmTfError: problem, HTTPException: problem, OSError: problem}
    )


def _words(error: Exception) -> str:
    if isinstance(error, HTTPException):
        return error.detail
    return str(files.storage_error(error, "show this") if isinstance(error, OSError) else error)


def _status(error: Exception) -> int:
    """Return the status of HTTP for an error."""
    if isinstance(error, HTTPException):
        return error.status_code
    if isinstance(error, UsageError | ConfigError | DatasetError):
        return HTTPStatus.BAD_REQUEST
    return HTTPStatus.BAD_GATEWAY if isinstance(error, SlurmError) else HTTPStatus.INTERNAL_SERVER_ERROR
