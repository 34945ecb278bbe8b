"""Authenticates a connection between two sides of a job: mutual proof of the job's secret, then signed messages.

No I/O: bytes come in by `receive`, go out through `outgoing`. The secret itself is never sent. Each side proves that it
knows it by an HMAC over both sides' nonces; every later message carries an HMAC under a key of this connection, with
its number, so nothing can be put in, replayed or reordered. Contents are not encrypted: they are addresses and states.
What a message holds is not looked at here (launch/transport/messages.py).
"""

import hashlib
import hmac
import json
import os
import struct
from typing import Any, Dict, List

from slurm_tf.errors import AuthenticationError
from slurm_tf.run.version import VERSION, check_version

COORDINATOR, AGENT = "coordinator", "agent"
_NONCE = 32
_MAC = hashlib.sha256().digest_size
_LENGTH = struct.Struct(">I")
# A stranger may make us keep this much, no more.
_LIMIT_BEFORE = 1024
# A cluster of EXECVE_LIMIT fits many times over.
_LIMIT_AFTER = 1 << 24


class Conversation:
    """One side of a connection. `authenticated`: the other side has proved that it knows the secret.

    `outgoing`: bytes that are to be sent.
    """

    def __init__(self, secret: bytes, side: str) -> None:
        self.authenticated = False
        self.outgoing = bytearray()
        self._secret, self._side = secret, side
        self._other = AGENT if side == COORDINATOR else COORDINATOR
        self._nonce = os.urandom(_NONCE).hex()
        self._nonces = ""
        self._incoming = bytearray()
        self._sent = self._received = 0
        if side == COORDINATOR:
            self._send_handshake({"slurm-tf": VERSION, "nonce": self._nonce})

    def send(self, body: bytes) -> None:
        """Sign a message and add it to `outgoing`; the handshake must be over."""
        if not self.authenticated:
            raise AssertionError("message before the handshake")
        self._put(body + self._mac(self._side, self._sent, body))
        self._sent += 1

    def receive(self, data: bytes) -> List[bytes]:
        """Add what the connection brought; return the messages that it completes.

        Raises AuthenticationError for anything that the other side of this job would not send.
        """
        self._incoming += data
        messages = []
        while len(self._incoming) >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._incoming)
            if length > (_LIMIT_AFTER if self.authenticated else _LIMIT_BEFORE):
                raise self._refusal(f"a message of {length} bytes came")
            if len(self._incoming) < _LENGTH.size + length:
                break
            frame = bytes(self._incoming[_LENGTH.size : _LENGTH.size + length])
            del self._incoming[: _LENGTH.size + length]
            if self.authenticated:
                messages.append(self._open(frame))
            else:
                self._shake_hands(self._handshake(frame))
        return messages

    def _shake_hands(self, message: Dict[str, Any]) -> None:
        """coordinator: version and nonce; agent: nonce and proof; coordinator: proof."""
        if self._side == COORDINATOR:
            self._nonces = self._nonce + self._text(message, "nonce")
            self._check_proof(message)
            self._send_handshake({"proof": self._proof(self._side)})
        elif not self._nonces:
            check_version(message.get("slurm-tf"), "the coordinator")
            self._nonces = self._text(message, "nonce") + self._nonce
            self._send_handshake({"nonce": self._nonce, "proof": self._proof(self._side)})
            return
        else:
            self._check_proof(message)
        self.authenticated = True

    def _check_proof(self, message: Dict[str, Any]) -> None:
        if not hmac.compare_digest(self._text(message, "proof").encode(), self._proof(self._other).encode()):
            raise self._refusal("a proof of the secret came that is wrong")

    def _proof(self, side: str) -> str:
        return hmac.new(self._secret, f"proof {side} {self._nonces}".encode(), hashlib.sha256).hexdigest()

    def _mac(self, side: str, number: int, body: bytes) -> bytes:
        head = f"message {side} {self._nonces} {number} ".encode()
        return hmac.new(self._secret, head + body, hashlib.sha256).digest()

    def _open(self, frame: bytes) -> bytes:
        body, mac = frame[:-_MAC], frame[-_MAC:]
        if not hmac.compare_digest(mac, self._mac(self._other, self._received, body)):
            raise self._refusal("a message came whose signature is wrong")
        self._received += 1
        return body

    def _handshake(self, body: bytes) -> Dict[str, Any]:
        try:
            message = json.loads(body)
        except (ValueError, RecursionError):  # a stranger may send a thousand brackets
            message = None
        if not isinstance(message, dict):
            raise self._refusal("something came that is no handshake of slurm-tf")
        return message

    def _text(self, message: Dict[str, Any], key: str) -> str:
        value = message.get(key)
        if not isinstance(value, str) or not value.isascii():
            raise self._refusal(f"a handshake came without {key}")
        return value

    def _send_handshake(self, message: Dict[str, Any]) -> None:
        self._put(json.dumps(message, separators=(",", ":")).encode())

    def _put(self, frame: bytes) -> None:
        self.outgoing += _LENGTH.pack(len(frame)) + frame

    def _refusal(self, found: str) -> AuthenticationError:
        return AuthenticationError(found, f"proof that the {self._other} knows this job's secret")
