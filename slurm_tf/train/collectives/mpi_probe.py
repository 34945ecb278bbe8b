"""One node's part in the MPI step of a preflight: `python mpi_probe.py RESULT`, one process a node, under an MPI.

A file by itself, copied into the run's folder: the Python of the user's program runs it, with mpi4py and nothing of
ours. Pairs of nodes, each node in one at a time, take the time of a round trip and of an allreduce.
"""

import json
import os
import sys
import time
from typing import Any, List, Optional, Tuple

# sysexits.h, EX_UNAVAILABLE: no mpi4py, or no MPI below it
NO_MPI = 69
_PINGS = 20
_BYTES = 4 << 20
_ROUNDS = 5
_SLEEP_SECONDS = 0.002
# as in launch/nodes/preflight.py
_MOST_PARTNERS = 64


def partner(rank: int, size: int, number: int) -> Optional[int]:
    """Return whom `rank` meets in round `number` of `size - 1`, or `size` if that is odd; None for nobody."""
    even = size + size % 2
    fixed, turning = even - 1, even - 1
    if rank == fixed:
        other = next(each for each in range(turning) if (2 * each) % turning == number)
    else:
        other = (number - rank) % turning
        other = fixed if other == rank else other
    return other if other < size else None


def measure(mpi: Any, pair: Any) -> Tuple[float, float]:
    """Return the best round trip in seconds, and the bytes per second of the best allreduce, of two ranks.

    The best: MPI waits by asking again and again, so that whatever else runs on the node shows in a median.
    """
    byte, other = bytearray(1), 1 - pair.Get_rank()
    times: List[float] = []
    for _ in range(_PINGS):
        start = time.perf_counter()
        for side in (0, 1):
            if pair.Get_rank() == side:
                pair.Send([byte, mpi.BYTE], other)
            else:
                pair.Recv([byte, mpi.BYTE], other)
        times.append(time.perf_counter() - start)
    mine, total = bytearray(_BYTES), bytearray(_BYTES)
    seconds: List[float] = []
    for _ in range(_ROUNDS):
        pair.Barrier()
        start = time.perf_counter()
        pair.Allreduce([mine, mpi.FLOAT], [total, mpi.FLOAT])
        seconds.append(time.perf_counter() - start)
    return min(times), _BYTES / min(seconds)


def main() -> int:
    """Measure; rank 0 writes [source, target, latency, bandwidth] of each pair to RESULT."""
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        sys.stderr.write(f"{error}\n")
        return NO_MPI
    world = MPI.COMM_WORLD
    rank, size = world.Get_rank(), world.Get_size()
    names = world.allgather(os.environ.get("SLURMD_NODENAME") or os.uname().nodename)
    found = []
    for number in range(min(size - 1 + size % 2, _MOST_PARTNERS)):
        other = partner(rank, size, number)
        both = world.Split(MPI.UNDEFINED if other is None else min(rank, other), rank)
        if other is not None:
            figures = measure(MPI, both)
            both.Free()
            if rank < other:
                found.append((names[rank], names[other], *figures))
        # asleep: who has no partner in this round must not be in the others' way
        all_done = world.Ibarrier()
        while not all_done.Test():
            time.sleep(_SLEEP_SECONDS)
    gathered = world.gather(found)
    if gathered is not None:  # in rank 0 alone
        with open(sys.argv[1], "w", encoding="utf-8") as file:
            json.dump([each for part in gathered for each in part], file)
    return 0


if __name__ == "__main__":
    sys.exit(main())
