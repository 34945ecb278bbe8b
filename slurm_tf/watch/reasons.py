"""Says in one line why a run waits, what is wrong with it, or how it ended, as the run wrote it, else as Slurm says.

`status`, `list`, `logs`, the end of `wait` and `submit --wait` show this line. That of a run which wrote its end itself
is also the last of the job's log.
"""

import contextlib
import os

from slurm_tf.errors import RunError
from slurm_tf.run import manifest, process_end
from slurm_tf.run.attempts import EndCause
from slurm_tf.run.status import AttemptState, TaskState, alone_words
from slurm_tf.slurm import out_of_memory, pending_reasons
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord
from slurm_tf.submit import setup_checks
from slurm_tf.watch import logs
from slurm_tf.watch.run_overview import RunOverview

# Slurm's ExitCode is 0:53 where slurmstepd could not open the batch script's output (22.05.8).
_NO_LOG = 53
# What the launcher and the batch script put before what they print.
_PREFIX = "slurm-tf: "
# The states of an attempt whose end is decided, and is not that it waits for the next one.
_DECIDED = (AttemptState.ENDING, AttemptState.ENDED, AttemptState.WAITS_FOR_SLURM)
# Options of sbatch that say how much memory a job asks for.
_MEMORY = ("mem", "mem-per-cpu", "mem-per-gpu")


def reason_words(state: RunOverview) -> str:
    """Return why a run is pending, unknown, or how it ended, or what is wrong with one that runs; "" for nothing."""
    if not state.job and state.is_over:  # without Slurm, on this machine
        return state.attempt.reason.partition("\n")[0] if state.attempt else ""
    if not state.job:
        return "" if state.attempt else "it was not submitted"
    if state.recorded_end:
        reason = state.attempt.reason.partition("\n")[0] if state.attempt else ""
        return "; ".join(filter(None, [reason, "Slurm has forgotten the job: this is what the run wrote of its end"]))
    if not state.records:
        return "; ".join(state.notes) or f"Slurm has no record of job {state.job}"
    if state.state is JobState.PENDING:
        return _why_pending(state)
    if not state.is_over:
        return _who_trains_alone(state)
    return "" if state.state.succeeded else _how_it_ended(state)


def _who_trains_alone(state: RunOverview) -> str:
    """Return which tasks of a run train alone, though their cluster has others; "" for none."""
    tasks = state.attempt.tasks if state.attempt and _has_attempt(state) else {}
    names = [name for name, task in tasks.items() if task.joined is False and task.state is TaskState.RUNNING]
    return alone_words(names) if names else ""


def _why_pending(state: RunOverview) -> str:
    reason = state.records[0].reason
    if not reason:
        return ""
    never = " (it will never start)" if pending_reasons.is_permanent(reason) else ""
    parts = [f"{pending_reasons.explain(reason)}{never}", _own_nodes(state), _goes_on(state)]
    return "; ".join(filter(None, parts))


def _own_nodes(state: RunOverview) -> str:
    """Return how many nodes a heterogeneous job waits for, and why; "" of another job."""
    if len(state.records) < 2:
        return ""
    with contextlib.suppress(RunError):
        return f"nodes: {manifest.read(state.selected.run.manifest).nodes}"
    return ""


def _goes_on(state: RunOverview) -> str:
    """Return why a run waits to go on, and from where; "" before its first attempt."""
    last = state.attempts[-1] if state.attempts else None
    if last is None or not last.may_go_on:
        return ""
    why = f" after {last.cause.value}" if last.cause.goes_on else ""
    start = f"goes on from step {state.checkpoint.step}" if state.checkpoint else "starts again"
    return f"then it {start}{why}"


def _how_it_ended(state: RunOverview) -> str:
    """Return how a run ended that did not end well."""
    record = next((each for each in state.records if each.state is state.state), state.records[0])
    # a requeued job has an attempt, and may fail before the next one
    if (record.restarts or not _has_attempt(state)) and (stopped := _stopped_line(state)):
        return stopped
    said = _said_by_the_run(state)
    if state.state is JobState.CANCELLED:
        return _cancelled(state, said)
    if said or record.started is None:
        return said or _ended_by_slurm(state, record)
    if state.state is JobState.FAILED and not _has_attempt(state):
        return _ended_without_attempt(state, record)
    return _ended_by_slurm(state, record)


