"""Reads saved tables in which each line is a row, without looking at each: DuckDB does that on all cores."""

from slurm_tf.account import sacct_stream
from slurm_tf.account.database import Tables
from slurm_tf.account.saved_text import SavedText
from slurm_tf.account.table import Header

# DuckDB takes no longer delimiter.
_LONGEST_DELIMITER = 4


def read(found: Tables, saved: SavedText, header: Header, block: bytes) -> bool:
    """Read the rest of a table, of which `block` was read already; return whether each line is a row.

    If not, some rows may be in the tables. Raises AccountingError if the file is damaged.
    """
    separator = header.delimiter.encode()
    if not separator or len(separator) > _LONGEST_DELIMITER:
        return False
    names = (*header.names, "") if header.closed else header.names
    path = found.folder / "saved.txt"
    rest = block
    while rest:
        lines, separators, size, last = 0, 0, 0, b""
        with path.open("wb") as file:
            while rest:
                cut = sacct_stream.last_job(rest, b"\n", separator) if size + len(rest) >= sacct_stream.PART else 0
                text, rest = (rest[:cut], rest[cut:]) if cut else (rest, saved.read())
                if b"\r" in text or b"\0" in text:
                    return False
                file.write(text)
                size, lines, last = size + len(text), lines + text.count(b"\n"), text[-1:]
                separators += text.count(separator)
                if cut:
                    break
            if last != b"\n":
                file.write(b"\n")
                lines += 1
        # DuckDB refuses a line with less columns, but not always one with more
        if separators != lines * (len(names) - 1):
            return False
        if not found.read_text(path, names, header.delimiter, lines, is_checked=False):
            return False
    path.unlink(missing_ok=True)
    return True
