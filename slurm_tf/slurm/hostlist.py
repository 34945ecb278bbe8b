"""Slurm's node list expressions, in Slurm's own order and with duplicates kept, because ranks follow that order.

The libraries for this (ClusterShell, python-hostlist) sort the names or remove duplicates, so this module does without
them. It runs on Python 3.9.
"""

import itertools
import math
import re
from typing import Dict, Iterable, Iterator, List, Sequence, Tuple

from slurm_tf.errors import HostlistError

# Slurm refuses a larger range: MAX_RANGE in src/common/hostlist.c.
MAX_RANGE = 65536
# No cluster is larger; a product of ranges past this is a mistake or an attack on our memory.
MAX_NAMES = 1 << 20

_NEEDED = 'a Slurm node list such as "n[1-3,07],gpu4"'
_NO_NODES = ("", "(null)")
_RANGE = re.compile(r"(\d+)(?:-(\d+))?", re.ASCII)
_PIECE = re.compile(r"[^\[\]]+|\[[^\[\]]*\]")
_NUMBERED = re.compile(r"(?P<before>.*?)(?P<number>\d+)(?P<after>[^\d,]*)", re.ASCII)
_COUNT = re.compile(r"(\d{1,9})(?:\(x(\d{1,9})\))?", re.ASCII)


def expand(text: str) -> Tuple[str, ...]:
    """Return every node name of `text` in Slurm's order, duplicates kept; () for "" and "(null)".

    Commas and blanks separate the names; a suffix after a range is legal from Slurm 23.11. Raises HostlistError, whose
    `part` is the faulty piece.
    """
    if text.strip() in _NO_NODES:
        return ()
    names: List[str] = []
    for part in _split(text):
        names += _expand_part(part, MAX_NAMES - len(names))
    return tuple(names)


def extend(text: str, names: Iterable[str]) -> str:
    """Return the node list `text` with those of `names` that are not in it, as sbatch's --exclude takes it."""
    try:
        known = set(expand(text))
    except HostlistError:  # sbatch also takes the path of a file of names
        known = set()
    return ",".join([*([text] if text else []), *(name for name in sorted(names) if name not in known)])


def compress(names: Iterable[str]) -> str:
    """Return names of nodes as a node list, each once and in the order of their numbers: node[1-3,10]."""
    groups: Dict[Tuple[str, int, str], List[int]] = {}
    others = []
    for name in names:
        match = _NUMBERED.fullmatch(name)
        if match is None:
            others.append(name)
            continue
        digits = match["number"]
        width = len(digits) if digits.startswith("0") else 0  # node01 is not node1
        groups.setdefault((match["before"], width, match["after"]), []).append(int(digits))
    lists = [f"{before}{_bracket(numbers, width)}{after}" for (before, width, after), numbers in groups.items()]
    return ",".join([*sorted(others), *lists])


def counts(text: str) -> Tuple[int, ...]:
    """Return one number a node for SLURM_TASKS_PER_NODE and its like: "2(x3),1" gives (2, 2, 2, 1).

    Raises HostlistError, whose `part` is the faulty piece.
    """
    numbers: List[int] = []
    for part in text.split(","):
        match = _COUNT.fullmatch(part)
        repeat = int(match[2] or 1) if match else 0
        if match is None or not 0 < repeat <= MAX_NAMES - len(numbers):
            raise HostlistError(f"found {part!r} in {text!r}", 'counts a node such as "2(x3),1"', part)
        numbers += [int(match[1])] * repeat
    return tuple(numbers)


def _split(text: str) -> Iterator[str]:
    """Yield the parts between commas and blanks outside brackets."""
    part, inside = "", False
    for character in text + ",":
        if character in "[]":
            if inside == (character == "["):
                raise _error(text, part + character)
            inside = not inside
        if not inside and (character == "," or character.isspace()):
            if part:
                yield part
            part = ""
        else:
            part += character
    if inside:
        raise _error(text, part[:-1])


def _expand_part(part: str, room: int) -> List[str]:
    pieces = _PIECE.findall(part)
    if pieces[0].startswith("[") and not pieces[-1].endswith("]"):
        raise _error(part, part)  # "[0]cluster": scontrol refuses it, and no release has node names of this kind
    dimensions = [_ranges(piece, part) if piece.startswith("[") else [piece] for piece in pieces]
    size = math.prod(map(len, dimensions))
    if size > room:
        raise HostlistError(f"found {part!r}, which names {size} nodes", f"{MAX_NAMES} at most", part)
    order = _slowest_first([number for number, piece in enumerate(pieces) if piece.startswith("[")])
    varying = itertools.product(*(dimensions[number] for number in order))
    fixed = [each[0] for each in dimensions]
    return [_joined(fixed, order, values) for values in varying]


def _slowest_first(ranges: List[int]) -> List[int]:
    """Return the places of a name's ranges, the one that varies slowest first, as Slurm does (22.05.8).

    The last one varies fastest, then the first, then those after it: _push_range_list() in src/common/hostlist.c takes
    the ranges before the last one from the right, each around all that are left of it.
    """
    return [*reversed(ranges[:-1]), *ranges[-1:]]


def _joined(fixed: List[str], places: List[int], values: Sequence[str]) -> str:
    parts = list(fixed)
    for place, value in zip(places, values):
        parts[place] = value
    return "".join(parts)


def _ranges(bracket: str, part: str) -> List[str]:
    numbers: List[str] = []
    for text in bracket[1:-1].split(","):
        match = _RANGE.fullmatch(text.strip())
        if match is None:
            raise _error(part, text or bracket)
        low, high, width = int(match[1]), int(match[2] or match[1]), len(match[1])
        if not low <= high < low + MAX_RANGE - len(numbers):
            needed = f"a range that rises and holds {MAX_RANGE} nodes at most"
            raise HostlistError(f"found {text!r} in {part!r}", needed, text)
        numbers += [f"{number:0{width}}" for number in range(low, high + 1)]
    return numbers


def _bracket(numbers: List[int], width: int) -> str:
    """Return numbers as Slurm lists them: [1-3,10], and one alone without brackets."""
    numbers = sorted(set(numbers))
    runs: List[List[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    words = ["-".join(f"{end:0{width}}" for end in dict.fromkeys((run[0], run[-1]))) for run in runs]
    return words[0] if len(numbers) == 1 else f"[{','.join(words)}]"


def _error(text: str, part: str) -> HostlistError:
    return HostlistError(f"found {part!r} in {text!r}", _NEEDED, part)
