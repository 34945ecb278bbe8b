"""Who meets whom in the MPI step of a preflight."""

import itertools
from collections import Counter

import pytest

from slurm_tf.train.collectives.mpi_probe import partner


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8, 63, 64])
def test_each_meets_each_other_once(size: int) -> None:
    met: Counter[tuple[int, int]] = Counter()
    for number in range(size - 1 + size % 2):
        partners = {rank: partner(rank, size, number) for rank in range(size)}
        for rank, other in partners.items():
            if other is not None:
                assert partners[other] == rank != other
                met[min(rank, other), max(rank, other)] += 1
    assert set(met) == set(itertools.combinations(range(size), 2))
    assert set(met.values()) == {2}
