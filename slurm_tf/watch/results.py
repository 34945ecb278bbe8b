"""Results of runs: what each run or sweep point reported of its training, beside its params, state, time and hours."""

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from slurm_tf.run import progress
from slurm_tf.run.progress import StepReport
from slurm_tf.run.status import AttemptState
from slurm_tf.slurm.client import Client
from slurm_tf.watch import gpu_use, run_overview, run_params, status_rows
from slurm_tf.watch.find_run import SelectedRun
from slurm_tf.watch.run_overview import RunOverview

# Words in the names of metrics, those of Keras and others; the last one in a name counts.
_LOWER = (
    "loss", "error", "err", "mse", "mae", "rmse", "mape", "msle", "nll", "perplexity", "ppl", "wer", "cer",
    "crossentropy", "divergence", "distance", "fid", "hinge", "logcosh", "poisson",
)  # fmt: skip
_HIGHER = (
    "accuracy", "acc", "auc", "precision", "recall", "f1", "iou", "miou", "dice", "bleu", "rouge", "reward", "return",
    "score", "r2", "map", "psnr", "ssim", "similarity",
)  # fmt: skip
# How the names of metrics begin that are measured on other data than those of the training.
_HELD_OUT = ("val_", "evaluator_", "eval_", "test_")
# What an evaluator reports has this before its name.
_EVALUATOR = "evaluator_"


class Goal(Enum):
    """Which values of a metric are better, by its name; UNKNOWN where that does not say so."""

    MIN = "min"
    MAX = "max"
    UNKNOWN = ""


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric of a run: its last value, and the best one with its step. None: NaN, or none that is known."""

    goal: Goal
    last: float | None
    best: float | None
    best_step: int | None


@dataclass(frozen=True, slots=True)
class Result:
    """What is known of a run or sweep point. `params`: those in which points differ come first.

    `reports`: by the prefix of their metrics' names. `seconds`: how long its attempts ran, None if none has started;
    `cpus`, `gpus`: how many its job has, None if the job file does not say; `gpu_busy`: the mean of all samples of its
    GPUs in percent, None where none was taken.
    """

    overview: RunOverview
    params: Mapping[str, Any]
    reports: Mapping[str, Sequence[StepReport]]
    metrics: Mapping[str, Metric]
    seconds: float | None
    cpus: int | None
    gpus: int | None
    gpu_busy: float | None = None

    @property
    def name(self) -> str:
        """NAME, or NAME/POINT."""
        return self.overview.selected.name

    @property
    def state(self) -> str:
        """The job's state; of a run on this machine what its coordinator wrote."""
        attempt = self.overview.attempt
        if self.overview.job or attempt is None:
            return status_rows.state_text(self.overview)
        if attempt.state is not AttemptState.ENDED:
            return str(attempt.state.value)
        return "FAILED" if attempt.code else "COMPLETED"

    @property
    def has_failed(self) -> bool:
        """Whether it has ended, and not well."""
        attempt = self.overview.attempt
        if self.overview.job:
            return self.overview.exit_code not in (None, 0)
        return attempt is not None and attempt.state is AttemptState.ENDED and attempt.code != 0

    @property
    def step(self) -> int | None:
        """The last step of which it has reported."""
        return max((each[-1].step for each in self.reports.values() if each), default=None)

    @property
    def cpu_hours(self) -> float | None:
        """CPU-hours, None if they are not known."""
        return None if None in (self.seconds, self.cpus) else (self.seconds or 0) * (self.cpus or 0) / 3600

    @property
    def gpu_hours(self) -> float | None:
        """GPU-hours, None if they are not known."""
        return None if None in (self.seconds, self.gpus) else (self.seconds or 0) * (self.gpus or 0) / 3600

    def values(self, metric: str) -> list[tuple[int, float]]:
        """Return (step, value) of each report that has a finite value of a metric."""
        for prefix, reports in self.reports.items():
            name = metric.removeprefix(prefix)
            if metric.startswith(prefix) and any(name in each.values for each in reports):
                return [(each.step, value) for each in reports if (value := each.values.get(name)) is not None]
        return []


def goal(name: str) -> Goal:
    """Return which values of the metric `name` are better."""
    for word in reversed(re.split(r"[^a-z0-9]+", name.lower())):
        if word in _LOWER:
            return Goal.MIN
        if word in _HIGHER:
            return Goal.MAX
    return Goal.UNKNOWN


