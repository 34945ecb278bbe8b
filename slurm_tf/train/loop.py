"""A training loop of the program's own, under any strategy: a chunk of steps at a time."""

import functools
from typing import Any, Callable, Dict, Iterator, List, Optional

import tensorflow as tf

from slurm_tf.train import allreduce, replicas
from slurm_tf.train.batches import Batches

# What one step returns: named scalars.
Logs = Dict[str, Any]


class Steps:
    """Runs steps in this process: all strategies but ps."""

    def __init__(
        self,
        step: Callable[[Any], Logs],
        data: tf.data.Dataset,
        batches: List[Batches],
        collective: allreduce.Collective,
        strategy: tf.distribute.Strategy,
        check: replicas.Check,
    ) -> None:
        self._check = check
        self._batches, self._collective = batches, collective
        self._data, self._step = data, tf.function(step)
        if isinstance(strategy, tf.distribute.MirroredStrategy):
            self._data = strategy.experimental_distribute_dataset(data)
            self._step = tf.function(functools.partial(_mirrored, strategy, step))
        self._iterator: Optional[Iterator[Any]] = None

    def run(self, first: int, count: int) -> Dict[str, float]:
        """Run `count` steps, of which the first is number `first`; return the mean of each log over steps and tasks."""
        every: List[Logs] = []
        for index in range(count):
            every.append(self._step(self._next(first + index)))
            self._check.step()
        names = sorted(every[0])
        means = [tf.reduce_mean([tf.cast(logs[name], tf.float32) for logs in every]) for name in names]
        return {name: float(mean) for name, mean in zip(names, self._collective.mean(means))}

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

    def __init__(self, step: Callable[[Any], Logs], data: Any, coordinator: Any) -> None:
        self._coordinator, self._data = coordinator, data

        def one(iterator: Any) -> Logs:
            logs: Logs = coordinator.strategy.run(step, args=(next(iterator),))
            return logs

        self._step = tf.function(one)

    def run(self, first: int, count: int) -> Dict[str, float]:  # noqa: ARG002 - as Steps
        """Have `count` steps run, in no order; return the mean of each log."""
        results = [self._coordinator.schedule(self._step, args=(self._data,)) for _ in range(count)]
        self._coordinator.join()
        every = [result.fetch() for result in results]
        return {name: sum(float(logs[name]) for logs in every) / count for name in sorted(every[0])}
