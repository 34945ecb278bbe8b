"""What every request passes before any view: its host, path, origin, cookie, and the token of its form.

The address begins with a random word, as a browser sends a cookie to every port of a host: the cookie is for paths
below this word alone, which a server of another user on another port does not know.
"""

import secrets
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import parse_qs

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from slurm_tf.page import multipart_form
from slurm_tf.page.multipart_form import MultipartForm
from slurm_tf.page.sessions import Sessions

COOKIE = "slurm-tf"
FORM_TOKEN = "form_token"  # noqa: S105 - the name of a field
OPEN = "/open"
# The names by which a browser reaches this machine, or the end of a tunnel: another name, or another site's, is of a
# site that has its own name resolve to this machine (DNS rebinding).
_HOSTS = ("localhost", "127.0.0.1", "[::1]")
_READS = ("GET", "HEAD")
_MOST_FORM_BYTES, _MOST_FORM_FIELDS = 1 << 16, 500
# Files may be sent to views whose address ends so.
UPLOADS, _MOST_UPLOAD_BYTES = "/try", 8 << 20
_FIELDS, _FILES = "application/x-www-form-urlencoded", "multipart/form-data"
_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    # with "no-referrer" a browser would say of its own forms that their origin is null
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
# It has a browser go on by itself: a cookie with SameSite=Strict is not sent after a redirect from another site.
_OPENED = (
    '<!DOCTYPE html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="0; url=./">'
    '<link rel="icon" href="static/icon.svg"><title>slurm-tf</title><p><a href="./">Go on</a></p></html>'
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused, in words, and the status of HTTP."""

    status: HTTPStatus
    words: str


class Guards:
    """Answers requests that may not pass, and hands all others to `app`, without the word that the address begins with.

    A view finds the cookie in `request.state.cookie`, the fields of a form in `request.state.form`, and the files that
    were uploaded in `request.state.files`.
    """

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        self._app, self._sessions = app, sessions
        self.prefix = f"/{secrets.token_hex(8)}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        answer = self._opened(scope) or await self._refused(scope, receive)
        if answer is None:
            passed = {**scope, "root_path": self.prefix}
            await self._app(passed, receive, _with_headers(send))
        else:
            await answer(scope, receive, _with_headers(send))

    def _opened(self, scope: Scope) -> Response | None:
        """Return the answer to a link, which sets the cookie if it is good; None for any other request."""
        request = Request(scope)
        if scope["path"] != f"{self.prefix}{OPEN}" or _host_refusal(request.headers) or scope["method"] != "GET":
            return None
        if request.headers.get("sec-purpose", ""):
            return _answer(Refusal(HTTPStatus.FORBIDDEN, "a browser may not open the link before its user does"))
        cookie = self._sessions.redeem(request.query_params.get("link", ""))
        if cookie is None:
            return _answer(Refusal(HTTPStatus.FORBIDDEN, "this link was used, or is older than ten minutes"))
        answer = HTMLResponse(_OPENED)
        answer.set_cookie(COOKIE, cookie, path=f"{self.prefix}/", httponly=True, samesite="strict")
        return answer

    async def _refused(self, scope: Scope, receive: Receive) -> Response | None:
        """Return the answer to a request that may not pass, None for one that may."""
        request = Request(scope, receive)
        cookie = request.cookies.get(COOKIE, "")
        refusal = _host_refusal(request.headers) or self._path_refusal(scope) or self._cookie_refusal(cookie)
        refusal = refusal or _origin_refusal(request) or _text_refusal(scope["path"], *request.query_params.values())
        scope.setdefault("state", {}).update(cookie=cookie, form={}, files={})
        if refusal is None and request.method not in _READS:
            refusal = await self._form_refusal(request, cookie)
        return None if refusal is None else _answer(refusal)

    def _path_refusal(self, scope: Scope) -> Refusal | None:
        if scope["path"].startswith(f"{self.prefix}/"):
            return None
        return Refusal(HTTPStatus.NOT_FOUND, "there is nothing here")

    def _cookie_refusal(self, cookie: str) -> Refusal | None:
        if self._sessions.is_open(cookie):
            return None
        return Refusal(
            HTTPStatus.UNAUTHORIZED,
            "this browser has not opened the page, or asked for nothing in 12 hours; where slurm-tf page runs, Enter "
            "prints a link that opens it",
        )

    async def _form_refusal(self, request: Request, cookie: str) -> Refusal | None:
        """Read a form into the state of the request; return why it is refused."""
        kind = request.headers.get("content-type", "")
        most = _most_bytes(request.method, request.scope["path"], kind)
        if not most:
            return Refusal(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "needed a POST with the fields of a form")
        body = bytearray()
        async for part in request.stream():
            body += part
            if len(body) > most:
                return Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"needed at most {most} bytes")
        try:
            form = _form(kind, body)
        except ValueError:
            return Refusal(HTTPStatus.BAD_REQUEST, "these are no fields of a form")
        fields = {name: text for name, text in form.fields.items() if name != FORM_TOKEN}
        request.scope["state"].update(form=fields, files=form.files)
        return _text_refusal(*fields.values()) or self._token_refusal(cookie, form.fields.get(FORM_TOKEN, ""))

    def _token_refusal(self, cookie: str, token: str) -> Refusal | None:
        if self._sessions.is_form_token(cookie, token):
            return None
        return Refusal(HTTPStatus.FORBIDDEN, "the form is of another session: load the page again")


def _most_bytes(method: str, path: str, kind: str) -> int:
    """Return how many bytes a form of this kind may have at an address, 0 where it may be none."""
    media_type = kind.partition(";")[0].strip().lower()
    if method == "POST" and media_type == _FIELDS:
        return _MOST_FORM_BYTES
    return _MOST_UPLOAD_BYTES if method == "POST" and media_type == _FILES and path.endswith(UPLOADS) else 0


def _form(kind: str, body: bytearray) -> MultipartForm:
    """Return the fields and files of a form. Raises ValueError."""
    if kind.lower().startswith(_FILES):
        return multipart_form.parse(kind, body, _MOST_FORM_FIELDS)
    fields = parse_qs(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=_MOST_FORM_FIELDS)
    return MultipartForm({name: values[-1] for name, values in fields.items()}, {})


def _host_refusal(headers: Headers) -> Refusal | None:
    name, _, port = headers.get("host", "").rpartition(":")
    is_local = name in _HOSTS if port.isdigit() else headers.get("host") in _HOSTS
    if is_local and len(headers.getlist("host")) == 1:
        return None
    return Refusal(HTTPStatus.MISDIRECTED_REQUEST, f"needed the address http://localhost, or one of {_HOSTS}")


def _text_refusal(*texts: str) -> Refusal | None:
    """Refuse what no path, name or number can have, and functions of the operating system raise ValueError for."""
    if not any("\0" in text for text in texts):
        return None
    return Refusal(HTTPStatus.BAD_REQUEST, "found the character NUL; needed text")


def _origin_refusal(request: Request) -> Refusal | None:
    """Refuse what another site, or another port of this host, has a browser ask for."""
    own = f"http://{request.headers.get('host', '')}"
    origin, site = request.headers.get("origin"), request.headers.get("sec-fetch-site", "none")
    is_own = origin == own or (origin is None and request.method in _READS)
    if is_own and site in ("same-origin", "none"):
        return None
    return Refusal(HTTPStatus.FORBIDDEN, "another site asks for this")


def _answer(refusal: Refusal) -> Response:
    text = f"slurm-tf: {refusal.words}\n"
    return Response(text, refusal.status, {"connection": "close"}, media_type="text/plain")


def _with_headers(send: Send) -> Send:
    """Return `send` with the headers that every answer has; a view may set its own cache-control."""

    async def add(message: Message) -> None:
        if message["type"] == "http.response.start":
            set_here = {name for name, _ in message["headers"]}
            missing = [(name.encode(), text.encode()) for name, text in _HEADERS.items()]
            message["headers"] = [*message["headers"], *(each for each in missing if each[0] not in set_here)]
        await send(message)

    return add
