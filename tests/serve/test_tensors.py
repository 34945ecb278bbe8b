"""Arrays become tensors of the protocol, each value in the field of its type, and the same arrays again."""

from typing import Any

import pytest

from slurm_tf.serve.protocol import serving_messages


def filled(array: Any) -> Any:
    """Return a TensorProto as a client reads it."""
    from slurm_tf.serve.replica import tensors

    tensor = serving_messages.TensorProto()
    tensors.fill(tensor, array)
    return serving_messages.TensorProto.FromString(tensor.SerializeToString())


@pytest.mark.parametrize("name", ["float", "double", "complex64", "complex128", "half", "bfloat16", "int32", "uint64"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3, 7), (40, 10), (3, 10_000)])
def test_an_array_is_the_same_again(name: str, shape: tuple[int, ...]) -> None:
    import numpy as np

    from slurm_tf.serve.replica import tensors

    (kind,) = [each for each in tensors.TYPES.values() if each.name == name]
    array = np.random.default_rng(0).integers(0, 200, shape).astype(kind.array)
    found = tensors.array_of(filled(array), 1 << 20)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    assert np.array_equal(found, array)


def test_floats_are_values_of_their_field() -> None:
    import numpy as np

    values = [1.5, -0.0, float("inf"), 1e-45, float("nan")] * 300
    assert str(list(filled(np.array(values, np.float32)).float_val)) == str(np.array(values, np.float32).tolist())
    assert str(list(filled(np.array(values)).double_val)) == str(values)
    columns = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert list(filled(columns).float_val) == [0, 3, 1, 4, 2, 5]
    assert list(filled(np.array([1 + 2j], np.complex64)).scomplex_val) == [1, 2]


def test_a_shape_with_a_long_name_is_read_and_not_remembered() -> None:
    from slurm_tf.serve.replica import tensors

    tensor = serving_messages.TensorProto(dtype=1, float_val=[1, 2])
    dim = tensor.tensor_shape.dim.add()
    dim.size, dim.name = 2, "x" * 1000
    before = tensors._known_shape.cache_info().currsize
    assert tensors.array_of(tensor, 1000).tolist() == [1, 2]
    assert tensors._known_shape.cache_info().currsize == before
    dim.name = "rows"
    assert tensors.array_of(tensor, 1000).tolist() == [1, 2]
    assert tensors._known_shape.cache_info().currsize == before + 1
