"""What a shard that is not done has written: pieces, whose names say which rows of the shard each holds.

A piece appears by one rename, once its bytes are on storage. So an attempt that was killed leaves whole pieces, and the
next one goes on behind them. When all rows are there the pieces are joined. For Python 3.9.
"""

import contextlib
import os
import re
import tempfile
from dataclasses import dataclass
from typing import Dict, List

from slurm_tf import files
from slurm_tf.predict.prediction_plan import Plan


@dataclass(frozen=True)
class Piece:
    """A file with the rows of a shard from `first`, counted from 0, to before `end`; `errors` of them failed."""

    path: str
    first: int
    end: int
    errors: int


def written(folder: str, plan: Plan, shard: int) -> List[Piece]:
    """Return the pieces of a shard that hold its rows from the first one on, each row once. Raises OSError.

    Two attempts that ran at once, one of them on a node that had lost its network, may have left others beside them.
    """
    pattern = re.compile(re.escape(plan.temporary(shard)) + r"rows-(\d+)-(\d+)-errors-(\d+)")
    longest: Dict[int, Piece] = {}
    for name in os.listdir(folder):
        if match := pattern.fullmatch(name):
            piece = Piece(os.path.join(folder, name), *map(int, match.groups()))
            if piece.first not in longest or longest[piece.first].end < piece.end:
                longest[piece.first] = piece
    found: List[Piece] = []
    while following := longest.get(found[-1].end if found else 0):
        found.append(following)
    return found


def begin(folder: str, plan: Plan, shard: int) -> str:
    """Make an empty file, in which a piece is written; return its path. Raises OSError."""
    handle, path = tempfile.mkstemp(prefix=plan.temporary(shard), suffix=files.TEMPORARY, dir=folder)
    os.close(handle)
    return path


def end(folder: str, plan: Plan, shard: int, path: str, first: int, rows: int, errors: int) -> Piece:
    """Make what was written at `path` a piece. Raises OSError."""
    files.sync(path)
    name = f"{plan.temporary(shard)}rows-{first}-{first + rows}-errors-{errors}"
    piece = Piece(os.path.join(folder, name), first, first + rows, errors)
    os.rename(path, piece.path)
    files.sync(folder)
    return piece


def remove(folder: str, plan: Plan, shard: int) -> None:
    """Remove what attempts of a shard have left. Raises OSError."""
    for name in os.listdir(folder):
        if name.startswith(plan.temporary(shard)):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))
