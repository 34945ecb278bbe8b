"""A saved file as a source."""

from collections.abc import Iterator, Sequence
from itertools import islice

from slurm_tf.account import saved_lines, saved_tables, saved_text
from slurm_tf.account.database import Tables
from slurm_tf.account.fields import lacked, missing
from slurm_tf.account.saved_tables import SavedTable
from slurm_tf.account.source import Source
from slurm_tf.account.table import Header, read_header
from slurm_tf.account.window import Window
from slurm_tf.errors import AccountingError

# The rows of a part; it ends where a job does.
_PART = 50_000


class FileSource(Source):
    """Reads a file, or standard input for "-". `form`: the columns as for --fields, if the file has no header.

    Times are local times of the environment's TZ, as sacct prints them, or seconds since the epoch
    (SLURM_TIME_FORMAT=%s). A running job is counted until the file was saved. The file may be a concatenation of
    several tables: each incarnation counts once, and a row of its end replaces one of the running job.
    `lengths_suffice`: a table may say how long jobs ran, but not when.
    """

    def __init__(self, path: str, form: str = "", delimiter: str = "", lengths_suffice: bool = False) -> None:
        super().__init__()
        self.path, self.form, self.delimiter, self.lengths_suffice = path, form, delimiter, lengths_suffice

    def fill(
        self,
        found: Tables,
        window: Window,  # noqa: ARG002 - of all that is read, `read` selects
        users: Sequence[str] = (),  # noqa: ARG002
        accounts: Sequence[str] = (),  # noqa: ARG002
        jobs: Sequence[str] = (),  # noqa: ARG002
    ) -> None:
        """Read the whole file. Raises AccountingError if it is not a table of sacct."""
        if self.path == "-" or self.form or not self._read_lines(found):
            found.clear()
            self._read_rows(found)
        found.drop_repeated()

    def _read_lines(self, found: Tables) -> bool:
        """Read a table in which each line is a row, all at once; return whether it is one. If not, all is to be read
        again.
        """
        with saved_text.opened(self.path) as saved:
            found.now = saved.saved
            block = b"" if saved.is_json else saved.read()
            first, _, rest = block.partition(b"\n")
            header = read_header(first.decode(errors="replace"), self.delimiter)
            if header is None or header.is_csv or header.id_at or missing(header.names, self.lengths_suffice):
                return False
            self._note(found, header)
            return saved_lines.read(found, saved, header, rest)

    def _read_rows(self, found: Tables) -> None:
        """Read tables row by row, however they were saved. Raises AccountingError."""
        with saved_text.opened(self.path) as saved:
            found.now = saved.saved
            for table in saved_tables.read(saved, found.diagnostics.unreadable, self.form, self.delimiter):
                lacking = missing(table.names, self.lengths_suffice)
                if lacking:
                    raise AccountingError(
                        f"there is no column {', '.join(lacking)}", "it",
                        "sacct -P --duplicates --format=JobID,State,Submit,Start,End,ElapsedRaw,User,Account,"
                        "AllocTRES,...", where=self.path,
                    )  # fmt: skip
                self._note(found, table)
                for part in _parts(table):
                    found.read_rows(part, table.names)

    def _note(self, found: Tables, table: "SavedTable | Header") -> None:
        """Note the columns that a table lacks, and those that are not known."""
        diagnostics = found.diagnostics
        diagnostics.missing_fields += [name for name in lacked(table.names) if name not in diagnostics.missing_fields]
        diagnostics.unknown_fields += [name for name in table.unknown if name not in diagnostics.unknown_fields]


def _parts(table: SavedTable) -> Iterator[list[list[str]]]:
    """Yield the rows of a table in parts; the steps of a job are in the same part as their job, if they follow it."""
    id_at = table.names.index("JobID" if "JobID" in table.names else "JobIDRaw")
    rows, held = iter(table.rows), list[list[str]]()
    while len(part := list(islice(rows, _PART))) == _PART:
        part = held + part
        last = next((at for at in range(len(part) - 1, -1, -1) if "." not in part[at][id_at]), 0)
        held = part[last:]
        yield part[:last]
    yield held + part
