"""The fault matrix: each signal in each phase at each target, what comes of it, and why."""

from collections.abc import Iterator
from dataclasses import dataclass

SIGNALS = ("SIGTERM", "SIGUSR1", "SIGKILL", "SIGSTOP", "scancel")
PHASES = ("compile", "step", "save", "evaluate", "rename", "requeue")
TARGETS = ("chief", "worker", "ps", "batch")

# A job cannot be cancelled in one task: these are the ways in which users do it.
SCANCEL = {
    "chief": (),
    "worker": ("--signal=TERM",),  # the steps: agents
    "ps": ("--full", "--signal=TERM"),  # the batch script with all that it has started, and the steps
    "batch": ("--batch", "--signal=TERM"),
}

# What comes of it.
UNCHANGED = "unchanged"  # the same processes go on
RESTARTED = "restarted"  # in the same allocation, from the last checkpoint
REQUEUED = "requeued"  # saved first; the next attempt goes on there
CANCELLED = "cancelled"  # saved first; no attempt follows
LEFT = "left alone"  # saved by the agents, one of which puts the job back
ABSENT = "absent"  # nothing is there to be hit


@dataclass(frozen=True)
class Cell:
    """One fault. `representative`: it is in `make test`."""

    signal: str
    phase: str
    target: str
    expected: str
    why: str
    strategy: str
    representative: bool = False

    def __str__(self) -> str:
        more = f"-{self.strategy}" if self.strategy != _STRATEGY[self.target] else ""
        return f"{self.signal}-{self.phase}-{self.target}{more}"

    @property
    def task(self) -> str:
        return f"{self.target}:0"


_STRATEGY = {"chief": "multi_worker", "worker": "multi_worker", "ps": "ps", "batch": "multi_worker"}
_REPRESENTATIVES = {
    ("scancel", "evaluate", "chief"),
    ("SIGTERM", "compile", "chief"),
    ("SIGUSR1", "step", "worker"),
    ("SIGSTOP", "save", "batch"),
    ("SIGKILL", "rename", "chief"),
    ("SIGKILL", "requeue", "batch"),
}


def _expected(signal: str, phase: str, target: str) -> tuple[str, str]:
    """Return what comes of a fault, and why."""
    if phase == "requeue":
        return _expected_in_requeue(signal, target)
    if signal == "scancel":
        return CANCELLED, "a SIGTERM without a PreemptTime, before the time limit"
    if signal == "SIGSTOP":
        return UNCHANGED, "what is stopped is not dead: others wait, and it goes on at SIGCONT"
    if target == "batch":
        return {
            "SIGTERM": (CANCELLED, "before the time limit, and squeue tells no PreemptTime"),
            "SIGUSR1": (REQUEUED, "the signal of the job's --signal: its time is nearly over"),
            "SIGKILL": (LEFT, "Slurm ends a job with its batch script; its agents see to the run"),
        }[signal]
    if signal == "SIGKILL":
        return RESTARTED, "the agent is there: within the budget of restarts"
    return UNCHANGED, "signals are for the agent; programs that have said hello do nothing at them"


def _expected_in_requeue(signal: str, target: str) -> tuple[str, str]:
    if signal == "scancel" and target == "chief":
        return CANCELLED, "Slurm cancels jobs that wait as well"
    if signal == "scancel":
        return REQUEUED, "a signal has nobody to go to: the job waits already"
    if target != "batch":
        return ABSENT, "programs have left before the job is put back"
    return REQUEUED, "the job is Slurm's by then, which does not need its script any more"


def cells() -> Iterator[Cell]:
    """Yield every cell of {signal} x {phase} x {target}, and the same of a run in one task, which writes."""
    for target in TARGETS:
        for signal in SIGNALS:
            for phase in PHASES:
                representative = (signal, phase, target) in _REPRESENTATIVES
                yield Cell(signal, phase, target, *_expected(signal, phase, target), _STRATEGY[target], representative)
    for phase in PHASES[:-1]:
        yield Cell("SIGKILL", phase, "worker", *_expected("SIGKILL", phase, "worker"), "single")
        yield Cell("SIGUSR1", phase, "batch", *_expected("SIGUSR1", phase, "batch"), "single")
        for target in ("chief", "worker"):
            expected, why = _expected("SIGKILL", phase, target)
            yield Cell("SIGKILL", phase, target, expected, why, "ps")


CELLS = tuple(cells())
# Those of the longer suite; one look shows for all that are absent that nothing is there.
ABSENTEES = {cell.strategy: cell for cell in CELLS if cell.expected == ABSENT}
REST = tuple(cell for cell in CELLS if not cell.representative and cell.expected != ABSENT)
