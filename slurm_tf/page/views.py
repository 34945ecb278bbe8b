"""All views of the page as one application: those of runs, and the others once one of them is asked for."""

import threading
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route, Router
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send

from slurm_tf import files
from slurm_tf.errors import ConfigError, DatasetError, ModelError, SlurmError, SlurmTfError, UsageError
from slurm_tf.page.admin_rights import AdminRights
from slurm_tf.page.context import PageContext
from slurm_tf.page.efficiency_views import EfficiencyViews
from slurm_tf.page.html_templates import HtmlTemplates
from slurm_tf.page.quota_cache import QuotaCache
from slurm_tf.page.report_process import ReportProcess
from slurm_tf.page.run_cache import RunCache
from slurm_tf.page.run_views import RunViews
from slurm_tf.page.sessions import Sessions
from slurm_tf.slurm.client import Client

_STATIC = Path(__file__).with_name("static")


def application(sessions: Sessions, connect: Callable[[], Client], runs: str, is_admin: bool) -> Starlette:
    """Return the views of the user's runs, which have to stand behind guards.Guards.

    `runs`: the runs folder; `is_admin`: what an admin sees and does is offered in any case.
    """
    known = RunCache(connect, runs)
    known.begin()  # its user has to open the link first
    context = PageContext(
        known, sessions, HtmlTemplates(sessions), connect, QuotaCache(), AdminRights(is_admin), ReportProcess()
    )
    views = (RunViews(context), EfficiencyViews(context))
    routes: list[Route | Mount] = [route for each in views for route in each.routes()]
    routes += [Mount("/static", StaticFiles(directory=_STATIC)), Mount("", _OtherViews(context))]

    def problem(request: Request, error: Exception) -> Response:
        values = {"title": "This did not work", "lines": _words(error).splitlines()}
        return context.answer(request, "problem", values, _status(error))

    return Starlette(
        routes=routes, exception_handlers={SlurmTfError: problem, HTTPException: problem, OSError: problem}
    )


class _OtherViews:
    """The views beside those of runs, imported when one is asked for first."""

    def __init__(self, context: PageContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._router: Router | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        router = self._router
        if router is None:
            router = await run_in_threadpool(self._load)
        await router(scope, receive, send)

    def _load(self) -> Router:
        with self._lock:
            if self._router is None:
                from slurm_tf.page import other_views  # noqa: PLC0415

                self._router = other_views.router(self._context)
            return self._router


def _words(error: Exception) -> str:
    if isinstance(error, HTTPException):
        return error.detail
    return str(files.storage_error(error, "show this") if isinstance(error, OSError) else error)


def _status(error: Exception) -> int:
    """Return the status of HTTP for an error."""
    if isinstance(error, HTTPException):
        return error.status_code
    if isinstance(error, UsageError | ConfigError | DatasetError | ModelError):
        return HTTPStatus.BAD_REQUEST
    return HTTPStatus.BAD_GATEWAY if isinstance(error, SlurmError) else HTTPStatus.INTERNAL_SERVER_ERROR
