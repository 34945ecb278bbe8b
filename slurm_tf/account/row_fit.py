"""Finds the fields of a row whose free text contains the table's delimiter: by the forms that the other fields have."""

import re
from collections.abc import Iterator, Sequence
from itertools import islice

# Free text, which may contain a table's delimiter and newlines; the most likely first.
FREE = ("JobName", "SubmitLine", "Comment", "WorkDir", "AdminComment", "Extra", "SystemComment", "Constraints")
# What contains commas by itself, in a table whose delimiter is one.
_WITH_COMMAS = ("AllocTRES", "ReqTRES", "NodeList", "TRESUsageInTot", "TRESUsageInAve", "TRESUsageInMax", "Flags")
_TIME = r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d|\d{1,10}|Unknown|None|N/A|)"
_CLOCK = r"((\d+-)?(\d+:)?\d+:\d+(\.\d+)?|)"
_LIMIT = rf"(UNLIMITED|Partition_Limit|{_CLOCK})"
_TRES = r"([\w/:.-]+=[^,=|]*(,[\w/:.-]+=[^,=|]*)*)?"
_SIZE = r"([\d.]+[KMGTPE]?[cn]?)?"
# Without these a row is none.
_SURE = {
    "JobID": r"\d+(_(\d+|\[[^\]]*\]?)|\+\d+)?(\..*)?",
    "JobIDRaw": r"\d+(\..*)?",
    "State": r"[A-Z][A-Z_]*( by \d+)?\+?",
    **dict.fromkeys(("Start", "End"), _TIME),
}
_USUAL = {
    **_SURE,
    **dict.fromkeys(("Submit", "Eligible"), _TIME),
    **dict.fromkeys(("Elapsed", "CPUTime", "TotalCPU", "UserCPU", "SystemCPU", "AveCPU", "Suspended"), _CLOCK),
    **dict.fromkeys(
        (
            "ElapsedRaw", "CPUTimeRAW", "AllocCPUS", "NCPUS", "NNodes", "AllocNodes", "NTasks", "Restarts", "UID",
            "GID", "ReqCPUS", "ReqNodes", "Priority",
        ),
        r"\d*",
    ),
    **dict.fromkeys(("ReqTRES", "AllocTRES", "TRESUsageInTot", "TRESUsageInAve", "TRESUsageInMax"), _TRES),
    **dict.fromkeys(("User", "Group", "Account", "Partition", "Cluster", "QOS"), r"\S*"),
    **dict.fromkeys(("MaxRSS", "AveRSS", "MaxVMSize", "AveVMSize", "ReqMem"), _SIZE),
    **dict.fromkeys(("Timelimit", "TimelimitRaw"), rf"(\d+|{_LIMIT})"),
    **dict.fromkeys(("ExitCode", "DerivedExitCode"), r"(\d+:\d+)?"),
    "NodeList": r"(None assigned|[^\s=]*)",
}  # fmt: skip
_LINE = r"[^\n]*"
_ANYTHING = r"[\s\S]*"
_NAMED = r"(?:^|\s)(?:-[a-zA-Z]*J\s*|--job-name[=\s])[\"']?{name}[\"']?(?:\s|$)"
_WORD = r"(?:^|[\s\"'/]){name}(?:$|[\s\"'])"
_COMMAND = re.compile(r"(\S*/)?(sbatch|srun|salloc)(\s|$)")
# More delimiters in free texts, and more divisions of a row, are not looked at.
_MOST_EXTRA, _MOST = 200, 5_000
Form = re.Pattern[str]


