"""Reads saved tables in which each line is a row, without looking at each: DuckDB does that on all cores."""

from slurm_tf.account.database import Tables
from slurm_tf.account.saved_text import SavedText
from slurm_tf.account.table import Header
from slurm_tf.account.text_part import LONGEST_SEPARATOR, TextPart


def read(found: Tables, saved: SavedText, header: Header, block: bytes) -> bool:
    """Read the rest of a table, of which `block` was read already; return whether each line is a row.

    If not, some rows may be in the tables. Raises AccountingError if the file is damaged.
    """
    separator = header.delimiter.encode()
    if not separator or len(separator) > LONGEST_SEPARATOR:
        return False
    names = (*header.names, "") if header.closed else header.names
    while block:
        part = TextPart(found.folder / "saved.txt")
        block, separators = _fill(part, saved, block, separator)
        # DuckDB refuses a line with less columns, but not always one with more
        if part.is_odd or separators != part.lines * (len(names) - 1):
            return False
        if not found.read_text(part.path, names, header.delimiter, part.lines, is_checked=False):
            return False
        part.path.unlink()
    return True


def _fill(part: TextPart, saved: SavedText, block: bytes, separator: bytes) -> tuple[bytes, int]:
    """Write a part that begins with `block`; return where the next one begins, and how many separators are in it."""
    separators, last = 0, b""
    while block:
        cut = part.cut(block, b"\n", separator)
        text = block[:cut] if cut else block
        part.write(text)
        separators, last = separators + text.count(separator), text[-1:]
        block = block[cut:] if cut else saved.read()
        if cut:
            break
    if last != b"\n":
        part.write(b"\n")
    part.close()
    return block, separators
