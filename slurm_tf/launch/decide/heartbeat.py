"""Finds out whether a coordinator still answers: the kernel of its node does not tell if it is stopped. No I/O."""

from enum import Enum
from typing import Optional

# The other side is gone after this many requests in a row without an answer.
_MOST_REQUESTS = 4


class HeartbeatAction(Enum):
    """What is to be done: ask the other side for an answer, or take it for gone."""

    ASK = "ask"
    GIVE_UP = "give up"


class Heartbeat:
    """What one side knows of the other. `wakes_at`: when `due` has something to say."""

    def __init__(self, silence: float, now: float) -> None:
        """`silence`: seconds without a message after which the other side is gone; 0: never."""
        self._pause = silence / (_MOST_REQUESTS + 1)
        self._unanswered = 0
        self.wakes_at: Optional[float] = None
        self.heard(now)

    def heard(self, now: float) -> None:
        """Record that a message of the other side came."""
        self._unanswered = 0
        self.wakes_at = now + self._pause if self._pause else None

    def due(self, now: float) -> Optional[HeartbeatAction]:
        """Return ASK if the other side is to be asked for an answer, GIVE_UP if it was, in vain.

        If this side was stopped, as `scontrol suspend` does, that time counts as one request.
        """
        if self.wakes_at is None or now < self.wakes_at:
            return None
        if self._unanswered == _MOST_REQUESTS:
            self.wakes_at = None
            return HeartbeatAction.GIVE_UP
        self._unanswered += 1
        self.wakes_at = now + self._pause
        return HeartbeatAction.ASK
