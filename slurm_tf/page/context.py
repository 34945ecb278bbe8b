"""What all views of the page share."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from slurm_tf.page.admin_rights import AdminRights
from slurm_tf.page.html_templates import HtmlTemplates
from slurm_tf.page.quota_cache import QuotaCache
from slurm_tf.page.report_process import ReportProcess
from slurm_tf.page.run_cache import RunCache
from slurm_tf.page.sessions import Sessions
from slurm_tf.slurm.client import Client


@dataclass(frozen=True, slots=True)
class PageContext:
    """What views read and write through. `connect` returns the client of Slurm that is configured."""

    runs: RunCache
    sessions: Sessions
    templates: HtmlTemplates
    connect: Callable[[], Client]
    quota: QuotaCache
    admin: AdminRights
    reports: ReportProcess

    def answer(self, request: Request, name: str, values: Mapping[str, object], status: int = 200) -> Response:
        """Return a page: see HtmlTemplates.answer."""
        return self.templates.answer(request, name, values, status)
