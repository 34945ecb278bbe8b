"""Every threat to a page that others met: refused by one guard, and let through where this guard is taken out."""

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode

import pytest
from starlette.types import Message, Receive, Scope, Send

from slurm_tf.page import guards
from slurm_tf.page.guards import FORM_TOKEN, UPLOADS, Guards
from slurm_tf.page.sessions import Sessions
from tests.page.running_page import BOUNDARY, multipart

HOST = "localhost:8080"
OWN = {"host": HOST, "origin": f"http://{HOST}", "content-type": "application/x-www-form-urlencoded"}


async def view(_: Scope, __: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"a secret of the user"})


class Asked:
    """The guards before one view, and a browser that has opened the page."""

    def __init__(self) -> None:
        self.sessions = Sessions()
        self.guards = Guards(view, self.sessions)
        cookie = self.sessions.redeem(self.sessions.new_link())
        assert cookie
        self.cookie = cookie

    def ask(
        self, method: str, path: str, headers: Mapping[str, str] = {}, body: bytes = b"", cookie: str | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """Return the status, headers and body of the answer."""
        sent: list[Message] = []

        async def receive() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def send(message: Message) -> None:
            sent.append(message)

        path, _, query = path.partition("?")
        known = {"host": HOST, "cookie": f"slurm-tf={self.cookie if cookie is None else cookie}", **headers}
        scope = {
            "type": "http", "method": method, "path": path, "query_string": query.encode(), "root_path": "",
            "scheme": "http", "headers": [(name.encode(), text.encode()) for name, text in known.items() if text],
        }  # fmt: skip
        asyncio.run(self.guards(scope, receive, send))
        names = {name.decode(): text.decode() for name, text in sent[0]["headers"]}
        return sent[0]["status"], names, b"".join(each.get("body", b"") for each in sent[1:])

    def get(self, **headers: str) -> int:
        """Ask for the view; return the status."""
        return self.ask("GET", f"{self.guards.prefix}/", headers)[0]

    def post(self, token: str | None = None, more: str = "", **headers: str) -> int:
        """Send a form, with a further field; return the status."""
        fields = {FORM_TOKEN: self.sessions.form_token(self.cookie) if token is None else token, "more": more}
        return self.ask("POST", f"{self.guards.prefix}/", {**OWN, **headers}, urlencode(fields).encode())[0]

    def upload(self, token: str | None = None, path: str = UPLOADS, more: str = "", content: bytes = b"1") -> int:
        """Send a form with a file; return the status."""
        fields = {FORM_TOKEN: self.sessions.form_token(self.cookie) if token is None else token, "more": more}
        headers = {**OWN, "content-type": f"multipart/form-data; boundary={BOUNDARY}"}
        return self.ask("POST", f"{self.guards.prefix}{path}", headers, multipart(fields, "a.png", content))[0]

    def view(self, cookie: str) -> int:
        """Ask for the view with a cookie; return the status."""
        return self.ask("GET", f"{self.guards.prefix}/", cookie=cookie)[0]

    def send(self, method: str, body: bytes) -> int:
        """Send these bytes; return the status."""
        return self.ask(method, f"{self.guards.prefix}/", OWN, body)[0]

    def other_session(self) -> str:
        """Return the cookie of another browser."""
        cookie = self.sessions.redeem(self.sessions.new_link())
        assert cookie
        return cookie


@dataclass(frozen=True)
class Threat:
    """A request that one guard alone refuses with `status`. `guard`: where it is, and its name."""

    guard: tuple[object, str]
    status: int
    ask: Callable[[Asked], int]


HOSTS, ORIGINS = (guards, "_host_refusal"), (guards, "_origin_refusal")
COOKIES, TOKENS, PATHS = (Guards, "_cookie_refusal"), (Guards, "_token_refusal"), (Guards, "_path_refusal")
FORMS, TEXTS = (Guards, "_form_refusal"), (guards, "_text_refusal")
PART = f'\r\n--{BOUNDARY}\r\nContent-Disposition: form-data; name="a"\r\n\r\n'.encode()
THREATS = {
    # jupyter/help#138, ray-project/ray#5888
    "another user reaches the port": Threat(COOKIES, 401, lambda to: to.view(cookie="")),
    "a cookie is guessed": Threat(COOKIES, 401, lambda to: to.view(cookie="a" * 43)),
    # LiberTEM/LiberTEM#1097: a browser sends a cookie for / to every port of a host
    "the address is known but for its word": Threat(PATHS, 404, lambda to: to.ask("GET", "/")[0]),
    # jupyter/notebook#3714
    "a name of another site resolves to this machine": Threat(HOSTS, 421, lambda to: to.get(host="evil.example")),
    "a name that begins as ours": Threat(HOSTS, 421, lambda to: to.get(host="localhost.evil.example:8080")),
    "no host": Threat(HOSTS, 421, lambda to: to.get(host="")),
    # mlflow/mlflow#23500, OSC/ondemand#1306
    "a form of another site": Threat(ORIGINS, 403, lambda to: to.post(origin="https://evil.example")),
    "a form of another port of this host": Threat(ORIGINS, 403, lambda to: to.post(origin="http://localhost:8081")),
    "a form of a page without an origin": Threat(ORIGINS, 403, lambda to: to.post(origin="null")),
    "a form that does not say of which site it is": Threat(ORIGINS, 403, lambda to: to.post(origin="")),
    "another site embeds a view": Threat(ORIGINS, 403, lambda to: to.get(**{"sec-fetch-site": "cross-site"})),
    "another port embeds a view": Threat(ORIGINS, 403, lambda to: to.get(**{"sec-fetch-site": "same-site"})),
    "a form without the token": Threat(TOKENS, 403, lambda to: to.post(token="")),
    "a form with another session's token": Threat(
        TOKENS, 403, lambda to: to.post(token=to.sessions.form_token(to.other_session()))
    ),
    "a form as another site may send it without asking": Threat(
        FORMS, 415, lambda to: to.post(**{"content-type": "text/plain"})
    ),
    "a method that is none of ours": Threat(FORMS, 415, lambda to: to.send("DELETE", b"")),
    "a form that fills the memory": Threat(FORMS, 413, lambda to: to.send("POST", b"a" * (1 << 16 | 1))),
    "a form of very many fields": Threat(FORMS, 400, lambda to: to.send("POST", b"a=1&" * 1000)),
    "an upload without the token": Threat(TOKENS, 403, lambda to: to.upload(token="")),
    "an upload with another session's token": Threat(
        TOKENS, 403, lambda to: to.upload(token=to.sessions.form_token(to.other_session()))
    ),
    "an upload that fills the memory": Threat(FORMS, 413, lambda to: to.upload(content=bytes(8 << 20))),
    "an upload to a view that takes no files": Threat(FORMS, 415, lambda to: to.upload(path="/")),
    "an upload of very many parts": Threat(FORMS, 400, lambda to: to.upload(content=PART * 500)),
    "an upload with a NUL": Threat(TEXTS, 400, lambda to: to.upload(more="x\0")),
    "an address with a NUL": Threat(TEXTS, 400, lambda to: to.ask("GET", f"{to.guards.prefix}/?folder=%00")[0]),
    "a form with a NUL": Threat(TEXTS, 400, lambda to: to.post(more="x\0")),
    "a form that is no text": Threat(FORMS, 400, lambda to: to.send("POST", b"a=%ff")),
}


@pytest.mark.parametrize("name", THREATS)
def test_a_threat_is_refused_by_its_guard_and_by_no_other(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    threat = THREATS[name]
    asked = Asked()
    assert threat.ask(asked) == threat.status
    where, guard = threat.guard

    async def nothing(*_: object) -> None:
        return None

    monkeypatch.setattr(where, guard, nothing if guard == "_form_refusal" else lambda *_: None)
    assert threat.ask(asked) == 200


def test_what_may_pass() -> None:
    asked = Asked()
    assert asked.get() == asked.get(host="127.0.0.1:9000") == asked.get(host="[::1]:80") == asked.post() == 200
    assert asked.get(**{"sec-fetch-site": "same-origin"}) == asked.get(**{"sec-fetch-site": "none"}) == 200
    # through a tunnel whose near end is another port
    assert asked.post(host="localhost:9000", origin="http://localhost:9000") == 200
    assert asked.upload(content=bytes(7 << 20)) == 200


def test_a_refusal_says_nothing_of_the_user() -> None:
    asked = Asked()
    for headers, cookie in (({}, ""), ({"host": "evil.example"}, None), ({"origin": "http://evil"}, None)):
        _, _, body = asked.ask("GET", f"{asked.guards.prefix}/", headers, cookie=cookie)
        assert b"secret" not in body
        assert asked.cookie.encode() not in body


def test_every_answer_has_the_headers_that_keep_others_out() -> None:
    asked = Asked()
    for path, cookie in ((f"{asked.guards.prefix}/", None), ("/", ""), (f"{asked.guards.prefix}/open?link=x", "")):
        headers = asked.ask("GET", path, cookie=cookie)[1]
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy
        assert headers["cache-control"] == "no-store"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "same-origin"


def opened(asked: Asked, token: str, method: str = "GET", **headers: str) -> tuple[int, str]:
    """Use a link; return the status, and the cookie that is set."""
    status, names, _ = asked.ask(method, f"{asked.guards.prefix}/open?link={token}", headers, cookie="")
    return status, names.get("set-cookie", "")


def test_a_link_opens_the_page_once() -> None:
    asked = Asked()
    link = asked.sessions.new_link()
    assert opened(asked, "wrong") == (403, "")
    assert opened(asked, "") == (403, "")
    status, cookie = opened(asked, link)
    assert status == 200
    parts = dict.fromkeys(cookie.split("; "))
    name, _, value = next(iter(parts)).partition("=")
    assert name == "slurm-tf"
    # not for a script, another site, or another path: a server on another port does not get it
    assert [*parts][1:] == ["HttpOnly", f"Path={asked.guards.prefix}/", "SameSite=strict"]
    assert asked.ask("GET", f"{asked.guards.prefix}/", cookie=value)[0] == 200
    assert opened(asked, link) == (403, "")


def test_a_link_is_good_for_its_user_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = Asked()
    first, link = asked.sessions.new_link(), asked.sessions.new_link()
    assert opened(asked, first) == (403, "")
    assert opened(asked, link, host="evil.example") == (421, "")
    # a browser that loads what its user may click next, or one that only looks
    assert opened(asked, link, **{"sec-purpose": "prefetch"}) == (403, "")
    assert opened(asked, link, method="HEAD")[1] == ""
    monkeypatch.setattr(time, "monotonic", lambda: 1e9)
    assert opened(asked, link) == (403, "")


def test_a_session_ends_when_its_browser_is_silent_and_there_are_few(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    asked = Asked()
    now[0] += 12 * 3600
    assert asked.get() == 200
    now[0] += 12 * 3600 + 1
    assert asked.get() == 401
    cookies = []
    for _ in range(20):
        now[0] += 1
        cookies.append(asked.other_session())
    assert [asked.sessions.is_open(each) for each in cookies] == [False] * 4 + [True] * 16


def test_a_note_is_shown_once_and_to_its_session_alone() -> None:
    asked = Asked()
    other = asked.other_session()
    asked.sessions.put_note(asked.cookie, "done")
    assert (asked.sessions.take_note(other), asked.sessions.take_note(asked.cookie)) == ("", "done")
    assert asked.sessions.take_note(asked.cookie) == ""
