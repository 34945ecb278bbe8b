"""The client that asks Slurm's daemons through pyslurm's newer interface, which it has since its 22.5.

A call takes as long as Slurm's own timeouts and retries allow (MessageTimeout): libslurm cannot be interrupted.
pyslurm has None for array task 0 and component 0, so None is read as zero.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from grp import getgrgid
from typing import Any, TypeVar

from slurm_tf.errors import SlurmError, UnreachableError
from slurm_tf.slurm import array_indexes
from slurm_tf.slurm.client import CommandLineClient, checked, error_type, run, version
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord, NodeRecord, PartitionRecord, exit_code, is_named, text_or_empty, whole_job

_T = TypeVar("_T")
# In a process of its own: without a slurm.conf, libslurm ends the process, and pyslurm 22.5 asks it at import.
_PROBE = "import pyslurm; pyslurm.slurm_init(); print(pyslurm.__version__)"
_NO_INIT = "PYSLURM_DISABLE_AUTO_INIT"
_NEEDED = "pyslurm of Slurm's own release: 22.5 for Slurm 22.05"
_DO = (
    'pip install "slurm-tf[pyslurm]" "pyslurm==RELEASE.*", from github.com/PySlurm/pyslurm where PyPI has none; '
    'or client = "commands"'
)


class PyslurmClient:
    """Jobs, nodes, partitions and accounting through pyslurm.

    pyslurm changes a job by its number. Pending array tasks share one number, and by a task's own number slurmctld
    finds nothing to cancel, an error that pyslurm hides (22.05.8): array tasks and components of heterogeneous jobs are
    changed with Slurm's commands.
    """

    def __init__(self) -> None:
        self._slurm = _load()
        self._commands = CommandLineClient()

    def jobs(self, ids: Sequence[str]) -> tuple[JobRecord, ...]:
        """Return slurmctld's records: pyslurm asks for all jobs. Exit codes from 128 on are less 128."""
        return tuple(record for record, raw in self._known(ids) if is_named(record, raw, ids))

    def history(self, ids: Sequence[str]) -> tuple[JobRecord, ...]:
        """Return slurmdbd's records."""
        wanted = sorted({int(whole_job(each)) for each in checked(ids)})
        if not wanted:
            return ()
        database = self._slurm.db
        loaded = _call(self._slurm, lambda: list(database.Jobs.load(database.JobFilter(ids=wanted)).values()))
        found = [
            (record, str(job.id))
            for job, component in _with_component_ids(loaded, wanted)
            for record in _from_database(job, component)
        ]
        return tuple(record for record, raw in found if is_named(record, raw, ids))

    def nodes(self) -> tuple[NodeRecord, ...]:
        """Return all nodes that are in a partition."""
        return tuple(
            _node(each) for each in _call(self._slurm, lambda: self._slurm.Nodes.load().values()) if each.partitions
        )

    def partitions(self) -> tuple[PartitionRecord, ...]:
        """Return all partitions that the user sees."""
        loaded = _call(self._slurm, lambda: self._slurm.Partitions.load().values())
        return tuple(
            PartitionRecord(
                name=each.name,
                is_up=each.state == "UP",
                is_default=bool(each.is_default),
                nodes=each.total_nodes,
                max_time=each.max_time if isinstance(each.max_time, int) else None,
            )
            for each in loaded
            if _is_visible(each)
        )

    def cancel(self, ids: Sequence[str]) -> None:
        """Kill jobs."""
        self._change(ids, lambda job: job.cancel(), self._commands.cancel)

    def requeue(self, ids: Sequence[str]) -> None:
        """Requeue jobs."""
        self._change(ids, lambda job: job.requeue(), self._commands.requeue)

    def _change(
        self, ids: Sequence[str], change: Callable[[Any], None], command: Callable[[Sequence[str]], None]
    ) -> None:
        known = self._known(ids)
        others = []
        for each in checked(ids):
            is_plain = all(record.id == each for record, raw in known if is_named(record, raw, [each]))
            if is_plain and each.isdigit():
                job = self._slurm.Job(int(each))
                _call(self._slurm, lambda job=job: change(job))  # type: ignore[misc] # a default binds it now
            else:
                others.append(each)
        if others:
            command(others)

    def _known(self, ids: Sequence[str]) -> list[tuple[JobRecord, str]]:
        """Return the records of all jobs that the ids belong to, each with its number (JobIDRaw)."""
        wanted = {int(whole_job(each)) for each in checked(ids)}
        with _environment("SLURM_BITSTR_LEN", "0"):  # lists of indexes in full
            loaded = _call(self._slurm, lambda: list(self._slurm.Jobs.load().values())) if wanted else []
        return [
            (record, str(job.id))
            for job in loaded
            if not wanted.isdisjoint((job.id, job.array_id, job.heterogeneous_id))
            for record in _from_controller(job)
        ]


