"""Requests of several clients become one call, each gets its own rows, and none waits or fails for another."""

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

from slurm_tf.serve.replica_settings import Batching


class Model:
    """A model that doubles its rows, slowly, and remembers the sizes of its calls. A row of -1 fails."""

    def __init__(self, seconds: float = 0.02) -> None:
        self.sizes: list[int] = []
        self.seconds = seconds
        self.threads: set[int] = set()

    def __call__(self, inputs: Sequence[Any]) -> list[Any]:
        from slurm_tf.serve.replica.request_error import invalid

        self.sizes.append(len(inputs[0]))
        self.threads.add(threading.get_ident())
        time.sleep(self.seconds)
        if (inputs[0] == -1).any():
            raise invalid("a row of -1")
        return [2 * inputs[0]]


class Beside:
    """The process beside, as the batcher sees it: it doubles rows too, or is lost."""

    def __init__(self, lost: bool = False, takes: int = 99) -> None:
        self.sizes: list[int] = []
        self.lost, self.takes = lost, takes

    def __call__(self, parts: Sequence[Sequence[Any]], size: int) -> "asyncio.Future[Any] | None":
        import numpy as np

        from slurm_tf.serve.replica.call_process import Called, CallError

        if len(self.sizes) == self.takes:
            return None
        self.sizes.append(size)
        loop = asyncio.get_running_loop()
        answer = loop.create_future()
        if self.lost:
            loop.call_soon(answer.set_exception, CallError("it has ended"))
        else:
            (arrays,) = parts
            rows = np.resize(np.concatenate(arrays), size)
            loop.call_soon(answer.set_result, Called([2 * rows], 0.001))
        return answer


def run(
    model: Any,
    batching: Batching,
    asks: Callable[[Any], Sequence[Awaitable[Any]]],
    batched: bool = True,
    beside: Any = lambda *_: None,
) -> list[Any]:
    """Return the outcome of each request that `asks` makes of a batcher."""
    from slurm_tf.serve.replica.batcher import Batcher

    async def main() -> list[Any]:
        with ThreadPoolExecutor(4) as threads:
            batcher = Batcher(model, batched, batching, threads, beside)
            return await asyncio.gather(*asks(batcher), return_exceptions=True)

    return asyncio.run(main())


def rows(*values: float) -> Any:
    import numpy as np

    return np.array(values, np.float32)


def test_what_comes_during_a_call_is_the_next_one() -> None:
    model = Model()
    answers = run(
        model, Batching(num_batch_threads=1), lambda each: [each.submit([rows(i)], math.inf) for i in range(9)]
    )
    assert [answer[0].tolist() for answer in answers] == [[2 * i] for i in range(9)]
    assert model.sizes == [9]


def test_a_batch_has_at_most_the_rows_of_the_settings() -> None:
    model = Model()
    batching = Batching(max_batch_size=4, num_batch_threads=1)
    run(model, batching, lambda each: [each.submit([rows(*range(size))], math.inf) for size in (3, 2, 1, 4, 9, 1, 0)])
    assert model.sizes == [3, 3, 4, 9, 1, 0]


def test_sizes_are_filled_up_to_those_allowed() -> None:
    model = Model()
    batching = Batching(max_batch_size=8, num_batch_threads=1, allowed_batch_sizes=(2, 8))
    answers = run(model, batching, lambda each: [each.submit([rows(1)], math.inf), each.submit([rows(2, 3)], math.inf)])
    assert model.sizes == [8]
    assert [answer[0].tolist() for answer in answers] == [[2], [4, 6]]


def test_an_error_is_that_of_its_request() -> None:
    from slurm_tf.serve.replica.request_error import RequestError

    model = Model()
    good, bad, other = run(
        model, Batching(num_batch_threads=1), lambda each: [each.submit([rows(i)], math.inf) for i in (1, -1, 3)]
    )
    assert (good[0].tolist(), other[0].tolist()) == ([2], [6])
    assert isinstance(bad, RequestError)
    assert model.sizes == [3, 1, 1, 1]


