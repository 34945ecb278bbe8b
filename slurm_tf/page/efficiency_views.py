"""The view of what a run's jobs asked for and used, and what to ask for next time, as `slurm-tf efficiency` says."""

import json
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from slurm_tf import units
from slurm_tf.page import run_cache, run_rows
from slurm_tf.page.context import PageContext

HEADS = ("Resource", "Asked for", "Used", "Next time", "Why")
_UNKNOWN = "unknown"


class EfficiencyViews:
    """The views of efficiency."""

    def __init__(self, context: PageContext) -> None:
        self._context = context

    def routes(self) -> list[Route]:
        """Return the address of each view: that of a run, and of a point of a sweep."""
        return [Route(f"{path}/efficiency", self.efficiency) for path in run_rows.RUN_ROUTES]

    def efficiency(self, request: Request) -> Response:
        """Show each resource of a run's jobs; where accounting does not know them yet, that."""
        key, points = run_rows.named_points(request, self._context.runs)
        whole = run_cache.whole(points)
        said: Mapping[str, Any] = {"components": [], "notes": []}
        problem = ""
        try:
            # a path names no other run, and no option
            said = json.loads(self._context.reports.report("efficiency", whole.folder.path, "--json").text)
        except HTTPException as error:
            problem = error.detail
        values = {
            "title": f"Efficiency of {whole.name}",
            "address": run_rows.address(key, points),
            "heads": HEADS,
            "components": [_component(each) for each in said["components"]],
            "notes": said["notes"],
            "problems": problem.splitlines(),
        }
        return self._context.answer(request, "efficiency", values)


def _component(found: Mapping[str, Any]) -> dict[str, object]:
    """Return the name of a component, its facts by name, the cells of its resources, and what is left open."""
    ends = ", ".join(f"{count} {end}" for end, count in found["ends"].items())
    return {
        "name": f"Component {found['component']}" if found["component"] else "The job",
        "facts": [
            ("Incarnations", f"{found['incarnations']} ({ends})"),
            ("Ran for", _length(found["seconds"])),
            ("Waited for", _length(found["waited_seconds"])),
        ],
        "rows": [_cells(row) for row in found["advice"]],
        "notes": found["notes"],
    }


def _cells(row: Mapping[str, Any]) -> Sequence[str]:
    share = "" if row["share"] is None else f" ({row['share']:.0%})"
    return [row["key"], row["asked"], f"{row['used']}{share}", row["next"] or "as now", row["why"]]


def _length(seconds: int | None) -> str:
    return _UNKNOWN if seconds is None else f"{units.format_time(timedelta(seconds=seconds))} (hours:min:s)"
