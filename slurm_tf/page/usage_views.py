"""The view of what jobs used: `slurm-tf usage` in a process of its own, which takes its database with it."""

import csv
import os
import subprocess
import sys
import threading
import time
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from slurm_tf.page.context import PageContext

_DAYS = {"7": "7 days", "30": "30 days", "90": "90 days", "365": "a year"}
_GROUPS = {
    "": "what was wasted, and what to do", "template": "template", "name": "name", "state": "state",
    "partition": "partition", "account": "account", "day": "day",
}  # fmt: skip
# How long a report may take, and how long it is shown again without asking Slurm.
_SECONDS, _KEPT_SECONDS = 120.0, 60.0


class UsageViews:
    """The views of usage. One report is made at a time."""

    def __init__(self, context: PageContext) -> None:
        self._context = context
        self._lock = threading.Lock()
        self._made: dict[tuple[str, ...], tuple[float, str]] = {}

    def routes(self) -> list[Route]:
        """Return the address of each view."""
        return [Route("/usage", self.usage)]

    def usage(self, request: Request) -> Response:
        """Show what the user's jobs used in some days: in words, or a table by what was chosen."""
        days = request.query_params.get("days", "30")
        group = request.query_params.get("by", "")
        if days not in _DAYS or group not in _GROUPS:
            raise HTTPException(HTTPStatus.BAD_REQUEST, "found other words than the form has")
        words = [f"--since=now-{days}days"] + ([f"--by={group}", "--csv"] if group else [])
        text = self._report(tuple(words))
        heads, *rows = csv.reader(text.splitlines()) if group and text.strip() else [[]]
        values = {
            "title": "Usage",
            "days": days,
            "all_days": _DAYS.items(),
            "by": group,
            "groups": _GROUPS.items(),
            "heads": heads,
            "rows": rows,
            "text": "" if group else text,
        }
        return self._context.answer(request, "usage", values)

    def _report(self, words: tuple[str, ...]) -> str:
        """Return what `slurm-tf usage` prints. Raises HTTPException."""
        with self._lock:
            at, text = self._made.get(words, (0.0, ""))
            if at and time.monotonic() - at < _KEPT_SECONDS:
                return text
            argv = [sys.executable, "-m", "slurm_tf", "usage", *words]
            environ = {**os.environ, "COLUMNS": "120", "NO_COLOR": "1"}
            try:
                done = subprocess.run(
                    argv, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace",
                    timeout=_SECONDS, check=False,
                )  # fmt: skip
            except subprocess.TimeoutExpired as error:
                raise HTTPException(
                    HTTPStatus.GATEWAY_TIMEOUT, f"slurm-tf usage did not end in {_SECONDS:.0f} s: ask for fewer days"
                ) from error
            if done.returncode:
                raise HTTPException(HTTPStatus.BAD_GATEWAY, done.stderr.strip() or "slurm-tf usage did not say why")
            self._made = {words: (time.monotonic(), done.stdout)}
            return done.stdout