def read(slurm: Client, selected_runs: Sequence[SelectedRun]) -> list[Result]:
    """Return the result of each run or sweep point, in the order of the runs. Raises RunError or OSError."""
    return [of_overview(each) for each in run_overview.read_overviews(slurm, selected_runs)]


def of_overview(overview: RunOverview) -> Result:
    """Return the result of the run or sweep point of which an overview tells. Raises RunError or OSError."""
    selected, folder = overview.selected, overview.selected.folder
    origin = run_params.origin(selected)
    reports = {"": progress.read(folder.progress), _EVALUATOR: progress.read(folder.evaluator_progress)}
    metrics: dict[str, Metric] = {}
    for prefix, each in reports.items():
        metrics |= {f"{prefix}{name}": found for name, found in _metrics(each).items()}
    return Result(
        overview=overview,
        params=origin.params_of(selected.point),
        reports={prefix: each for prefix, each in reports.items() if each},
        metrics=metrics,
        seconds=_seconds(overview),
        cpus=origin.cpus,
        gpus=origin.gpus,
        gpu_busy=gpu_use.mean_busy(folder),
    )


def all_metrics(results: Iterable[Result]) -> list[str]:
    """Return the names of all metrics, in the order in which runs report them."""
    return list(dict.fromkeys(name for each in results for name in each.metrics))


def main_metric(results: Sequence[Result]) -> str:
    """Return the metric by which runs are compared unless another one is asked for; "" if there is none.

    One on held-out data comes before one of the training, and an accuracy before a loss.
    """
    known = [name for name in all_metrics(results) if goal(name) is not Goal.UNKNOWN]
    return min(known, key=lambda name: (not name.startswith(_HELD_OUT), goal(name) is not Goal.MAX), default="")


def best(results: Sequence[Result], metric: str) -> Result | None:
    """Return the result with the best value of a metric, None if none has a value of it."""
    found = ordered([each for each in results if metric in each.metrics], metric)
    return found[0] if found and found[0].metrics[metric].best is not None else None


def ordered(results: Sequence[Result], key: str) -> list[Result]:
    """Return the results by a metric, the best first, or by a param, the lowest first; those without it are last."""

    def place(each: Result) -> tuple[int, float, str]:
        found = each.metrics.get(key)
        if found is not None:
            value = found.last if found.goal is Goal.UNKNOWN else found.best
            if value is None:
                return 1, 0.0, ""
            return 0, -value if found.goal is Goal.MAX else value, ""
        param = each.params.get(key)
        if isinstance(param, int | float):
            return 0, param, ""
        return (1, 0.0, "") if param is None else (0, 0.0, str(param))

    return sorted(results, key=place)


def _metrics(reports: Sequence[StepReport]) -> dict[str, Metric]:
    values: dict[str, list[tuple[int, float | None]]] = {}
    for each in reports:
        for name, value in each.values.items():
            values.setdefault(name, []).append((each.step, value))
    return {name: _metric(goal(name), found) for name, found in values.items()}


def _metric(kind: Goal, values: Sequence[tuple[int, float | None]]) -> Metric:
    finite = [(value, step) for step, value in values if value is not None]
    if kind is Goal.UNKNOWN or not finite:
        return Metric(kind, values[-1][1], None, None)
    choose: Callable[..., float] = min if kind is Goal.MIN else max
    value = choose(value for value, _ in finite)
    return Metric(kind, values[-1][1], value, next(step for each, step in finite if each == value))


def _seconds(overview: RunOverview) -> float | None:
    """Return how long all attempts ran: one that was killed counts until it last wrote something."""
    attempts = overview.attempts or ()
    if not attempts:
        first = overview.records[0] if overview.records else None
        started = first.started.timestamp() if first and first.started else None
        return None if started is None else max(0.0, _end(overview) - started)
    *former, last = attempts
    ends = [(each, each.ended or each.saved or each.began or each.started) for each in former]
    ends.append((last, last.ended or _end(overview)))
    return sum(max(0.0, end - each.started) for each, end in ends)


def _end(overview: RunOverview) -> float:
    """Return when the newest attempt ended; now, if it has not."""
    if overview.is_over:
        ended = [record.ended.timestamp() for record in overview.records if record.ended]
        if ended:
            return max(ended)
    written = overview.attempt.written if overview.attempt else time.time()
    return written if overview.is_over or not overview.job else time.time()
