"""Who may use the page: links that open it once, the cookies that they become, and the tokens of its forms."""

import hashlib
import hmac
import secrets
import time

# How long a link that nobody has used opens the page, and how long a browser stays known that asks for nothing.
_LINK_SECONDS, _IDLE_SECONDS = 600.0, 12 * 3600.0
# The browsers that are known at once; a further one takes the place of the one that was silent longest.
_MOST_SESSIONS = 16


class Sessions:
    """The browsers that have opened the page. All of it is in memory: with the process, every cookie ends."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)
        self._link, self._link_until = "", 0.0
        self._seen: dict[str, float] = {}
        self._notes: dict[str, str] = {}

    def new_link(self) -> str:
        """Return the token of a link that opens the page once; an earlier one opens it no more."""
        self._link, self._link_until = secrets.token_urlsafe(32), time.monotonic() + _LINK_SECONDS
        return self._link

    def redeem(self, token: str) -> str | None:
        """Return the cookie of a new session for the token of a link, None unless it is the last one and not used."""
        is_good = bool(self._link) and time.monotonic() < self._link_until
        if not hmac.compare_digest(token.encode(), self._link.encode()) or not is_good:
            return None
        self._link = ""
        if len(self._seen) >= _MOST_SESSIONS:
            self._forget(min(self._seen, key=self._seen.__getitem__))
        cookie = secrets.token_urlsafe(32)
        self._seen[_digest(cookie)] = time.monotonic()
        return cookie

    def is_open(self, cookie: str) -> bool:
        """Return whether a cookie is that of a session."""
        name = _digest(cookie)
        seen = self._seen.get(name)
        if seen is None:
            return False
        if time.monotonic() - seen > _IDLE_SECONDS:
            self._forget(name)
            return False
        self._seen[name] = time.monotonic()
        return True

    def form_token(self, cookie: str) -> str:
        """Return the token that every form of a session holds: another site cannot have a browser send it."""
        return hmac.digest(self._key, cookie.encode(), hashlib.sha256).hex()

    def is_form_token(self, cookie: str, token: str) -> bool:
        """Return whether `token` is that of the session."""
        return hmac.compare_digest(self.form_token(cookie).encode(), token.encode(errors="replace"))

    def put_note(self, cookie: str, text: str) -> None:
        """Keep a line that the next view of the session shows."""
        self._notes[_digest(cookie)] = text

    def take_note(self, cookie: str) -> str:
        """Return the line that is kept, once; "" for none."""
        return self._notes.pop(_digest(cookie), "")

    def _forget(self, name: str) -> None:
        self._seen.pop(name, None)
        self._notes.pop(name, None)


def _digest(cookie: str) -> str:
    """Return the name of a session: a look-up by the cookie itself would take longer for one that is nearly right."""
    return hashlib.sha256(cookie.encode(errors="replace")).hexdigest()
