"""The pairs of nodes in the MPI step of a preflight."""

import itertools
from collections import Counter

import pytest

from slurm_tf.launch.nodes.mpi_probe import partners_by_round


@pytest.mark.parametrize("size", [2, 3, 4, 5, 8, 63, 64])
def test_each_rank_meets_each_other_rank_once(size: int) -> None:
    met: Counter[tuple[int, int]] = Counter()
    rounds = partners_by_round(size)
    for partners in rounds:
        for rank, other in partners.items():
            assert partners[other] == rank != other
            met[min(rank, other), max(rank, other)] += 1
    assert set(met) == set(itertools.combinations(range(size), 2))
    assert set(met.values()) == {2}, "once in the entry of either rank"
    assert len(rounds) == size - 1 + size % 2
