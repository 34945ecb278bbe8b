"""Sees which replicas of a service live, by their endpoint files, whatever their nodes' clocks say. Python 3.9."""

import os
import time
from dataclasses import dataclass
from typing import Callable, Dict, Optional, Tuple

from slurm_tf import files
from slurm_tf.errors import ModelError, RunError
from slurm_tf.serve import endpoint
from slurm_tf.serve.endpoint import STALE_SECONDS, Endpoint

# How often the folder is read, at most.
_LOOK_SECONDS = 0.5
# How long a replica that could not be reached gets no request; its file may be of before it died.
_AVOID_SECONDS = 3.0


@dataclass
class _Seen:
    """A file as it was read last. `at`: when it was seen to change (time.monotonic), None where it has not for long.

    `avoid`: until when the replica gets no request.
    """

    endpoint: Endpoint
    at: Optional[float]
    avoid: float = 0.0


class ReplicaWatch:
    """The replicas of a service. A replica lives while its file is there and changes.

    One whose file is found for the first time lives if that is as new as it says, else once the file changes: a node's
    clock may be wrong. `gone`: the replicas that stopped to renew their files since it was asked.
    """

    def __init__(self, folder: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`folder`: of the endpoint files. `clock`: as time.monotonic."""
        self._folder, self._clock = folder, clock
        self._seen: Dict[str, _Seen] = {}
        self._looked = -_LOOK_SECONDS
        self._gone: Tuple[Endpoint, ...] = ()

    def living(self) -> Tuple[Endpoint, ...]:
        """Return the replicas that live, the oldest first. Raises ModelError for a folder that others can change."""
        self._look()
        found = [each.endpoint for each in self._seen.values() if each.at is not None]
        return tuple(sorted(found, key=lambda each: each.started))

    def usable(self) -> Tuple[Endpoint, ...]:
        """Return the replicas that live, without those that could not be reached a moment ago. Raises ModelError."""
        now = self._clock()
        return tuple(each for each in self.living() if self._seen[each.replica].avoid <= now)

    def lost(self, replica: Endpoint) -> None:
        """Record that a replica could not be reached."""
        if replica.replica in self._seen:
            self._seen[replica.replica].avoid = self._clock() + _AVOID_SECONDS

    def gone(self) -> Tuple[Endpoint, ...]:
        """Return the replicas that have stopped to renew their files since this was asked last."""
        self._look()
        found, self._gone = self._gone, ()
        return found

    def _look(self) -> None:
        now = self._clock()
        if now - self._looked < _LOOK_SECONDS:
            return
        self._looked = now
        read = {each.replica: each for each in _read(self._folder)}
        self._seen = {name: known for name, known in self._seen.items() if name in read}
        for name, found in read.items():
            self._update(name, found, now)

    def _update(self, name: str, found: Endpoint, now: float) -> None:
        known = self._seen.get(name)
        if known is None:
            self._seen[name] = _Seen(found, now if abs(time.time() - found.written) <= STALE_SECONDS else None)
        elif found != known.endpoint:
            known.endpoint, known.at = found, now
        elif known.at is not None and now - known.at > STALE_SECONDS:
            known.at = None
            self._gone += (found,)


def _read(folder: str) -> Tuple[Endpoint, ...]:
    """Return all endpoint files of a folder, also old ones. Raises ModelError for a folder that others can change."""
    try:
        files.check_own(folder, sticky=False)
        names = os.listdir(folder)
    except FileNotFoundError:
        return ()
    except RunError as error:
        raise ModelError(error.found, error.needed, error.do) from error
    found = []
    for name in names:
        if name.endswith(endpoint.SUFFIX) and not name.startswith("."):
            try:
                found.append(endpoint.read(os.path.join(folder, name)))
            except (ModelError, OSError):  # gone meanwhile, or of another release: it gets no request
                continue
    return tuple(found)
