"""Runs the steps of `run.loop`: in lockstep with other tasks, or by the workers of strategy ps."""

import functools
import math
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Tuple

import tensorflow as tf

from slurm_tf.errors import UsageError
from slurm_tf.train.checkpoint.step_boundary import StepBoundary
from slurm_tf.train.collectives import allreduce, replica_check
from slurm_tf.train.data.batches import Batches

# What one step returns: named scalars.
Logs = Dict[str, Any]
_SCHEDULED_PER_WORKER = 4


class LockstepLoop:
    """Runs steps in this process, under all strategies but ps."""

    def __init__(
        self,
        step: Callable[[Any], Logs],
        data: Any,
        batches: List[Batches],
        collective: allreduce.Collective,
        strategy: tf.distribute.Strategy,
        check: replica_check.ReplicaCheck,
        boundary: StepBoundary,
        check_data: Callable[[], None],
    ) -> None:
        """`data`: a data set, or an iterator of one, which goes on where it is.

        `check_data` is called before the last step is saved: the end of that pass over the data is not read.
        """
        self._check, self._boundary, self._check_data = check, boundary, check_data
        self._batches, self._collective = batches, collective
        self._data, self._step = data, tf.function(step)
        if isinstance(strategy, tf.distribute.MirroredStrategy):
            self._data = strategy.experimental_distribute_dataset(data)
            self._step = tf.function(functools.partial(_mirrored_step, strategy, step))
        self._iterator: Optional[Iterator[Any]] = None

    def run(self, done: int, until: int, total: int) -> Tuple[int, Dict[str, float]]:
        """Run the steps from `done` to `until`, of `total`; return `until` and the mean of each scalar. Collective."""
        all_logs: List[Logs] = []
        for step in range(done, until):
            all_logs.append(self._step(self._next_batch(step)))
            self._check.after_step()
            if step + 1 == total:
                self._check_data()
            self._boundary.after_step(step + 1, step + 1 == total)
        names = sorted(all_logs[0])
        means = [tf.reduce_mean([tf.cast(logs[name], tf.float32) for logs in all_logs]) for name in names]
        return until, {name: float(mean) for name, mean in zip(names, self._collective.mean(means))}

    def _next_batch(self, step: int) -> Any:
        """Return the batch of `step`; a data set that has ended is started again. Raises UsageError for an iterator."""
        if self._iterator is not None:
            for batch in self._iterator:
                return batch
            if self._iterator is self._data:
                found = f"the iterator of the data has ended after {step} steps"
                raise UsageError(found, "one of a data set without end", "dataset.repeat() has none")
        for batches in self._batches:
            batches.step = step
        self._iterator = iter(self._data)
        return next(self._iterator)


def _mirrored_step(strategy: tf.distribute.Strategy, step: Callable[[Any], Logs], batch: Any) -> Logs:
    logs = strategy.run(step, args=(batch,))
    return {name: strategy.reduce("MEAN", value, axis=None) for name, value in logs.items()}


class ParameterServerLoop:
    """Schedules steps on the workers of strategy ps. Another worker repeats the step of one that dies.

    `data`: an iterator of each worker's own data set, or batches that are read here and sent with each step.
    """

    def __init__(
        self, step: Callable[[Any], Logs], data: Any, coordinator: Any, workers: int, boundary: StepBoundary
    ) -> None:
        self._coordinator, self._data, self._boundary = coordinator, data, boundary
        # enough that no worker waits for its next step, few enough that all are done soon after an interruption
        self._max_scheduled = _SCHEDULED_PER_WORKER * workers

        def worker_step(*given: Any) -> Logs:
            batch = _decoded(data, *given) if isinstance(data, Batches) else next(*given)
            logs: Logs = coordinator.strategy.run(step, args=(batch,))
            return logs

        self._step = tf.function(worker_step)
        self._names: List[str] = []

    def run(self, done: int, until: int, total: int) -> Tuple[int, Dict[str, float]]:
        """Have the steps from `done` to `until`, of `total`, run in any order; return `until` and the means.

        NaN where all logs are lost. After an interruption it schedules no more steps, and the step boundary raises
        SystemExit when those that were scheduled are done.
        """
        scheduled: Deque[Any] = deque()
        all_logs: List[Logs] = []
        while done + len(scheduled) < until and not self._boundary.is_interrupted:
            scheduled.append(self._coordinator.schedule(self._step, args=self._arguments(done + len(scheduled))))
            if len(scheduled) == self._max_scheduled:
                all_logs += _fetch(scheduled.popleft())
                done += 1
                # otherwise an interruption would find that there is nothing to save
                self._boundary.step = done
                self._boundary.report_step(done)
        self._coordinator.join()
        all_logs += [logs for result in scheduled for logs in _fetch(result)]
        done += len(scheduled)
        self._boundary.after_step(done, done == total)
        self._names = sorted(all_logs[0]) if all_logs else self._names
        count = len(all_logs) or math.nan
        return done, {name: sum(float(logs[name]) for logs in all_logs) / count for name in self._names}

    def _arguments(self, step: int) -> Tuple[Any, ...]:
        if isinstance(self._data, Batches):
            return tuple(tf.convert_to_tensor(each) for each in self._data.read([step]))
        return (self._data,)


def _decoded(batches: Batches, *read: tf.Tensor) -> Any:
    """Return the batch of one step, which the chief has read."""
    elements, weights = batches.parts(*read)
    return batches.decode(elements[0], weights[0])


def _fetch(result: Any) -> List[Logs]:
    """Return the logs of one step in a list, or [] if they are lost.

    The worker that ran the step keeps them, and may have died since (TensorFlow 2.21). The step counts all the same, as
    its updates are on the parameter servers. Should one of those be gone, the next step raises the error.
    """
    try:
        return [result.fetch()]
    except tf.errors.UnavailableError:
        return []
