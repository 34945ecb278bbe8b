"""A set of keys in little memory."""

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as some

from slurm_tf.account.fingerprints import Fingerprints


@given(some.lists(some.tuples(some.text("ab"), some.none() | some.integers(0, 50)), max_size=300))
def test_each_key_is_new_once(keys: list[tuple[str, int | None]]) -> None:
    seen, known = Fingerprints(), set()
    for key in keys:
        assert seen.add(key) == (key not in known)
        known.add(key)
        assert len(seen) == len(known)


@pytest.mark.slow
def test_many_keys_fit_into_little_memory() -> None:
    tracemalloc.start()
    try:
        seen = Fingerprints()
        assert all(seen.add(("cluster", str(number), number)) for number in range(50_000))
        assert not any(seen.add(("cluster", str(number), number)) for number in range(50_000))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert len(seen) == 50_000
    assert peak < 50_000 * 20