class RowFit:
    """Fits rows into columns. `closed`: there is an empty field after the last column as well."""

    def __init__(self, names: Sequence[str], delimiter: str, closed: bool = False) -> None:
        self.names, self.delimiter, self.closed = tuple(names), delimiter, closed
        free = {*FREE, *(_WITH_COMMAS if delimiter == "," else ())}
        self._free = [at for at, name in enumerate(self.names) if name in free]
        self._name = self.names.index("JobName") if "JobName" in self.names else None
        self._line = self.names.index("SubmitLine") if "SubmitLine" in self.names else None
        self._usual = [_form(name, _USUAL) for name in self.names]
        self._sure = [_form(name, _SURE) for name in self.names]

    def fit(self, text: str) -> list[str] | None:
        """Return the fields of a row, None if it is none. Extra delimiters are taken as part of free texts.

        With `closed`, the last field is the empty one after the last column.

        Fields of numbers that are none are accepted if no other division of the row is better.
        """
        fields = text.split(self.delimiter)
        if self.closed and fields.pop():
            return None
        if not 0 <= len(fields) - len(self.names) <= _MOST_EXTRA:
            return None
        row = self._best(fields, self._usual) or self._best(fields, self._sure)
        return [*row, ""] if row and self.closed else row

    def matches(self, fields: Sequence[str]) -> bool:
        """Return whether the first columns have these fields."""
        return all(form.fullmatch(field) for form, field in zip(self._usual, fields, strict=False))

    def _best(self, fields: list[str], forms: Sequence[Form]) -> list[str] | None:
        if len(fields) == len(self.names):
            return fields if _match(forms, fields) else None
        found = islice(self._divisions(fields, forms, 0, 0, set()), _MOST)
        return min(found, key=self._rank, default=None)

    def _divisions(
        self, fields: list[str], forms: Sequence[Form], number: int, at: int, dead: set[tuple[int, int]]
    ) -> Iterator[list[str]]:
        """Yield the divisions of fields[at:] among the columns after the free column before `number`.

        `dead`: numbers and places of which it is known that there is none.
        """
        if (number, at) in dead:
            return
        dead.add((number, at))  # until one is found
        column = self._free[number - 1] + 1 if number else 0
        if number == len(self._free):
            fixed = fields[at:]
            if len(fixed) == len(self.names) - column and _match(forms[column:], fixed):
                dead.discard((number, at))
                yield fixed
            return
        own = self._free[number]
        fixed = fields[at : at + own - column]
        if not _match(forms[column:own], fixed):
            return
        begin = at + own - column
        for end in range(begin + 1, len(fields) - (len(self.names) - own - 1) + 1):
            text = self.delimiter.join(fields[begin:end])
            if forms[own].fullmatch(text):
                for rest in self._divisions(fields, forms, number + 1, end, dead):
                    dead.discard((number, at))
                    yield [*fixed, text, *rest]

    def _rank(self, row: Sequence[str]) -> tuple[int, int, int, int]:
        """Return how unlikely a division is: the submitting command is one and names the job, few have delimiters."""
        holding = [self.names[at] for at in self._free if self.delimiter in row[at]]
        order = sum(FREE.index(name) for name in holding if name in FREE)
        return self._unnamed(row), self._misplaced(row), len(holding), order

    def _misplaced(self, row: Sequence[str]) -> int:
        """Return 0 if the command that submitted is one, and the folder a path; 1 if the former; 2 otherwise."""
        if self._line is None or not _COMMAND.match(row[self._line]):
            return 2
        return int("WorkDir" in self.names and not row[self.names.index("WorkDir")].startswith("/"))

    def _unnamed(self, row: Sequence[str]) -> int:
        """Return 0 if the submitting command names the job so, 1 if it repeats a delimiter in the name, 2 otherwise."""
        if self._name is None or self._line is None:
            return 2
        name, line = row[self._name], row[self._line]
        if not re.search(r"\w", name):
            return 2
        if re.search(_NAMED.format(name=re.escape(name)), line):
            return 0
        return 1 if self.delimiter in name and re.search(_WORD.format(name=re.escape(name)), line) else 2


def _form(name: str, forms: dict[str, str]) -> Form:
    usual = _ANYTHING if name in FREE else _LINE
    return re.compile(forms.get(name, usual), re.ASCII)


def _match(forms: Sequence[Form], fields: Sequence[str]) -> bool:
    return len(forms) == len(fields) and all(map(re.Pattern.fullmatch, forms, fields))
