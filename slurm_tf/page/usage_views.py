"""The view of what jobs used, as `slurm-tf usage` says: the user's own, and for an admin those of organizations."""

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from http import HTTPStatus
from typing import Any

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


# The columns of --csv and of --json that are shown, each with its head and its words.
_COLUMNS: Mapping[str, tuple[str, Callable[[str], str]]] = {
    "gpu_hours": ("GPU-hours", _hours),
    "cpu_hours": ("CPU-hours", _hours),
    "jobs": ("Jobs", str),
    "wait_p50": ("Median wait, hours:min:s", _wait),
    "gpu_use": ("GPU use", _share),
    "cpu_use": ("CPU use", _share),
    "memory_use": ("Memory use", _share),
    "idle_gpu_hours": ("Idle GPU-hours", _hours),
    "wasted_gpu_hours_at_most": ("Wasted GPU-hours, at most", _hours),
    "wasted_cpu_hours_at_most": ("Wasted CPU-hours, at most", _hours),
    "lost_gpu_hours_at_most": ("Lost GPU-hours, at most", _hours),
    "lost_cpu_hours_at_most": ("Lost CPU-hours, at most", _hours),
    "effective": ("Effective time, at most", _share),
    "cost": ("Cost", str),
}


@dataclass(frozen=True, slots=True)
class _Summary:
    """What the verb says to a person without --by: what was used, what was wasted, and the causes, in words."""

    used: str
    wasted: str
    causes: Sequence[str]


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
        words += [f"--by={group}", "--csv"] if group else ["--json"]
        words += ["--all-users"] if whose == _ALL else []
        report = self._context.reports.report("usage", *words)
        found = {} if group else json.loads(report.text)
        heads, rows = _table(_rows_of_csv(report.text) if group else _rows_of_json(found), group or "template")
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
            "summary": None if group else _summary(found),
            "notes": (*report.notes, *found.get("notes", ())),
        }
        return self._context.answer(request, "usage", values)


def _chosen(request: Request, name: str, known: Mapping[str, str], default: str) -> str:
    """Return a word of the query. Raises HTTPException for one that the form does not have."""
    word = request.query_params.get(name, default)
    if word not in known:
        raise HTTPException(HTTPStatus.BAD_REQUEST, f"found {name}={word}; needed one of: {', '.join(known)}")
    return word


def _rows_of_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(text.splitlines()))


def _rows_of_json(found: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return the rows of templates as --csv would have them: empty for unknown."""
    return [{name: "" if value is None else str(value) for name, value in row.items()} for row in found["templates"]]


def _summary(found: Mapping[str, Any]) -> _Summary:
    total, wasted = found["total"], found["wasted"]
    jobs = f"{total['jobs']} job{'s' * (total['jobs'] != 1)}"
    causes = [f"{each['what']}: {_amount(each)}; {each['advice']}" for each in wasted["causes"]]
    at_most = " at most" if wasted["is_at_most"] else ""
    return _Summary(
        used=f"{_amount(total)} in {jobs}." if total["jobs"] else "No job of yours ran in these days.",
        wasted=f"Wasted: {_amount(wasted)}{at_most}" if causes else "Nothing was wasted, as far as Slurm knows.",
        causes=causes,
    )


def _amount(each: Mapping[str, Any]) -> str:
    """Return GPU-hours, or CPU-hours where there are none."""
    if each["gpu_hours"]:
        return f"{_hours(str(each['gpu_hours']))} GPU-hours"
    return "unknown hours" if each["cpu_hours"] is None else f"{_hours(str(each['cpu_hours']))} CPU-hours"


def _table(rows: Sequence[Mapping[str, str]], group: str) -> tuple[list[str], list[list[str]]]:
    """Return the heads and the rows of a table, without the columns of which nothing is known."""
    keys = group.split(",")
    columns = [name for name in _COLUMNS if any(row.get(name) for row in rows)]
    heads = [_GROUPS[key].capitalize() for key in keys] + [_COLUMNS[name][0] for name in columns]
    return heads, [
        [*(row[key] or "-" for key in keys), *(_cell(row[name], _COLUMNS[name][1]) for name in columns)] for row in rows
    ]


def _cell(text: str, words: Callable[[str], str]) -> str:
    return words(text) if text else _UNKNOWN
