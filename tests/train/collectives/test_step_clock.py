"""The clock of a task's own work leaves out reductions, in which the task waits for others."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

pytestmark = pytest.mark.tensorflow

WAIT, WORK = 0.2, 0.05
STEPS = 6


class Slow:
    """A collective whose every reduction waits for another task. `waits`: when each wait began and ended."""

    rank, size = 0, 2

    def __init__(self) -> None:
        self.waits: list[tuple[float, float]] = []

    def mean(self, tensors: Sequence[Any]) -> list[Any]:
        import tensorflow as tf

        def wait(*given: Any) -> list[Any]:
            began = time.monotonic()
            time.sleep(WAIT)
            self.waits.append((began, time.monotonic()))
            return list(given)

        return list(tf.py_function(wait, tensors, [tensor.dtype for tensor in tensors]))

    sum = mean


@pytest.mark.parametrize("graph", [True, False])
@pytest.mark.parametrize("what", ["mean", "sum"])
def test_waiting_is_no_own_work(graph: bool, what: str) -> None:
    import tensorflow as tf

    from slurm_tf.train.collectives.step_clock import StepClock, TimedCollective

    clock, slow = StepClock(), Slow()
    collective = TimedCollective(slow, clock)

    def work(value: Any) -> Any:
        time.sleep(WORK)
        return value

    def step(value: Any) -> Any:
        value = tf.py_function(work, [value], tf.float32)
        value.set_shape([3])
        first, second = getattr(collective, what)([value, tf.ones([2, 2])])
        return first + tf.reduce_sum(second)

    run: Callable[[Any], Any] = tf.function(step) if graph else step
    value = run(tf.zeros([3]))
    assert clock.seconds == 0.0
    for _ in range(STEPS):
        value = run(value)
    whole = time.monotonic() - slow.waits[0][1]
    assert value.numpy() == pytest.approx([4.0 * (STEPS + 1)] * 3)
    # holds on a busy machine too: each wait is measured where it happens
    assert STEPS * WORK <= clock.seconds <= whole - sum(ended - began for began, ended in slow.waits[1:])
    # the work before the next reduction can be left out
    time.sleep(0.5)
    for _ in range(2):
        clock.skip()
    before = clock.seconds
    run(value)
    assert (clock.seconds, clock.skipped) == (before, 1)


def test_without_tensors_nothing_is_measured() -> None:
    from slurm_tf.train.collectives.step_clock import StepClock, TimedCollective

    clock = StepClock()
    assert TimedCollective(Slow(), clock)._timed(list, []) == []
    assert clock.seconds == 0.0
