"""Who is offered what an admin of Slurm sees and does. Slurm itself decides what its users may."""

import threading
import time

from slurm_tf.errors import SlurmError
from slurm_tf.slurm import associations
from slurm_tf.slurm.associations import AdminLevel

_KEPT_SECONDS = 60.0


class AdminRights:
    """Whether the user is offered it: `is_offered`, or slurmdbd says that the user is an operator."""

    def __init__(self, is_offered: bool) -> None:
        self._is_offered = is_offered
        self._lock = threading.Lock()
        self._asked_at: float | None = None
        self._is_operator = False

    def look(self) -> bool:
        """Return whether the user is offered it; slurmdbd is asked at most once a minute."""
        if self._is_offered:
            return True
        with self._lock:
            if self._asked_at is None or time.monotonic() - self._asked_at > _KEPT_SECONDS:
                self._is_operator, self._asked_at = _is_operator(), time.monotonic()
            return self._is_operator


def _is_operator() -> bool:
    try:
        return any(each.level is not AdminLevel.NONE for each in associations.users(associations.me()))
    except SlurmError:
        return False
