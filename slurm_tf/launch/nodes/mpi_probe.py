"""Measures the network between nodes with MPI: `PYTHON launch.pyz mpi-probe RESULT`, one process per node, under srun.

PYTHON is that of the user's program, and must have mpi4py. In each round the nodes form pairs, and each pair measures a
round trip and an allreduce.
"""

import json
import os
import sys
import time
from typing import Any, Dict, List, NoReturn, Sequence, Tuple

from slurm_tf.launch.nodes import diagnosis

# sysexits.h, EX_UNAVAILABLE: no mpi4py, or mpi4py finds no MPI library
NO_MPI = 69
_PINGS = 20
_BYTES = 4 << 20
_ALLREDUCES = 5
_POLL_SECONDS = 0.002
# as in launch/nodes/preflight.py
_MAX_PARTNERS = 64


def partners_by_round(size: int) -> List[Dict[int, int]]:
    """Return the partner of each rank that has one, for each round."""
    rounds = diagnosis.rounds([str(rank) for rank in range(size)], _MAX_PARTNERS)[::2]  # one direction is enough
    pairs = [[(int(one), int(other)) for one, other in each] for each in rounds]
    return [{rank: partner for one, other in each for rank, partner in ((one, other), (other, one))} for each in pairs]


def measure(mpi: Any, pair: Any) -> Tuple[float, float]:
    """Return the seconds of the fastest round trip and the bytes per second of the fastest allreduce of two ranks.

    The fastest, not the median: MPI polls while it waits, so a median shows whatever else runs on the nodes.
    """
    byte, other = bytearray(1), 1 - pair.Get_rank()
    round_trips: List[float] = []
    for _ in range(_PINGS):
        start = time.perf_counter()
        for side in (0, 1):
            if pair.Get_rank() == side:
                pair.Send([byte, mpi.BYTE], other)
            else:
                pair.Recv([byte, mpi.BYTE], other)
        round_trips.append(time.perf_counter() - start)
    addend, total = bytearray(_BYTES), bytearray(_BYTES)
    allreduces: List[float] = []
    for _ in range(_ALLREDUCES):
        pair.Barrier()
        start = time.perf_counter()
        pair.Allreduce([addend, mpi.FLOAT], [total, mpi.FLOAT])
        allreduces.append(time.perf_counter() - start)
    return min(round_trips), _BYTES / min(allreduces)


def main(arguments: Sequence[str]) -> NoReturn:
    """Measure all pairs; rank 0 writes [source, target, latency, bandwidth] of each to the file RESULT."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(NO_MPI)
    world = MPI.COMM_WORLD
    rank = world.Get_rank()
    names = world.allgather(os.environ.get("SLURMD_NODENAME") or os.uname().nodename)
    figures = []
    for partners in partners_by_round(world.Get_size()):
        other = partners.get(rank)
        pair = world.Split(MPI.UNDEFINED if other is None else min(rank, other), rank)
        if other is not None:
            measured = measure(MPI, pair)
            pair.Free()
            if rank < other:
                figures.append((names[rank], names[other], *measured))
        # sleep instead of polling: a rank without a partner must not disturb the measurements of others
        all_done = world.Ibarrier()
        while not all_done.Test():
            time.sleep(_POLL_SECONDS)
    gathered = world.gather(figures)
    if gathered is not None:  # in rank 0 alone
        with open(arguments[0], "w", encoding="utf-8") as file:
            json.dump([each for part in gathered for each in part], file)
    sys.exit(0)
