"""The view of what jobs used, as `slurm-tf usage` says: the user's own, and for an admin those of organizations."""

import csv
from collections.abc import Callable, Mapping
from datetime import timedelta
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from slurm_tf import units
from slurm_tf.page.context import PageContext

_DAYS = {"7": "7 days", "30": "30 days", "90": "90 days", "365": "a year"}
_MINE, _ALL = "mine", "all"
_WHOSE = {_MINE: "my jobs", _ALL: "the jobs of all users"}
_SUMMARY = {"": "what was wasted, and what to do"}
_GROUPS = {
    "account": "organization", "user": "user", "account,user": "organization and user", "template": "template",
    "name": "name", "state": "state", "partition": "partition", "day": "day",
}  # fmt: skip
_UNKNOWN = "unknown"


def _hours(text: str) -> str:
    """Return hours as the verb has them: of a few, two decimals."""
    number = float(text)
    return f"{number:.2f}" if 0 < number < 10 else f"{number:.1f}"


def _share(text: str) -> str:
    return f"{float(text):.0%}"


def _wait(text: str) -> str:
    return units.format_time(timedelta(seconds=float(text)))


# The columns of --csv that are shown, each with its head and its words.
_COLUMNS: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "gpu_hours": ("GPU-hours", _hours),
    "cpu_hours": ("CPU-hours", _hours),
    "jobs": ("Jobs", str),
    "wait_p50": ("Median wait, hours:min:s", _wait),
    "gpu_use": ("GPU use", _share),
    "cpu_use": ("CPU use", _share),
    "memory_use": ("Memory use", _share),
    "lost_gpu_hours_at_most": ("Lost GPU-hours, at most", _hours),
    "lost_cpu_hours_at_most": ("Lost CPU-hours, at most", _hours),
    "effective": ("Effective time, at most", _share),
    "cost": ("Cost", str),
}


class UsageViews:
    """The views of usage."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Return the address of each view."""
        return [Route("/usage", self.usage)]

    def usage(self, request: Request) -> Response:
        """Show what jobs used in some days: in words, or a table by what was chosen."""
        is_admin = self._context.admin.look()
        whose = _chosen(request, "whose", _WHOSE if is_admin else {_MINE: _WHOSE[_MINE]}, _MINE)
        groups = _GROUPS if whose == _ALL else {**_SUMMARY, **_GROUPS}
        days, group = _chosen(request, "days", _DAYS, "30"), _chosen(request, "by", groups, next(iter(groups)))
        words = [f"--since=now-{days}days"]
        words += [f"--by={group}", "--csv"] if group else []
        words += ["--all-users"] if whose == _ALL else []
        report = self._context.reports.report("usage", *words)
        heads, rows = _table(report.text, group) if group else ([], [])
        values = {
            "title": "Usage",
            "days": days,
            "all_days": _DAYS.items(),
            "whose": whose,
            "all_whose": _WHOSE.items() if is_admin else (),
            "by": group,
            "by_words": groups[group],
            "groups": groups.items(),
            "heads": heads,
            "rows": rows,
            "text": "" if group else report.text,
            "notes": report.notes,
        }
        return self._context.answer(request, "usage", values)


def _chosen(request: Request, name: str, known: Mapping[str, str], default: str) -> str:
    """Return a word of the query. Raises HTTPException for one that the form does not have."""
    word = request.query_params.get(name, default)
    if word not in known:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"found {name}={word}; needed one of: {', '.join(known)}")
    return word


def _table(text: str, group: str) -> tuple[list[str], list[list[str]]]:
    """Return the heads and the rows of a table, without the columns of which nothing is known."""
    rows = list(csv.DictReader(text.splitlines()))
    keys = group.split(",")
    columns = [name for name in _COLUMNS if any(row.get(name) for row in rows)]
    heads = [_GROUPS[key].capitalize() for key in keys] + [_COLUMNS[name][0] for name in columns]
    return heads, [
        [*(row[key] or "-" for key in keys), *(_cell(row[name], _COLUMNS[name][1]) for name in columns)] for row in rows
    ]


def _cell(text: str, words: Callable[[str], str]) -> str:
    return words(text) if text else _UNKNOWN