def test_rows_of_other_shapes_are_other_calls() -> None:
    import numpy as np

    model = Model()
    given = [np.zeros((1, 2)), np.zeros((1, 2)), np.zeros((1, 3)), np.zeros(())]
    answers = run(
        model, Batching(num_batch_threads=1), lambda each: [each.submit([one], math.inf) for one in given[:3]]
    )
    assert [answer[0].shape for answer in answers] == [(1, 2), (1, 2), (1, 3)]
    assert model.sizes == [2, 1]


def test_outputs_without_rows_are_asked_for_one_by_one() -> None:
    def total(inputs: Sequence[Any]) -> list[Any]:
        return [inputs[0].sum()]

    answers = run(
        total, Batching(num_batch_threads=1), lambda each: [each.submit([rows(i, 1)], math.inf) for i in (1, 2)]
    )
    assert [float(answer[0]) for answer in answers] == [2, 3]


def test_a_late_request_is_not_computed_and_too_many_are_refused() -> None:
    from slurm_tf.serve.replica.request_error import Code, RequestError

    model = Model()
    batching = Batching(max_batch_size=2, max_enqueued_batches=2, num_batch_threads=1)

    def asks(batcher: Any) -> Sequence[Awaitable[Any]]:
        first = [batcher.submit([rows(1)], math.inf), batcher.submit([rows(2)], time.monotonic() - 1)]
        first += [batcher.submit([rows(3)], math.inf) for _ in range(2)]
        with pytest.raises(RequestError) as caught:
            batcher.submit([rows(4)], math.inf)
        assert (caught.value.code, caught.value.http_status) == (Code.UNAVAILABLE, 429)
        return first

    outcomes = run(model, batching, asks)
    assert outcomes[1].code is Code.DEADLINE_EXCEEDED
    assert sum(model.sizes) == 3


def test_a_quick_call_of_a_client_that_is_alone_is_made_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    from slurm_tf.serve.replica import batcher as batchers

    model = Model(0)
    monkeypatch.setattr(batchers, "QUICK_SECONDS", 5.0)  # a busy machine may stop the process within a call

    async def both(batcher: Any) -> Any:
        batcher.timed([rows(0)])
        return [await batcher.run([rows(1)], math.inf, True), await batcher.run([rows(2)], math.inf, False)]

    ((first, second),) = run(model, Batching(), lambda each: [both(each)])
    assert (first[0].tolist(), second[0].tolist()) == ([2], [4])
    assert model.threads == {threading.get_ident()}
    slow = Model(0.01)
    monkeypatch.undo()
    run(slow, Batching(), lambda each: [both(each)])
    assert len(slow.threads) > 1


def test_with_a_timeout_a_client_that_is_alone_waits_until_the_batch_is_full(monkeypatch: pytest.MonkeyPatch) -> None:
    from slurm_tf.serve.replica import batcher as batchers

    monkeypatch.setattr(batchers, "QUICK_SECONDS", 60.0)
    model = Model(0)

    async def alone(batcher: Any) -> Any:
        batcher.timed([rows(0)])
        return await asyncio.wait_for(batcher.run([rows(1)], math.inf, True), 60)

    async def later(batcher: Any) -> Any:
        await asyncio.sleep(0.05)
        return await batcher.run([rows(2)], math.inf, False)

    batching = Batching(max_batch_size=2, batch_timeout_micros=3_600_000_000)
    answers = run(model, batching, lambda each: [alone(each), later(each)])
    assert [answer[0].tolist() for answer in answers] == [[2], [4]]
    assert model.sizes == [1, 2]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Model:
    """Return a model whose calls count as quick, also where a busy machine stops the process within one."""
    from slurm_tf.serve.replica import batcher as batchers

    monkeypatch.setattr(batchers, "QUICK_SECONDS", 60.0)
    return Model(0)


def clients(number: int, requests: int, rounds: int = 0) -> Callable[[Any], Sequence[Awaitable[Any]]]:
    """Return what has clients ask a batcher, each so often, and wait for some rounds of the loop between."""

    async def client(batcher: Any, in_flight: list[int]) -> None:
        for _ in range(requests):
            in_flight[0] += 1
            answer = await batcher.run([rows(1)], math.inf, in_flight[0] == 1)
            in_flight[0] -= 1
            assert answer[0].tolist() == [2]
            for _ in range(rounds):
                await asyncio.sleep(0)

    def asks(batcher: Any) -> Sequence[Awaitable[Any]]:
        batcher.timed([rows(0)])
        in_flight = [0]
        return [client(batcher, in_flight) for _ in range(number)]

    return asks


