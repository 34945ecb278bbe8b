"""Messages as lines of srun's output: in pieces, as srun may put lines of other tasks between parts of a long one."""

import re
from typing import Dict, List, Mapping, Optional, Tuple, Type, TypeVar

from slurm_tf.run import message_codec

_Message = TypeVar("_Message")
# srun passes on 1024 bytes at a time (MAX_MSG_LEN, 22.05.8).
_PIECE = 800
_LINE = re.compile(r"stf-message (\d+) (\d+)/(\d+) (.*)")
# srun --label
LABELLED = re.compile(r"\s*(\d+): (.*)")


def split(message: object, number: int) -> List[str]:
    """Return the lines of a message; `number`: how many the same task has sent before."""
    text = message_codec.encode(message)
    pieces = [text[start : start + _PIECE] for start in range(0, len(text), _PIECE)]
    return [f"stf-message {number} {index}/{len(pieces)} {piece}" for index, piece in enumerate(pieces)]


class Joiner:
    """Puts the messages of one task together."""

    def __init__(self) -> None:
        self._pieces: Dict[int, Dict[int, str]] = {}

    def add(self, line: str, kinds: Mapping[str, Type[_Message]]) -> Tuple[bool, Optional[_Message]]:
        """Take a line; return whether it is of a message, and the message if it is whole. Raises ValueError."""
        match = _LINE.fullmatch(line)
        if match is None:
            return False, None
        number, index, count = int(match[1]), int(match[2]), int(match[3])
        pieces = self._pieces.setdefault(number, {})
        pieces[index] = match[4]
        if len(pieces) < count:
            return True, None
        del self._pieces[number]
        return True, message_codec.decode("".join(pieces[place] for place in sorted(pieces)), kinds)
