"""The parts of a long text, which are on disk for DuckDB: each ends where a job does, so that its steps are with it."""

from pathlib import Path

# A part's bytes: each part costs the time to plan its queries.
SIZE = 96 << 20
# DuckDB takes no longer delimiter.
LONGEST_SEPARATOR = 4


class TextPart:
    """The file of one part, which is being written."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = self.lines = 0
        self.is_odd = False  # whether it has bytes that DuckDB takes for the end of a row or of the text
        self._file = path.open("wb")

    def write(self, text: bytes) -> None:
        """Add text."""
        self._file.write(text)
        self.size += len(text)
        self.lines += text.count(b"\n")
        self.is_odd = self.is_odd or b"\r" in text or b"\0" in text

    def cut(self, text: bytes, end_of_row: bytes, separator: bytes) -> int:
        """Return where the next part begins in the text that follows: at its last job; 0 if this part has room yet."""
        return _last_job(text, end_of_row, separator) if self.size + len(text) >= SIZE else 0

    def close(self) -> None:
        """End the file."""
        self._file.close()


def _last_job(text: bytes, end_of_row: bytes, separator: bytes) -> int:
    """Return where the last row of a job seems to begin, 0 if that is not found."""
    end = len(text)
    while (end := text.rfind(end_of_row, 0, end)) >= 0:
        begin = end + len(end_of_row)
        if b"." not in text[begin : text.find(separator, begin)]:
            return begin
    return 0