def _call(slurm: Any, ask: Callable[[], _T]) -> _T:
    """Return what `ask` returns. Raises UnreachableError, SlurmError."""
    try:
        return ask()
    except slurm.RPCError as error:
        # an error of slurmdbd has no further reason
        kind = UnreachableError if "slurmdbd" in str(error) else error_type(str(error))
        raise kind(f"{error} (pyslurm, error {error.errno})") from error


def _load() -> Any:
    """Return pyslurm, after a process of its own could import it. Raises SlurmError if it does not fit."""
    try:
        found = run([sys.executable, "-P", "-c", _PROBE], {**os.environ, _NO_INIT: "1"}).stdout.strip()
    except UnreachableError:
        raise
    except SlurmError as error:
        message = error.found.splitlines()[-1]
        raise SlurmError(f"pyslurm cannot be imported: {message}", _NEEDED, _DO) from error
    commands = version()
    if commands and _release(commands) != _release(found):
        raise SlurmError(f"found pyslurm {found} beside Slurm {commands}", _NEEDED, _DO)
    with _environment(_NO_INIT, "1"):
        import pyslurm
    pyslurm.slurm_init()
    return pyslurm


def _release(text: str) -> tuple[int, ...]:
    """Return (22, 5) for "22.05.8" and "22.5.3"."""
    return tuple(map(int, re.findall(r"\d+", text)[:2]))


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _from_controller(job: Any) -> list[JobRecord]:
    record = replace(
        _common(job),
        nodes=text_or_empty(job.allocated_nodes),
        ended=_end(job),
        restarts=job.requeue_count,
        script=text_or_empty(job.command),
    )
    if job.heterogeneous_id:
        return [replace(record, id=f"{job.heterogeneous_id}+{job.heterogeneous_offset or 0}")]
    return [replace(record, id=each) for each in _ids(job)]


def _from_database(job: Any, component: str) -> list[JobRecord]:
    record = replace(_common(job), nodes=text_or_empty(job.nodelist), ended=_time(job.end_time))
    return [replace(record, id=each) for each in ([component] if component else _ids(job))]


def _common(job: Any) -> JobRecord:
    """Return the fields that the records of slurmctld and slurmdbd have in common."""
    state, start = JobState.parse(job.state), _time(job.start_time)
    try:
        user = job.user_name
    except KeyError:  # a user who is gone
        user = str(job.user_id)
    return JobRecord(
        id="",
        state=state,
        reason=text_or_empty(job.state_reason),
        user=text_or_empty(user),
        account=text_or_empty(job.account),
        partition=text_or_empty(job.partition),
        qos=text_or_empty(job.qos),
        submitted=_time(job.submit_time),
        started=None if state is JobState.PENDING else start,
        expected_start=start if state is JobState.PENDING else None,
        exit_code=exit_code(job.exit_code, job.exit_code_signal) if state.ended else None,
        signalled=state.ended and bool(job.exit_code_signal),
    )


