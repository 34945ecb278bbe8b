"""Spreads requests over the replicas of a service that live, and asks another one where a replica was lost."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from typing import Generic, Protocol, TypeVar

from slurm_tf.serve.endpoint import Endpoint
from slurm_tf.serve.forwarder.upstream import LostError
from slurm_tf.serve.replica_watch import ReplicaWatch

# How often it is looked which replicas live, and for one while a request waits.
_LOOK_SECONDS, _PAUSE_SECONDS = 0.5, 0.1


class NoReplicaError(Exception):
    """No replica lives, or none could be reached, for as long as a request may wait."""


class Connections(Protocol):
    """The connections to one replica. `in_flight`: requests that it has not answered yet."""

    in_flight: int

    async def close(self) -> None:
        """Close the connections; what is under way on them ends with LostError."""


_Kind = TypeVar("_Kind", bound=Connections)
_Answer = TypeVar("_Answer")


class Spread(Generic[_Kind]):
    """The replicas of a service, each with the connections to it."""

    def __init__(self, watch: ReplicaWatch, connect: Callable[[Endpoint], _Kind], hold: float) -> None:
        """`connect`: makes the connections to a replica. `hold`: seconds for which a request waits for a replica."""
        self._watch, self._connect, self._hold = watch, connect, hold
        self._connections: dict[tuple[str, float], _Kind] = {}

    async def ask(
        self,
        model: str,
        is_idempotent: bool,
        send: Callable[[_Kind], Awaitable[_Answer]],
        is_busy: Callable[[_Answer], bool],
    ) -> _Answer:
        """Send a request to the replica with the fewest ones; return its answer.

        `model`: what it asks for, "" for none. A request that no replica has got goes to another one; one that a
        replica may have got, once more and only if it `is_idempotent`; to one on another node, and of another job, if
        there is one, as a node that dies takes both with it. `is_busy`: whether an answer says that another replica
        may do better, which is asked if there is one. Raises LostError, NoReplicaError.
        """
        until, tried, lost, sent = time.monotonic() + self._hold, set[str](), list[Endpoint](), 0
        while True:
            replica = self._choose(model, tried, lost)
            if replica is None:
                if time.monotonic() >= until:
                    raise NoReplicaError
                tried.clear()
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            tried.add(replica.replica)
            try:
                answer = await send(self._of(replica))
            except LostError as error:
                self._watch.lost(replica)
                lost.append(replica)
                sent += error.is_sent
                if error.is_sent and (sent > 1 or not is_idempotent):
                    raise
                continue
            if not is_busy(answer) or self._choose(model, tried, lost) is None:
                return answer

    async def watch(self) -> None:
        """Look which replicas have gone, until cancelled: requests that are under way there are sent to others.

        The connections to a replica that has ended are closed once it has answered what it was asked.
        """
        while True:
            gone, living = ({_key(each) for each in found} for found in (self._watch.gone(), self._watch.living()))
            ended = [key for key, each in self._connections.items() if key not in living and not each.in_flight]
            closing = [self._connections.pop(key) for key in {*gone, *ended} & self._connections.keys()]
            for each in closing:
                await each.close()
            await asyncio.sleep(_LOOK_SECONDS)

    def _choose(self, model: str, tried: set[str], lost: list[Endpoint]) -> Endpoint | None:
        """Return the replica to ask, None for none: one that answers for the model, if there is one."""
        left = [each for each in self._watch.usable() if each.replica not in tried]
        able = [each for each in left if each.answers(model)] or left
        hosts, jobs = {each.host for each in lost}, {each.job for each in lost}

        def rank(replica: Endpoint) -> tuple[bool, bool, int, float]:
            return replica.host in hosts, replica.job in jobs, self._of(replica).in_flight, random.random()

        return min(able, key=rank, default=None)

    def _of(self, replica: Endpoint) -> _Kind:
        key = _key(replica)
        if key not in self._connections:
            self._connections[key] = self._connect(replica)
        return self._connections[key]


def _key(replica: Endpoint) -> tuple[str, float]:
    """Return what tells a replica from one of the same name that was started later."""
    return replica.replica, replica.started
