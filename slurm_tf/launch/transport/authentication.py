"""One conversation between a coordinator and an agent: mutual proof of the job's secret, then authenticated messages.

No I/O: bytes come in by `receive`, go out through `outgoing`. The secret itself is never sent. Each side proves that it
knows it by an HMAC over both sides' nonces; every later message carries an HMAC under a key of this conversation, with
its number, so nothing can be put in, replayed or reordered. Contents are not encrypted: they are addresses and states.
"""

import hashlib
import hmac
import json
import os
import struct
from typing import Any, Dict, List

from slurm_tf.errors import AuthenticationError
from slurm_tf.run.version import VERSION, check_version

Message = Dict[str, Any]

COORDINATOR, AGENT = "coordinator", "agent"
_NONCE = 32
_MAC = hashlib.sha256().digest_size
_LENGTH = struct.Struct(">I")
# A stranger may make us keep this much, no more.
_LIMIT_BEFORE = 1024
# A cluster of EXECVE_LIMIT fits many times over.
_LIMIT_AFTER = 1 << 24


class Conversation:
    """One side of a connection. `authenticated` turns true when the other side has proved that it knows the secret."""

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
            self._send_plain({"slurm-tf": VERSION, "nonce": self._nonce})

    def send_packed(self, body: bytes) -> None:
        """Queue a message that `pack` made, which may go to many; the handshake must be over."""
        if not self.authenticated:
            raise AssertionError("message before the handshake")
        self._put(body + self._mac(self._side, self._sent, body))
        self._sent += 1

    def receive(self, data: bytes) -> List[Message]:
        """Take in what the connection brought; return the messages that it completes.

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
                self._shake_hands(self._parse(frame))
        return messages

    def _shake_hands(self, message: Message) -> None:
        """coordinator: version and nonce; agent: nonce and proof; coordinator: proof."""
        if self._side == COORDINATOR:
            self._nonces = self._nonce + self._text(message, "nonce")
            self._check_proof(message)
            self._send_plain({"proof": self._proof(self._side)})
        elif not self._nonces:
            check_version(message.get("slurm-tf"), "the coordinator")
            self._nonces = self._text(message, "nonce") + self._nonce
            self._send_plain({"nonce": self._nonce, "proof": self._proof(self._side)})
            return
        else:
            self._check_proof(message)
        self.authenticated = True

    def _check_proof(self, message: Message) -> None:
        if not hmac.compare_digest(self._text(message, "proof").encode(), self._proof(self._other).encode()):
            raise self._refusal("a proof of the secret came that is wrong")

    def _proof(self, side: str) -> str:
        return hmac.new(self._secret, f"proof {side} {self._nonces}".encode(), hashlib.sha256).hexdigest()

    def _mac(self, side: str, number: int, body: bytes) -> bytes:
        head = f"message {side} {self._nonces} {number} ".encode()
        return hmac.new(self._secret, head + body, hashlib.sha256).digest()

    def _open(self, frame: bytes) -> Message:
        body, mac = frame[:-_MAC], frame[-_MAC:]
        if not hmac.compare_digest(mac, self._mac(self._other, self._received, body)):
            raise self._refusal("a message came whose signature is wrong")
        self._received += 1
        return self._parse(body)

    def _parse(self, body: bytes) -> Message:
        try:
            message = json.loads(body)
        except ValueError:
            message = None
        if not isinstance(message, dict):
            raise self._refusal("something came that is no message of slurm-tf")
        return message

    def _text(self, message: Message, key: str) -> str:
        value = message.get(key)
        if not isinstance(value, str) or not value.isascii():
            raise self._refusal(f"a handshake came without {key}")
        return value

    def _send_plain(self, message: Message) -> None:
        self._put(pack(message))

    def _put(self, frame: bytes) -> None:
        self.outgoing += _LENGTH.pack(len(frame)) + frame

    def _refusal(self, found: str) -> AuthenticationError:
        return AuthenticationError(found, f"proof that the {self._other} knows this job's secret")


def pack(message: Message) -> bytes:
    """Return the bytes of one message."""
    return json.dumps(message, separators=(",", ":")).encode()
