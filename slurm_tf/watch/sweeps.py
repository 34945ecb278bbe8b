"""Folds the points of a sweep or job array into one line: how many are done, and which is the best so far."""

import contextlib
import itertools
from collections import Counter
from collections.abc import Iterator, Sequence

from slurm_tf.errors import RunError
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import whole_job
from slurm_tf.watch import reasons, results, results_rows, status_rows
from slurm_tf.watch.results import Result
from slurm_tf.watch.run_overview import RunOverview

_DONE = "done"


def by_run(points: Sequence[RunOverview]) -> Iterator[list[RunOverview]]:
    """Yield the points of each run, one list a run, in their order."""
    for _, group in itertools.groupby(points, key=lambda point: point.selected.run):
        yield list(group)


def state_words(points: Sequence[RunOverview]) -> str:
    """Return how many points are done, and in which states the others are: "4/6 done, 1 failed, 1 running"."""
    counts = Counter(map(_word, points))
    done = counts.pop(_DONE, 0)
    others = [f"{number} {word}" for word, number in sorted(counts.items(), key=lambda each: (-each[1], each[0]))]
    return ", ".join([f"{done}/{len(points)} {_DONE}", *others])


def best_words(points: Sequence[RunOverview]) -> str:
    """Return which point is the best so far by the metric that matters most, "" if none has reported one."""
    found: list[Result] = []
    for point in points:
        with contextlib.suppress(RunError, OSError):
            found.append(results.of_overview(point))
    metric = results.main_metric(found)
    best = results.best(found, metric)
    return results_rows.best_line(best, metric) if best else ""


def jobs(points: Sequence[RunOverview]) -> str:
    """Return the ids of the points' newest jobs: of tasks of one array that of the array."""
    return ",".join(dict.fromkeys(whole_job(point.job) for point in points if point.job))


def failed(points: Sequence[RunOverview]) -> list[RunOverview]:
    """Return the points that have ended, and not well."""
    return [point for point in points if point.exit_code not in (None, 0)]


def reason_words(points: Sequence[RunOverview]) -> str:
    """Return why the first point that is pending has not started, "" if none is pending."""
    return next((reasons.reason_words(point) for point in points if point.state is JobState.PENDING), "")


def node_lists(points: Sequence[RunOverview]) -> str:
    """Return the node lists of the points that have not ended."""
    lists = [status_rows.node_lists(point.records) for point in points if not point.is_over]
    return ",".join(dict.fromkeys(filter(None, lists)))


def _word(point: RunOverview) -> str:
    if point.exit_code == 0:
        return _DONE
    if point.state is not JobState.UNKNOWN:
        return point.state.name.lower().replace("_", " ")
    if point.is_over:
        return "cancelled"
    return "unknown" if point.job else "not submitted"
