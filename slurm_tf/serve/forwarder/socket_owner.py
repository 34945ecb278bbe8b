"""Who may ask: whose program is at the other end of a TCP connection on this machine, or what token it names."""

import hmac
import socket
import struct
from pathlib import Path

_TABLES = {socket.AF_INET: "tcp", socket.AF_INET6: "tcp6"}
_ESTABLISHED = "01"


def owner(peer: tuple[str, int], here: tuple[str, int], tables: Path = Path("/proc/net")) -> int | None:
    """Return the user id of the socket that is bound to `peer` and connected to `here`, None where it is not found.

    A socket that its program has closed has no owner any more: the kernel shows user id 0 for it.
    """
    for family, name in _TABLES.items():
        wanted = [_address(family, *each) for each in (peer, here)]
        if None in wanted:
            continue
        try:
            text = (tables / name).read_text(encoding="ascii", errors="replace")
        except OSError:
            continue
        for line in text.splitlines()[1:]:
            fields = line.split()
            if len(fields) > 9 and fields[1:3] == wanted and fields[3] == _ESTABLISHED and fields[9] != "0":
                return int(fields[7])
    return None


def is_token(authorization: str, token: str) -> bool:
    """Whether the value of a header or of metadata, Bearer TOKEN, names the token; never where there is none."""
    scheme, _, secret = authorization.partition(" ")
    is_same = hmac.compare_digest(secret.strip().encode("utf-8", "surrogateescape"), token.encode())
    return bool(token) and scheme.lower() == "bearer" and is_same


def _address(family: int, host: str, port: int) -> str | None:
    """Return an address as the table of `family` has it (proc(5)): words of 32 bits in the machine's byte order."""
    if family == socket.AF_INET6 and ":" not in host:
        host = f"::ffff:{host}"
    try:
        packed = socket.inet_pton(family, host)
    except OSError:
        return None
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words) + f":{port:04X}"
