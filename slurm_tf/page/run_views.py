"""The views of runs: the list, a run with its curves and logs, and what can be done with it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from http import HTTPStatus
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from slurm_tf.errors import RunError
from slurm_tf.page import event_streams, run_cache, run_rows
from slurm_tf.page.context import PageContext
from slurm_tf.plots import charts
from slurm_tf.run import bad_nodes
from slurm_tf.watch import cancel, logs, resubmit, results, results_page, results_rows
from slurm_tf.watch.logs import LogFile
from slurm_tf.watch.results import Result
from slurm_tf.watch.run_overview import RunOverview

_ROWS, _LINES, _MOST_STREAMS = 200, 500, 100
_SHOWS = {"": "all", "living": "not over", "failed": "failed", "done": "completed"}

# The heads of a comparison in the terminal, as the page writes them; params and metrics have their own names.
_HEADS = {
    "RUN": "Run", "STATE": "State", "STEP": "Step", "TIME": "Time", "GPU-H": "GPU-hours", "CPU-H": "CPU-hours",
    "GPU": "GPU use",
}  # fmt: skip


class RunViews:
    """The views of the runs in one cache."""

    def __init__(self, context: PageContext) -> None:
        self._context, self._cache = context, context.runs
        self._streams = 0

    def routes(self) -> list[Route]:
        """Return the address of each view: those of a run, then the same of one point of a sweep."""
        found = [Route("/", self.list_runs)]
        for path in run_rows.RUN_ROUTES:
            found += [
                Route(path, self.run),
                Route(f"{path}/events", self.run_events),
                Route(f"{path}/log", self.log),
                Route(f"{path}/log/events", self.log_events),
                Route(f"{path}/compare", self.compare),
                Route(f"{path}/cancel", self.ask_cancel),
                Route(f"{path}/cancel", self.cancel, methods=["POST"]),
                Route(f"{path}/resubmit", self.ask_resubmit),
                Route(f"{path}/resubmit", self.resubmit, methods=["POST"]),
            ]
        return found

    def list_runs(self, request: Request) -> Response:
        """Show all runs, the newest first, or those that a name and a state choose."""
        known = self._cache.look()
        name, show = request.query_params.get("name", "")[:200], request.query_params.get("show", "")
        labels = dict(zip(known.runs, run_rows.labels(list(known.runs.values())), strict=True))
        chosen = [
            (key, points)
            for key, points in reversed([*known.runs.items()])
            if name.lower() in labels[key].lower() and _is_shown(points, show)
        ]
        pages = max(1, -(-len(chosen) // _ROWS))
        page = min(max(1, _number(request.query_params.get("page", ""))), pages)
        shown = chosen[(page - 1) * _ROWS : page * _ROWS]
        values = {
            "title": "Runs",
            "name": name,
            "show": show,
            "shows": _SHOWS.items(),
            "query": urlencode({"name": name, "show": show}),
            "problems": [*known.problem.splitlines(), *known.notes],
            "at": known.at,
            "count_words": _count_words(len(chosen), len(known.runs)),
            "rows": [run_rows.run_row(key, points, labels[key]) for key, points in shown],
            "page": page,
            "pages": pages,
        }
        return self._context.answer(request, "runs", values)

    def run(self, request: Request) -> Response:
        """Show a run or one point of a sweep."""
        key, points = self._points(request)
        first = points[0]
        is_sweep = len(points) > 1
        over = [point.is_over for point in points]
        values = {
            "title": _title(points),
            "address": run_rows.address(key, points),
            "state": run_rows.run_row(key, points, "").state,
            "colour": run_rows.colour(points),
            "why": "" if is_sweep else run_rows.why_words(first),
            "at": self._cache.look(wait=False).at,
            "facts": run_rows.facts(points),
            "limit": "" if is_sweep else self._context.quota.why_waiting(first, self._cache.look(wait=False)),
            "has_job": any(point.job for point in points),
            "may_cancel": any(point.job for point in points) and not all(over),
            "may_resubmit": any(point.job for point in points) and any(over),
            "points": run_rows.point_rows(key, points) if is_sweep else [],
            "plots": [plot for found in _results(points) for plot in run_rows.plots(found)] if not is_sweep else [],
            "logs": [] if is_sweep else run_rows.log_names(first),
            "tasks": [] if is_sweep else run_rows.task_rows(first),
            "attempts": [] if is_sweep else run_rows.attempt_rows(first),
            "checkpoints": [] if is_sweep else run_rows.checkpoint_rows(first),
        }
        return self._context.answer(request, "run", values)

    def compare(self, request: Request) -> Response:
        """Show the points of a sweep beside each other, the best first."""
        key, points = self._points(request)
        found = _results(points)
        metric = results.main_metric(found)
        rows = results.ordered(found, metric)
        columns = results_rows.columns(rows, metric)
        values = {
            "title": f"Points of {points[0].selected.run.name}",
            "address": run_rows.address(key, points),
            "heads": [_HEADS.get(each.head, each.head) for each in columns],
            "rows": list(zip(*(each.cells for each in columns), strict=True)),
            "lines": results_rows.lines(rows, metric),
            "plots": list(
                zip(results_page.plots(rows, metric), results_page.plots(rows, metric, charts.NARROW), strict=True)
            ),
        }
        return self._context.answer(request, "compare", values)

    async def run_events(self, request: Request) -> Response:
        """Send what is new of a run or point."""
        key, points = await run_in_threadpool(self._points, request)
        selected = points[0].selected
        since = request.headers.get("last-event-id", "")
        stream = event_streams.of_run(self._cache, key, selected.point, selected.folder, since)
        return self._stream(stream)

    def log(self, request: Request) -> Response:
        """Show the end of a log."""
        key, points = self._points(request)
        file, task = self._log_file(request, points)
        chunk = next(iter(logs.read([file], _LINES)), None)
        text = chunk.data.decode("utf-8", "replace") if chunk else ""
        values = {
            "title": f"{_title(points)}: {task or 'output of the job'}",
            "address": run_rows.address(key, points),
            "path": file.path,
            "lines": _LINES,
            "is_cut": text.count("\n") >= _LINES,
            "text": event_streams.printable(text),
            "end": chunk.end if chunk else 0,
            "query": urlencode({"task": task, "from": chunk.end if chunk else 0}),
        }
        return self._context.answer(request, "log", values)

    async def log_events(self, request: Request) -> Response:
        """Send what is appended to a log."""
        key, points = await run_in_threadpool(self._points, request)
        file, _ = self._log_file(request, points)
        since = _number(request.headers.get("last-event-id", request.query_params.get("from", "")))
        point = points[0].selected.point

        def is_over() -> bool:
            known = self._cache.look(wait=False).runs.get(key, ())
            return all(each.is_over for each in known if point in (None, each.selected.point))

        return self._stream(event_streams.of_log(file, since, is_over))

    def ask_cancel(self, request: Request) -> Response:
        """Ask whether to cancel a run."""
        question = f"Cancel {_title(self._points(request)[1])} for good? Its jobs end, and no further attempt starts."
        return self._confirm(request, "Cancel", question, "Cancel it", "danger")

    def cancel(self, request: Request) -> Response:
        """Cancel a run."""
        key, points = self._points(request)
        ended = cancel.cancel(self._context.connect(), run_cache.whole(points))
        words = f"Slurm was told to cancel {', '.join(ended)}" if ended else "No job of this run was left to cancel"
        return self._done(request, key, points, words)

    def ask_resubmit(self, request: Request) -> Response:
        """Ask whether to submit a run again, and say from which step it goes on."""
        over = resubmit.points_over(self._context.connect(), run_cache.whole(self._points(request)[1]), failed=False)
        where = resubmit.from_where([point.selected.folder for point in over])
        done = sum(point.exit_code == 0 for point in over)
        completed = f" {done} of these {len(over)} points have completed." if done and len(over) > 1 else ""
        question = f"Submit {len(over)} jobs again with the same code? The run {where}.{completed}"
        return self._confirm(request, "Submit again", question, "Submit", "")

    def resubmit(self, request: Request) -> Response:
        """Submit what is over of a run again."""
        key, points = self._points(request)
        selected = run_cache.whole(points)
        over = resubmit.points_over(self._context.connect(), selected, failed=False)
        sent = resubmit.submit(resubmit.submit_requests(over), bad_nodes.known(selected.run))
        jobs = [job for each in sent for job in each.jobs]
        return self._done(request, key, points, f"Submitted as job {', '.join(jobs)}")

    def _points(self, request: Request) -> tuple[str, tuple[RunOverview, ...]]:
        return run_rows.named_points(request, self._cache)

    def _log_file(self, request: Request, points: Sequence[RunOverview]) -> tuple[LogFile, str]:
        """Return the log that a query names, and the task whose it is. Raises UsageError where there is none."""
        task = request.query_params.get("task", "")
        role, _, index = task.partition(":")
        return logs.log_files(points[0].selected, role, _number(index) if task else None)[0], task

    def _confirm(self, request: Request, title: str, question: str, do: str, kind: str) -> Response:
        key, points = self._points(request)
        values = {"title": title, "question": question, "do": do, "kind": kind}
        return self._context.answer(request, "confirm", {**values, "address": run_rows.address(key, points)})

    def _done(self, request: Request, key: str, points: Sequence[RunOverview], words: str) -> Response:
        self._cache.read_again(points[0].selected.run)
        self._context.sessions.put_note(request.state.cookie, words)
        path = f"{request.scope['root_path']}{run_rows.address(key, points)}"
        return RedirectResponse(path, HTTPStatus.SEE_OTHER)

    def _stream(self, events: AsyncIterator[bytes]) -> Response:
        if self._streams >= _MOST_STREAMS:
            raise HTTPException(HTTPStatus.SERVICE_UNAVAILABLE, f"{_MOST_STREAMS} browsers follow runs already")

        async def counted() -> AsyncIterator[bytes]:
            self._streams += 1
            try:
                async for each in events:
                    yield each
            finally:
                self._streams -= 1

        return StreamingResponse(counted(), media_type="text/event-stream")


def _results(points: Sequence[RunOverview]) -> list[Result]:
    """Return the results of points, without those whose manifest cannot be read."""
    found = []
    for point in points:
        try:
            found.append(results.of_overview(point))
        except (RunError, OSError):
            continue
    return found


def _is_shown(points: Sequence[RunOverview], show: str) -> bool:
    living = any(point.job and not point.is_over for point in points)
    states: Mapping[str, bool] = {
        "living": living,
        "failed": any(point.exit_code not in (None, 0) for point in points),
        "done": all(point.exit_code == 0 for point in points),
    }
    return states.get(show, True)


def _count_words(chosen: int, known: int) -> str:
    if not known:
        return "There is no run yet"
    return f"{known} runs" if chosen == known else f"{chosen} of {known} runs"


def _title(points: Sequence[RunOverview]) -> str:
    return run_cache.whole(points).name


def _number(text: str) -> int:
    """Return a whole number of an address, 0 for other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0
