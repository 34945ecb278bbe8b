"""Finds the living task beside which a user wants to run a command."""

from dataclasses import dataclass

from slurm_tf.errors import UsageError
from slurm_tf.run import job_chain
from slurm_tf.run.folder import SubmissionFolder
from slurm_tf.run.status import TaskState
from slurm_tf.slurm import hostlist
from slurm_tf.slurm.job_states import JobState
from slurm_tf.watch import status_rows
from slurm_tf.watch.run_overview import RunOverview

_NAMED = 10


@dataclass(frozen=True, slots=True)
class LivingTask:
    """A task whose program runs. `job`: the job, array task or component that its node is of."""

    task: str
    node: str
    job: str
    submission: SubmissionFolder


def find(state: RunOverview, wanted: str) -> LivingTask:
    """Return the task `wanted` of a run: "worker:1", "worker" for its first one, "" for the leading task.

    Raises UsageError where its program does not run.
    """
    name = state.selected.name
    if state.state is not JobState.RUNNING:
        needed = "a run whose job runs"
        raise UsageError(f"run {name} is {status_rows.state_text(state)}", needed, f"slurm-tf status {name}")
    tasks = state.attempt.tasks if state.attempt else {}
    running = [task for task, each in tasks.items() if each.state is TaskState.RUNNING]
    task = next((each for each in _candidates(wanted) if each in tasks), "")
    shown = ", ".join(running[:_NAMED]) + (f" and {len(running) - _NAMED} more" if len(running) > _NAMED else "")
    if not task:
        raise UsageError(
            f"run {name} has no task {wanted or 'yet'}", f"one of {shown}" if running else "a task that runs"
        )
    node = tasks[task].node
    if task not in running or node is None:
        found = f"{task} of run {name} is {tasks[task].state.value}"
        raise UsageError(found, f"one of {shown}" if running else "a task that runs")
    return LivingTask(task, node, _job_of(state, node), _submission(state))


def _candidates(wanted: str) -> list[str]:
    """Return the names that may be meant, the best first."""
    if wanted:
        return [wanted, f"{wanted}:0"]
    return [f"{role}:0" for role in ("driver", "chief", "worker", "ps", "evaluator")]


def _job_of(state: RunOverview, node: str) -> str:
    """Return the id of the component that has a node; of another job its own id."""
    return next((each.id for each in state.records if node in hostlist.expand(each.nodes)), state.records[0].id)


def _submission(state: RunOverview) -> SubmissionFolder:
    """Return the files that the run's newest job uses."""
    selected = state.selected
    rows = [*job_chain.read(selected.run), *job_chain.read(selected.folder)]
    number = next((each.submission for each in rows if state.job in each.ids.values()), rows[-1].submission)
    return selected.run.submission(number)
