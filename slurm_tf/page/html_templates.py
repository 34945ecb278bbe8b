"""Fills the templates of the page: all text is escaped, and every form has the token of its session."""

import time
from collections.abc import Mapping
from pathlib import Path

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse

from slurm_tf.page.guards import FORM_TOKEN
from slurm_tf.page.sessions import Sessions
from slurm_tf.plots import charts

_HERE = Path(__file__).parent


class HtmlTemplates:
    """The templates of this folder."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader([_HERE, Path(charts.__file__).parent]), autoescape=True,
            undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True, auto_reload=False,
        )  # fmt: skip
        self._environment.filters["clock"] = _clock

    def answer(self, request: Request, name: str, values: Mapping[str, object], status: int = 200) -> HTMLResponse:
        """Return the page that the template NAME.html.j2 makes of `values`."""
        cookie = request.state.cookie
        text = self._environment.get_template(f"{name}.html.j2").render(
            {
                **values,
                "root": request.scope["root_path"],
                "here": request.url.path,
                "note": self._sessions.take_note(cookie),
                "token_field": FORM_TOKEN,
                "token": self._sessions.form_token(cookie),
            }
        )
        return HTMLResponse(text.encode(errors="replace"), status)


def _clock(seconds: float) -> str:
    """Return a time of day, of seconds since the epoch."""
    return time.strftime("%H:%M:%S", time.localtime(seconds))