def _ids(job: Any) -> list[str]:
    """Return a job's id, or those of the array tasks that it stands for."""
    if not job.array_id:
        return [str(job.id)]
    if job.array_task_id is not None:
        return [f"{job.array_id}_{job.array_task_id}"]
    return [f"{job.array_id}_{index}" for index in _waiting(job.array_tasks_waiting or "0")]


def _waiting(text: str) -> tuple[int, ...]:
    """Return the indexes in "2-5", slurmctld's form, or in "0x3C", slurmdbd's form."""
    if not text.startswith("0x"):
        return array_indexes.parse(text)[0]
    bits = int(text, 16)
    return tuple(index for index in range(bits.bit_length()) if bits >> index & 1)


def _with_component_ids(loaded: Sequence[Any], wanted: Sequence[int]) -> list[tuple[Any, str]]:
    """Return each job of slurmdbd with its id if it is a component of a heterogeneous job, else "".

    pyslurm does not tell which jobs are components. slurmdbd sends all components of a job that was asked for, numbered
    on from the job's number.
    """
    groups: list[list[Any]] = []
    for job in sorted(loaded, key=lambda job: job.id):
        if groups and not job.array_id and job.id not in wanted:
            groups[-1].append(job)
        else:
            groups.append([job])
    return [
        (job, f"{group[0].id}+{offset}" if len(group) > 1 else "")
        for group in groups
        for offset, job in enumerate(group)
    ]


def _end(job: Any) -> datetime | None:
    """Return when a job ended or will; None without a time limit, where slurmctld has a year from now."""
    ended = _time(job.end_time)
    return None if ended and job.time_limit is None and ended > datetime.now().astimezone() else ended


def _time(seconds: int | None) -> datetime | None:
    return datetime.fromtimestamp(seconds).astimezone() if seconds else None


def _node(node: Any) -> NodeRecord:
    gres = node.configured_gres.items()
    gpus = sum(int(count) for name, count in gres if name.removeprefix("gres/").partition(":")[0] == "gpu")
    state = _node_state(node.state, 0 < node.allocated_cpus < node.total_cpus)
    return NodeRecord(node.name, state, node.total_cpus, node.real_memory, tuple(sorted(node.partitions)), gpus)


def _node_state(text: str, is_mixed: bool) -> str:
    """Return sinfo's name for a state such as "IDLE+DRAIN" (node_state_string() of 22.05)."""
    base, *flags = (part.strip("*~#!%$@^-").lower() for part in text.split("+"))
    if base == "allocated" and is_mixed:
        base = "mixed"
    is_busy = base in ("allocated", "mixed")
    if "invalid_reg" in flags:  # before all others, as sinfo has it
        return "inval"
    if not is_busy and "maintenance" not in flags and {"reboot_requested", "reboot_issued"} & set(flags):
        return "reboot"
    if "drain" in flags:
        return "draining" if is_busy or "completing" in flags else "drained"
    if "fail" in flags:
        return "failing" if is_busy or "completing" in flags else "fail"
    if base != "idle":
        return "maint" if "maintenance" in flags and base not in ("allocated", "mixed", "down") else base
    states = {
        "maintenance": "maint", "completing": "completing", "perfctrs": "perfctrs", "blocked": "blocked",
        "reserved": "reserved", "planned": "planned",
    }  # fmt: skip
    return next((state for flag, state in states.items() if flag in flags), base)


def _is_visible(partition: Any) -> bool:
    """Whether slurmctld would show a partition to this user: pyslurm has all of them."""
    if os.getuid() == 0:
        return True
    allowed = set(partition.allowed_groups)
    return not partition.is_hidden and ("ALL" in allowed or not allowed.isdisjoint(_own_groups()))


def _own_groups() -> set[str]:
    names = set()
    for number in {os.getgid(), *os.getgroups()}:
        try:
            names.add(getgrgid(number).gr_name)
        except KeyError:
            continue
    return names
