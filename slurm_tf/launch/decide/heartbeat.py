"""Whether a coordinator still answers, which the kernel of its node does not tell of one that is stopped. No I/O."""

from enum import Enum
from typing import Optional

# So many questions in a row without an answer.
_ASKED = 4


class HeartbeatAction(Enum):
    """What is to be done: ask the other side for an answer, or take it for gone."""

    ASK = "ask"
    GIVE_UP = "give up"


class Heartbeat:
    """One side's view of the other. `wakes_at`: when `due` has something to say."""

    def __init__(self, silence: float, now: float) -> None:
        """`silence`: seconds without a word after which the other side is lost; 0: never."""
        self._pause = silence / (_ASKED + 1)
        self._unanswered = 0
        self.wakes_at: Optional[float] = None
        self.heard(now)

    def heard(self, now: float) -> None:
        """Take in that the other side said something."""
        self._unanswered = 0
        self.wakes_at = now + self._pause if self._pause else None

    def due(self, now: float) -> Optional[HeartbeatAction]:
        """Return ASK if the other side is to be asked for an answer, GIVE_UP if it was, in vain.

        Who was stopped itself, by `scontrol suspend` for one, counts that time once.
        """
        if self.wakes_at is None or now < self.wakes_at:
            return None
        if self._unanswered == _ASKED:
            self.wakes_at = None
            return HeartbeatAction.GIVE_UP
        self._unanswered += 1
        self.wakes_at = now + self._pause
        return HeartbeatAction.ASK