def _said_by_the_run(state: RunOverview) -> str:
    """Return what the newest attempt wrote of its end; "" where it is of another job, or says that the run goes on."""
    if state.attempt is None or state.attempt.state not in _DECIDED or not _has_attempt(state):
        return ""
    return state.attempt.reason.partition("\n")[0]


def _has_attempt(state: RunOverview) -> bool:
    """Return whether an attempt of the run's newest job has recorded anything; True where that cannot be read."""
    if not state.attempts:
        return state.attempts is None or state.attempt is not None
    return any(each.id.rpartition(".")[0] == state.job for each in state.attempts)


def _stopped_line(state: RunOverview) -> str:
    """Return which line before the program ended the batch script, "" if none did."""
    return logs.last_line(logs.job_output(state.selected), setup_checks.STOPPED).removeprefix(_PREFIX)


def _cancelled(state: RunOverview, said: str) -> str:
    """Return that a run was cancelled, and when: a reason of its attempt before does not count any more."""
    cause = state.attempts[-1].cause if state.attempts else EndCause.NONE
    if said and cause is EndCause.CANCEL:
        return said
    by = "with slurm-tf cancel" if state.cancelled else "by scancel, or by Slurm"
    if not _has_attempt(state):
        return f"cancelled {by} before it started"
    waited = f" while it waited to go on after {cause.value}" if cause.goes_on else ""
    return f"cancelled {by}{waited}"


def _ended_by_slurm(state: RunOverview, record: JobRecord) -> str:
    """Return how a job ended that wrote nothing of its end, as Slurm itself, or the death of a node, ended it."""
    if state.state is JobState.OUT_OF_MEMORY:
        return _out_of_memory(state)
    where = f" ({record.nodes})" if record.nodes else ""
    words = {
        JobState.BOOT_FAIL: f"its nodes did not boot{where}",
        JobState.DEADLINE: "it could not end before its deadline",
        JobState.NODE_FAIL: f"a node failed{where}, and the job was not requeued",
        JobState.PREEMPTED: "preempted by a job of higher priority, and not requeued",
        JobState.TIMEOUT: f"its time limit{_length(record)} was reached before it had ended",
    }
    return words.get(state.state) or _killed(state, record)


def _length(record: JobRecord) -> str:
    if record.started is None or record.ended is None:
        return ""
    minutes = round((record.ended - record.started).total_seconds() / 60)
    return f" of {minutes} minutes" if minutes < 180 else f" of {minutes / 60:.3g} hours"


def _out_of_memory(state: RunOverview) -> str:
    """Return the line of a job that ran out of memory without an agent that could say so."""
    asked: dict[str, str] = {}
    with contextlib.suppress(RunError):
        options = manifest.read(state.selected.run.manifest).job.get("sbatch", {})
        asked = {name: str(options[name]) for name in _MEMORY if options.get(name)}
    return out_of_memory.words(asked, None, state.memory_used)


def _killed(state: RunOverview, record: JobRecord) -> str:
    code = record.exit_code or 0
    if record.signalled:
        name = process_end.signal_name(code - 128)
        return (
            f"its batch script was killed by {name} ({_exit(state, record)}): by the kernel for its memory, or by hand"
        )
    return f"it did not write how it ended ({_exit(state, record)}): its log has its last lines"


def _ended_without_attempt(state: RunOverview, record: JobRecord) -> str:
    """Return how a job ended that slurm-tf's launcher knows nothing of: in Slurm's words, and what they mean."""
    log, code = logs.job_output(state.selected), record.exit_code or 0
    said = _exit(state, record)
    if os.path.exists(log):
        return f"it ended before the launcher started ({said}): {log} has its output"
    if record.signalled and code - 128 == _NO_LOG:
        where = f" on {record.nodes}" if record.nodes else ""
        return (
            f"Slurm could not open its log {log}{where} ({said}): its folder is not there or cannot be written, as "
            "where a node does not share it, or the disk is full"
        )
    return f"it ended before it wrote anything to {log} ({said})"


def _exit(state: RunOverview, record: JobRecord) -> str:
    """Return the state and the exit code as sacct prints them."""
    code = record.exit_code or 0
    return f"{state.state.name}, ExitCode {f'0:{code - 128}' if record.signalled else f'{code}:0'}"