def test_quick_calls_of_several_clients_become_one(quick: Model) -> None:
    """Each is over before the next request is read: only by waiting for the others there is ever a batch."""
    assert run(quick, Batching(), clients(7, 40)) == [None] * 7
    assert max(quick.sizes) == 7
    assert len(quick.sizes) < 7 * 40 / 2


def test_a_client_that_is_alone_never_waits(quick: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from slurm_tf.serve.replica import batcher as batchers

    monkeypatch.setattr(batchers, "_IDLE_SECONDS", 3600.0)
    assert run(quick, Batching(), clients(1, 100, rounds=5)) == [None]
    assert quick.sizes == [1] * 101


def test_who_is_left_alone_gets_an_answer(quick: Model) -> None:
    def asks(batcher: Any) -> Sequence[Awaitable[Any]]:
        return [*clients(3, 10)(batcher), *clients(1, 30)(batcher)]

    assert run(quick, Batching(), asks) == [None] * 4


def test_calls_that_are_no_batches_do_not_wait(quick: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    from slurm_tf.serve.replica import batcher as batchers

    monkeypatch.setattr(batchers, "_IDLE_SECONDS", 3600.0)
    assert run(quick, Batching(), clients(4, 30), batched=False) == [None] * 4
    assert quick.sizes == [1] * 121


def test_many_rows_are_computed_beside_as_long_as_it_takes_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    from slurm_tf.serve.replica import batcher as batchers

    batching = Batching(max_batch_size=4, allowed_batch_sizes=(1, 4))

    def asks(batcher: Any) -> Sequence[Awaitable[Any]]:
        return [batcher.submit([rows(i, i + 1, i + 2)], math.inf) for i in range(5)]

    expected = [[2 * i, 2 * i + 2, 2 * i + 4] for i in range(5)]
    monkeypatch.setattr(batchers, "_BESIDE_SECONDS", 0.0)
    model, beside = Model(), Beside()
    assert [answer[0].tolist() for answer in run(model, batching, asks, beside=beside)] == expected
    assert (model.sizes, beside.sizes) == ([], [4] * 5)
    model, beside = Model(), Beside(takes=2)
    assert [answer[0].tolist() for answer in run(model, batching, asks, beside=beside)] == expected
    assert (model.sizes, beside.sizes) == ([4] * 3, [4] * 2)
    monkeypatch.setattr(batchers, "_BESIDE_SECONDS", math.inf)
    model, beside = Model(), Beside()
    run(model, batching, asks, beside=beside)
    assert (model.sizes, beside.sizes) == ([4] * 5, [])


def test_a_call_that_the_process_beside_has_lost_is_computed_here(monkeypatch: pytest.MonkeyPatch) -> None:
    from slurm_tf.serve.replica import batcher as batchers
    from slurm_tf.serve.replica.request_error import RequestError

    monkeypatch.setattr(batchers, "_BESIDE_SECONDS", 0.0)
    model, beside = Model(), Beside(lost=True)
    good, bad = run(model, Batching(), lambda each: [each.submit([rows(i)], math.inf) for i in (1, -1)], beside=beside)
    assert good[0].tolist() == [2]
    assert isinstance(bad, RequestError)
    assert (model.sizes, beside.sizes) == ([2, 1, 1], [2])


@hypothesis.given(
    sizes=st.lists(st.integers(0, 5), min_size=1, max_size=20),
    most=st.integers(1, 8),
    threads=st.integers(1, 3),
    wait=st.sampled_from((0, 500)),
)
@hypothesis.settings(max_examples=30)
def test_every_request_gets_its_own_rows(sizes: list[int], most: int, threads: int, wait: int) -> None:
    given = [rows(*[100 * number + i for i in range(size)]) for number, size in enumerate(sizes)]
    batching = Batching(most, wait, 100, threads)
    answers = run(Model(0.001), batching, lambda each: [each.submit([one], math.inf) for one in given])
    assert [answer[0].tolist() for answer in answers] == [(2 * one).tolist() for one in given]
