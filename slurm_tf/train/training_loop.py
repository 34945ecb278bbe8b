"""A training loop of the program's own, under any strategy: a chunk of steps at a time."""

import functools
import math
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Tuple

import tensorflow as tf

from slurm_tf.train.checkpoint.step_boundary import StepBoundary
from slurm_tf.train.collectives import allreduce, replica_check
from slurm_tf.train.data.batches import Batches

# What one step returns: named scalars.
Logs = Dict[str, Any]
_CLOSURES = 4


class Steps:
    """Runs steps in this process: all strategies but ps."""

    def __init__(
        self,
        step: Callable[[Any], Logs],
        data: tf.data.Dataset,
        batches: List[Batches],
        collective: allreduce.Collective,
        strategy: tf.distribute.Strategy,
        check: replica_check.ReplicaCheck,
        boundary: StepBoundary,
    ) -> None:
        self._check, self._boundary = check, boundary
        self._batches, self._collective = batches, collective
        self._data, self._step = data, tf.function(step)
        if isinstance(strategy, tf.distribute.MirroredStrategy):
            self._data = strategy.experimental_distribute_dataset(data)
            self._step = tf.function(functools.partial(_mirrored, strategy, step))
        self._iterator: Optional[Iterator[Any]] = None

    def run(self, done: int, until: int, last: int) -> Tuple[int, Dict[str, float]]:
        """Run the steps from `done` to `until`, of `last` in all; return `until`, and the mean of each log."""
        every: List[Logs] = []
        for step in range(done, until):
            every.append(self._step(self._next(step)))
            self._check.step()
            self._boundary.reached(step + 1, step + 1 == last)
        names = sorted(every[0])
        means = [tf.reduce_mean([tf.cast(logs[name], tf.float32) for logs in every]) for name in names]
        return until, {name: float(mean) for name, mean in zip(names, self._collective.mean(means))}

    def _next(self, step: int) -> Any:
        """Return the batch of `step`; data that ends is begun again."""
        if self._iterator is not None:
            for batch in self._iterator:
                return batch
        for batches in self._batches:
            batches.step = step
        self._iterator = iter(self._data)
        return next(self._iterator)


def _mirrored(strategy: tf.distribute.Strategy, step: Callable[[Any], Logs], batch: Any) -> Logs:
    logs = strategy.run(step, args=(batch,))
    return {name: strategy.reduce("MEAN", value, axis=None) for name, value in logs.items()}


class Closures:
    """Has workers run steps: strategy ps. A step whose worker dies is run again by another."""

    def __init__(
        self, step: Callable[[Any], Logs], data: Any, coordinator: Any, workers: int, boundary: StepBoundary
    ) -> None:
        self._coordinator, self._data, self._boundary = coordinator, data, boundary
        # enough for every worker to have its next one at hand, few enough to be done soon after an interruption
        self._at_once = _CLOSURES * workers

        def one(iterator: Any) -> Logs:
            logs: Logs = coordinator.strategy.run(step, args=(next(iterator),))
            return logs

        self._step = tf.function(one)
        self._names: List[str] = []

    def run(self, done: int, until: int, last: int) -> Tuple[int, Dict[str, float]]:
        """Have the steps from `done` to `until` run, in no order; return how many are done, and the mean of each log.

        Fewer after an interruption, which is seen to here: it does not return then. NaN where all logs are lost.
        """
        waiting: Deque[Any] = deque()
        every: List[Logs] = []
        while done + len(waiting) < until and not self._boundary.is_interrupted:
            waiting.append(self._coordinator.schedule(self._step, args=(self._data,)))
            if len(waiting) == self._at_once:
                every += _fetched(waiting.popleft())
                done += 1
                # or it would say at an interruption that there is nothing to save
                self._boundary.step = done
                self._boundary.beat(done)
        self._coordinator.join()
        every += [logs for result in waiting for logs in _fetched(result)]
        done += len(waiting)
        self._boundary.reached(done, done == last)
        self._names = sorted(every[0]) if every else self._names
        count = len(every) or math.nan
        return done, {name: sum(float(logs[name]) for logs in every) / count for name in self._names}


def _fetched(result: Any) -> List[Logs]:
    """Return the logs of one step, none if they are lost.

    The worker that did the step keeps them, and may have died since (TensorFlow 2.21). The step counts all the same:
    what it changed is on the parameter servers. If it is one of those that is gone, the next step tells.
    """
    try:
        return [result.fetch()]
    except tf.errors.UnavailableError:
        return []
