"""Positions of iterators: a new iterator goes on with the same elements, or the pipeline is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from slurm_tf.errors import CheckpointError, UsageError

pytestmark = pytest.mark.tensorflow


def numbers(count: int = 1000) -> Any:
    import tensorflow as tf

    return tf.data.Dataset.range(count)


def interleaved() -> Any:
    import tensorflow as tf

    return numbers(8).interleave(lambda first: tf.data.Dataset.range(first, first + 50), 3, num_parallel_calls=2)


def stateless() -> Any:
    import tensorflow as tf

    random = tf.data.Dataset.random(seed=3)
    return random.map(lambda seed: tf.random.stateless_uniform([], [seed, 1]), num_parallel_calls=2).batch(7)


GOOD: dict[str, Callable[[], Any]] = {
    "repeated shuffles": lambda: numbers(90).shuffle(30, seed=1).repeat().batch(7).prefetch(2),
    "interleave": lambda: interleaved().repeat().batch(7),
    "random numbers by seeds": stateless,
    "cache": lambda: numbers(90).cache().shuffle(10, seed=1).repeat().batch(7),
}


def with_random_op() -> Any:
    import tensorflow as tf

    return numbers().map(lambda each: tf.cast(each, tf.float32) + tf.random.uniform([]))


def with_python() -> Any:
    import tensorflow as tf

    return numbers().map(lambda each: tf.numpy_function(lambda value: value, [each], tf.int64))


def with_inner_shuffle() -> Any:
    return numbers().flat_map(lambda _: numbers(5).shuffle(5, seed=1))


BAD: dict[str, tuple[Callable[[], Any], str]] = {
    "tf.random": (with_random_op, "RandomUniform is stateful"),
    "Python": (with_python, "PyFunc is stateful"),
    "shuffle without a seed": (lambda: numbers().shuffle(9), "ShuffleDatasetV3 without a seed"),
    "shuffle in a function": (with_inner_shuffle, "DummySeedGenerator is stateful"),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_new_iterator_goes_on_with_the_same_elements(name: str) -> None:
    from slurm_tf.train.collectives.allreduce import SingleTaskCollective
    from slurm_tf.train.data import iterator_positions

    first, alone = iter(GOOD[name]()), SingleTaskCollective()
    for _ in range(20):
        next(first)
    saved = iterator_positions.gather(alone, [first])
    expected = [next(first).numpy() for _ in range(50)]
    second = iter(GOOD[name]())
    iterator_positions.separated({"data": second}, "single")
    assert iterator_positions.restore(alone, saved, [second])
    for each in expected:
        np.testing.assert_array_equal(next(second).numpy(), each)
    assert not iterator_positions.restore(alone, None, [second])
    assert not iterator_positions.restore(alone, saved, [second, first])
    with pytest.raises(CheckpointError, match="does not fit the data set"):
        iterator_positions.restore(alone, saved, [iter(numbers(3).map(lambda each: each + 1))])


@pytest.mark.parametrize("name", BAD)
def test_an_iterator_whose_position_cannot_be_saved_is_refused(name: str) -> None:
    import tensorflow as tf

    from slurm_tf.train.data import iterator_positions

    make, words = BAD[name]
    tf.random.set_seed(None)  # type: ignore[arg-type, unused-ignore]  # with one, a shuffle gets its seed from it
    with pytest.raises(UsageError, match=words):
        iterator_positions.separated({"data": iter(make())}, "single")


def test_an_iterator_under_other_strategies_and_in_structures_is_refused() -> None:
    from slurm_tf.train.data import iterator_positions

    iterator = iter(numbers())
    for strategy in ("mirrored", "ps"):
        with pytest.raises(UsageError, match=f"under strategy {strategy}"):
            iterator_positions.separated({"data": iterator}, strategy)
    with pytest.raises(UsageError, match="inside of a structure"):
        iterator_positions.separated({"data": [iterator]}, "single")


def test_a_large_position_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from slurm_tf.train.collectives.allreduce import SingleTaskCollective
    from slurm_tf.train.data import iterator_positions

    monkeypatch.setattr(iterator_positions, "_MOST_BYTES", 1 << 10)
    with pytest.raises(UsageError, match="in a smaller buffer"):
        iterator_positions.gather(SingleTaskCollective(), [iter(numbers().shuffle(100, seed=1))])


def pairs(count: int) -> Any:
    import tensorflow as tf

    shuffled = numbers(count).shuffle(9, seed=1)
    return shuffled.map(lambda each: (tf.cast(each, tf.float32), 0.0)).batch(2, drop_remainder=True)


def fitted(passes: Any, epochs: int) -> list[float]:
    """Run `fit` for so many epochs, with a loss that makes Keras look at a batch before; return the samples."""
    import keras
    import tensorflow as tf

    from slurm_tf.train.checkpoint.step_boundary import StepBoundary
    from slurm_tf.train.collectives.allreduce import SingleTaskCollective
    from slurm_tf.train.keras import fit

    def nothing(*_: object, **__: object) -> None:
        pass

    seen: list[float] = []

    class Model(keras.Model):  # type: ignore[misc]
        def train_step(self, data: Any) -> Any:
            tf.py_function(lambda x: seen.extend(x.numpy().tolist()), [data[0]], [])
            return super().train_step(data)

    inputs = keras.Input((1,))
    model = Model(inputs, keras.layers.Dense(1)(inputs))
    model.compile("sgd", "mse", metrics=["mae"])
    boundary = StepBoundary(None, is_writer=True, in_lockstep=False, saves_in_pauses=True)
    collective = SingleTaskCollective()
    callback = fit.callback(model, collective, [], boundary, nothing, nothing, nothing, True, passes)
    model.fit(passes.dataset, epochs=epochs, callbacks=[callback], verbose=0)
    return seen


def test_model_fit_reads_each_element_of_a_data_set_once() -> None:
    from slurm_tf.train.data.passes import Passes

    expected = [each for batch, _ in pairs(90).take(5) for each in batch.numpy().tolist()]
    passes = Passes(pairs(90), 2)
    assert fitted(passes, 2) == expected[:8]
    assert next(passes.iterator)[0].numpy().tolist() == expected[8:]


def test_model_fit_on_a_data_set_that_ends_is_an_error() -> None:
    import tensorflow as tf

    from slurm_tf.train.data.passes import Passes

    with pytest.raises(tf.errors.InvalidArgumentError, match="the data set has ended"):
        fitted(Passes(pairs(6), 2), 2)
