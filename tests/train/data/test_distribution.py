"""What run.distribute takes, that each element comes once, and that a missing data worker is an error."""

import collections
import functools
import os
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from slurm_tf.errors import UsageError

pytestmark = pytest.mark.tensorflow
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


class Agent:
    """Answers as the agent does for its coordinator."""

    def __init__(self, answers: Mapping[str, str | None]) -> None:
        self.answers, self.asked = answers, list[str]()

    def request(self, role: str, content: Mapping[str, Any]) -> Mapping[str, str | None]:
        self.asked.append(role)
        return {**self.answers, **content}


BOTH = {"data-worker:0": None, "data-worker:1": None}


@functools.cache
def servers() -> list[Any]:
    """Return a tf.data service with two data workers, the dispatcher first. They end with this process."""
    import tensorflow as tf

    service = tf.data.experimental.service
    server = service.DispatchServer(service.DispatcherConfig(protocol="grpc"))
    address = server.target.partition("://")[2]
    configuration = service.WorkerConfig(dispatcher_address=address, protocol="grpc")
    return [server, *(service.WorkerServer(configuration) for _ in range(2))]


def address() -> str:
    """Return the address of a tf.data service with two data workers."""
    found: str = servers()[0].target.partition("://")[2]
    return found


@pytest.fixture
def dispatcher() -> str:
    return address()


def sources(tf: Any) -> dict[str, Callable[[], Any]]:
    """Return data sets of the numbers 0 to 99, by what they are made of."""
    data = tf.data.Dataset

    def numbers() -> Any:
        return data.range(100)

    def tens() -> Any:
        return data.from_tensor_slices(list(range(0, 100, 10)))

    def ten(first: Any) -> Any:
        return data.range(first, first + 10)

    def ten_of_each(first: Any) -> Any:
        return data.range(first, first + 20).take(10)  # a part of one element

    return {
        "shuffle": lambda: numbers().shuffle(20),
        "map": lambda: numbers().map(tf.identity, num_parallel_calls=2),
        "flat_map": lambda: tens().map(lambda each: tf.cast(each, tf.int64)).flat_map(ten),
        "interleave": lambda: tens().map(lambda each: tf.cast(each, tf.int64)).interleave(ten_of_each, cycle_length=3),
        "filter": lambda: data.range(200).filter(lambda each: each < 100),
        "unbatch": lambda: numbers().batch(7).unbatch(),
    }


@pytest.mark.parametrize(
    ("name", "batch"),
    [
        ("map", None),
        ("interleave", 7),
        *(
            pytest.param(name, batch, marks=pytest.mark.long)  # each pass begins after about a second
            for name in ("shuffle", "map", "flat_map", "interleave", "filter", "unbatch")
            for batch in (None, 7)
        ),
    ],
)
def test_each_element_comes_once_in_each_pass(name: str, batch: int | None, dispatcher: str) -> None:
    import tensorflow as tf

    from slurm_tf.train.data import distribution

    made, agent = sources(tf)[name](), Agent(BOTH)
    made = made if batch is None else made.batch(batch)
    distributed = distribution.distribute(made, dispatcher, 2, agent)  # type: ignore[arg-type]
    for number in (1, 2):
        values = [int(each) for element in distributed for each in tf.reshape(element, [-1])]
        assert collections.Counter(values) == dict.fromkeys(range(100), 1)
        assert agent.asked == ["data-worker"] * number
    known = batch is None and name in ("shuffle", "map")
    assert (int(distributed.cardinality()) == 100) is known


