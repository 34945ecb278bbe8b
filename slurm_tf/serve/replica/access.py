"""The token of a replica: who does not name it is refused before anything of the request is read."""

import hmac
from typing import Optional, Union

from slurm_tf.serve.replica.request_error import Code, RequestError

HEADER = "authorization"
_SCHEME = b"bearer "


class Access:
    """Checks the header "authorization: Bearer TOKEN". `token`: None lets everybody in."""

    def __init__(self, token: Optional[bytes]) -> None:
        self._token = token

    def check(self, header: Union[str, bytes, None]) -> None:
        """Raise RequestError for a request whose header does not name the token; None: it has no such header."""
        if self._token is None:
            return
        given = header.encode("utf-8", "replace") if isinstance(header, str) else header or b""
        if given[: len(_SCHEME)].lower() != _SCHEME or not hmac.compare_digest(given[len(_SCHEME) :], self._token):
            raise RequestError(Code.UNAUTHENTICATED, "needed the model's token: authorization: Bearer TOKEN")
