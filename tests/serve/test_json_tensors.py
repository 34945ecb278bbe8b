"""Lists of JSON become the arrays that numpy makes of them, and what is no array is refused."""

import math
from typing import Any

import hypothesis
import pytest
from hypothesis import strategies as st

SHAPES = st.lists(st.integers(0, 3), max_size=4)
NUMBERS = st.one_of(st.integers(-(2**31), 2**31 - 1), st.floats(width=32))
WORSE = st.one_of(NUMBERS, st.none(), st.booleans(), st.text(max_size=2), st.just({"a": 1}), st.just(2**70))
LISTS = st.recursive(WORSE, lambda inner: st.lists(inner, max_size=3), max_leaves=8)


def array_of(value: Any, dtype: int = 1) -> Any:
    """Return the input of a signature with one input, of a type by its number in DataType. Raises RequestError."""
    from slurm_tf.serve.replica import json_tensors
    from slurm_tf.serve.replica.signatures import ServedSignature, TensorInfo

    info = TensorInfo("x:0", dtype, None, any_shape=True)
    signature = ServedSignature("serving_default", "", {"x": info}, {})
    return json_tensors.arrays({"inputs": value}, signature)[0]["x"]


@st.composite
def regular(draw: st.DrawFn) -> Any:
    """Return lists of lists of one length each."""

    def filled(shape: "list[int]") -> Any:
        return [filled(shape[1:]) for _ in range(shape[0])] if shape else draw(NUMBERS)

    return filled(draw(SHAPES))


@hypothesis.settings(max_examples=50, deadline=None, database=None)
@hypothesis.given(regular())
def test_lists_are_numpys_arrays(value: Any) -> None:
    import numpy as np

    found, wanted = array_of(value), np.array(value).astype(np.float32)
    assert found.dtype == np.float32
    assert found.shape == wanted.shape
    assert np.array_equal(found, wanted, equal_nan=True)


@hypothesis.settings(max_examples=100, deadline=None, database=None)
@hypothesis.given(LISTS)
@hypothesis.example([[], ""])
@hypothesis.example([[], {}])
def test_what_numpy_makes_no_array_of_is_refused(value: Any) -> None:
    import numpy as np

    from slurm_tf.serve.replica.request_error import RequestError

    try:
        wanted = np.array(value)
    except ValueError:
        wanted = np.array(None)
    try:
        found = array_of(value)
    except RequestError:
        assert wanted.dtype.kind not in "iuf"
    else:
        assert wanted.dtype.kind in "iuf"
        assert found.shape == wanted.shape


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ([[1, 2], [3]], "not all of one length"),
        ([[1, 2], 3], "not all of one length"),
        ([1, [2]], "not all of one length"),
        ([[1, 2], "ab"], "not of expected type: float"),
        ([[1], {"a": 1}], "not of expected type: float"),
        ([math.nan, "NaN"], "not of expected type: float"),
    ],
)
def test_what_is_said_of_lists_that_are_no_array(value: Any, error: str) -> None:
    from slurm_tf.serve.replica.request_error import RequestError

    with pytest.raises(RequestError, match=error):
        array_of(value)


def test_lists_that_are_too_deep_are_refused() -> None:
    from slurm_tf.serve.replica.request_error import RequestError

    value: Any = 1.0
    for _ in range(40):
        value = [value]
    with pytest.raises(RequestError, match="nested too deeply"):
        array_of(value)