@pytest.mark.long
@given(some.integers(1, 40), some.integers(1, 9), some.integers(1, 9))
@settings(max_examples=10, deadline=None)
def test_batches_of_any_size_are_whole_again(samples: int, batch: int, again: int) -> None:
    import tensorflow as tf

    from slurm_tf.train.data import distribution

    made = tf.data.Dataset.range(samples).batch(batch)
    distributed = distribution.distribute(made, address(), 2, None).rebatch(again)
    sizes = [len(element) for element in distributed]
    assert sizes == [again] * (samples // again) + [samples % again] * (samples % again > 0)


@pytest.mark.parametrize(
    ("answers", "gone"),
    [
        ({"data-worker:0": None}, "data-worker:1"),
        pytest.param(
            {"data-worker:0": None, "data-worker:1": "the task ended"}, "data-worker:1", marks=pytest.mark.long
        ),
        pytest.param({}, "data-worker:0, data-worker:1", marks=pytest.mark.long),
    ],
)
def test_the_end_of_a_pass_needs_all_data_workers(
    answers: dict[str, str | None], gone: str, dispatcher: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import tensorflow as tf

    from slurm_tf.train.data import distribution

    agent: Any = Agent(answers)
    distributed = distribution.distribute(tf.data.Dataset.range(9).batch(2), dispatcher, 2, agent)
    seen: list[int] = []
    with pytest.raises(tf.errors.OpError, match=f"DataServiceError: {gone} ended during this pass"):
        seen.extend(int(each) for element in distributed for each in element)
    assert f"{gone} ended during this pass over the data: what it had read and not delivered is lost" in "".join(
        capsys.readouterr()
    )


def test_model_fit_asks_before_the_last_step_of_an_epoch_is_saved() -> None:
    import keras
    import numpy as np

    from slurm_tf.train.collectives.allreduce import SingleTaskCollective
    from slurm_tf.train.keras import fit

    events: list[int | str] = []
    boundary: Any = SimpleNamespace(step=0, enter_phase=lambda _phase: None)

    def after_step(step: int, last: bool = False) -> None:
        boundary.step = step
        events.append("the end" if last else step)

    def nothing(*_: object, **__: object) -> None:
        pass

    boundary.after_step = after_step
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    asks = functools.partial(events.append, "asked")
    callback = fit.callback(model, SingleTaskCollective(), [], boundary, nothing, asks, nothing, True)
    model.fit(np.zeros((6, 2)), np.zeros(6), batch_size=2, epochs=2, callbacks=[callback], verbose=0)
    assert events == [1, 2, "asked", 3, 4, 5, "asked", 6, "the end"]


def test_without_a_service_there_is_one_error() -> None:
    import tensorflow as tf

    from slurm_tf.train.data import distribution

    with pytest.raises(UsageError, match=r"without a tf.data service; needed \[roles.data-dispatcher\]"):
        distribution.distribute(tf.data.Dataset.range(3), "", 0, None)


def refused(tf: Any) -> dict[str, Callable[[], Any]]:
    """Return data sets that would lose or repeat elements, by what the error names."""
    numbers = tf.data.Dataset.range(100)
    return {
        "TakeDataset": lambda: numbers.take(3),
        "SkipDataset": lambda: numbers.skip(3).batch(2),
        "ShardDataset": lambda: numbers.shard(2, 0),
        "RepeatDataset": lambda: numbers.repeat(2),
        "ZipDataset": numbers.enumerate,
        "ConcatenateDataset": lambda: numbers.concatenate(numbers),
        "CacheDataset": numbers.cache,
        "ScanDataset": lambda: numbers.scan(0, lambda state, each: (state, each)),
        "drop_remainder=True": lambda: numbers.batch(3, drop_remainder=True),
        "Python code": lambda: numbers.map(lambda each: tf.py_function(int, [each], tf.int64)),
        "from_generator": lambda: tf.data.Dataset.from_generator(
            lambda: iter([1]), output_signature=tf.TensorSpec([], tf.int64)
        ),
    }


@pytest.mark.parametrize(
    "name",
    ["TakeDataset", "SkipDataset", "ShardDataset", "RepeatDataset", "ZipDataset", "ConcatenateDataset", "CacheDataset",
     "ScanDataset", "drop_remainder=True", "Python code", "from_generator"],
)  # fmt: skip
def test_what_would_lose_or_repeat_elements_is_refused(name: str, dispatcher: str) -> None:
    import tensorflow as tf

    from slurm_tf.train.data import distribution

    with pytest.raises(UsageError, match=name):
        distribution.distribute(refused(tf)[name](), dispatcher, 2, None)
