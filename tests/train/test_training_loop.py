"""A loop under ps whose worker dies after its step, before the chief has fetched its logs; a loop whose data ends."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytestmark = pytest.mark.tensorflow


class Result:
    """The logs of a step, on a worker that is gone if `loss` is None."""

    def __init__(self, loss: float | None) -> None:
        self.loss = loss

    def fetch(self) -> dict[str, float]:
        import tensorflow as tf

        if self.loss is None:
            raise tf.errors.UnavailableError(None, None, "Socket closed")
        return {"loss": self.loss}


class Coordinator:
    """A ClusterCoordinator that returns given results one after another."""

    def __init__(self, losses: Iterator[float | None]) -> None:
        self.losses = losses

    def schedule(self, _: Any, args: tuple[Any, ...]) -> Result:
        assert args == (None,)
        return Result(next(self.losses))

    def join(self) -> None:
        pass


class NoBoundary:
    """A step boundary that never saves or stops."""

    is_interrupted = False
    step = 0

    def report_step(self, step: int) -> None:
        pass

    def after_step(self, step: int, last: bool) -> None:
        self.step, self.is_done = step, last


def loop_of(coordinator: Coordinator) -> Any:
    from slurm_tf.train import training_loop

    return training_loop.ParameterServerLoop(lambda _: {}, None, coordinator, 1, NoBoundary())  # type: ignore[arg-type]


def run(losses: list[float | None], *until: int) -> list[tuple[int, dict[str, float]]]:
    loop = loop_of(Coordinator(iter(losses)))
    done, found = 0, []
    for each in until:
        found.append(loop.run(done, each, until[-1]))
        done = each
    return found


def test_logs_of_a_worker_that_died_after_its_step_are_left_out() -> None:
    losses: list[float | None] = [1.0, None, 3.0, 2.0, 4.0, None, 2.0]
    assert run(losses, 7) == [(7, {"loss": 2.4})]


def test_logs_are_nan_where_all_are_lost() -> None:
    (_, first), (done, second) = run([1.0, None, None], 1, 3)
    assert (first, done) == ({"loss": 1.0}, 3)
    assert second["loss"] != second["loss"]


def test_an_error_of_the_program_is_raised() -> None:
    class Wrong(Coordinator):
        def schedule(self, _: Any, args: tuple[Any, ...]) -> Any:
            assert args == (None,)
            return self

        def fetch(self) -> None:
            raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        loop_of(Wrong(iter([]))).run(0, 1, 1)


class NoCheck:
    """A check of replicas that finds nothing."""

    def after_step(self) -> None:
        pass


def lockstep_loop(data: Any, boundary: Any, check_data: Callable[[], object]) -> Any:
    import tensorflow as tf

    from slurm_tf.train import training_loop
    from slurm_tf.train.collectives.allreduce import SingleTaskCollective

    strategy = tf.distribute.get_strategy()
    return training_loop.LockstepLoop(
        lambda batch: {"mean": batch}, data, [], SingleTaskCollective(), strategy, NoCheck(), boundary, check_data  # type: ignore[arg-type]
    )  # fmt: skip


def test_data_workers_are_asked_before_the_last_step_is_saved() -> None:
    import tensorflow as tf

    class Boundary(NoBoundary):
        def after_step(self, step: int, last: bool) -> None:
            events.append("the end" if last else step)

    events: list[int | str] = []
    loop = lockstep_loop(tf.data.Dataset.range(2), Boundary(), lambda: events.append("asked"))
    loop.run(0, 3, 5)
    loop.run(3, 5, 5)
    assert events == [1, 2, 3, 4, "asked", "the end"]


def test_a_data_set_begins_anew_at_its_end_and_an_iterator_is_an_error() -> None:
    import tensorflow as tf

    from slurm_tf.errors import UsageError

    def loop(data: Any) -> Any:
        return lockstep_loop(data, NoBoundary(), lambda: None)

    data = tf.data.Dataset.range(3)
    assert loop(data).run(0, 5, 5) == (5, {"mean": pytest.approx((0 + 1 + 2 + 0 + 1) / 5)})
    with pytest.raises(UsageError, match="has ended after 3 steps"):
        loop(iter(data)).run(0, 5, 5)
