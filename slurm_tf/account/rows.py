"""Turns rows of sacct into records: one for each row of a job, with what the rows of its steps used.

Columns may be in any order, and of any release from 17.11 on; sources of formats are in slurm/sacct_amounts.py.
"""

import heapq
import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from operator import itemgetter

from slurm_tf import units
from slurm_tf.account import jobstats
from slurm_tf.account.diagnostics import Diagnostics
from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.errors import UnitError
from slurm_tf.slurm import sacct_amounts
from slurm_tf.slurm.records import text_or_empty

# The fields that sacct is asked for; those in NEEDED are required. Some releases lack others: tests/vectors.
ASKED = (
    "JobID", "JobIDRaw", "State", "Cluster", "SLUID", "Submit", "Eligible", "Start", "End", "ElapsedRaw", "Suspended",
    "User", "Account", "Partition", "QOS", "WCKey", "ExitCode", "TimelimitRaw", "Restarts", "AllocTRES", "TotalCPU",
    "MaxRSS", "NTasks", "TRESUsageInTot", "ConsumedEnergyRaw", "NodeList", "Reason", "JobName", "Comment",
    "AdminComment", "Extra", "SubmitLine", "WorkDir",
)  # fmt: skip
# Columns that are used if a saved table lacks their counterparts in ASKED.
_OTHERS = ("Elapsed", "Timelimit", "AllocCPUS", "NCPUS", "AllocNodes", "NNodes", "ReqMem")
COLUMNS = ASKED + _OTHERS
_STAND_INS = {"ElapsedRaw": "Elapsed", "TimelimitRaw": "Timelimit"}
NEEDED = ("State", "Start", "End")
_IDS = ("JobID", "JobIDRaw")
_INDEX = {name: index for index, name in enumerate(COLUMNS)}
(
    _ID, _RAW, _STATE, _CLUSTER, _SLUID, _SUBMIT, _ELIGIBLE, _START, _END, _ELAPSED_RAW, _SUSPENDED, _USER, _ACCOUNT,
    _PARTITION, _QOS, _WCKEY, _EXIT, _LIMIT_RAW, _RESTARTS, _TRES, _CPU, _RSS, _TASKS, _USED, _ENERGY, _NODES, _REASON,
    _NAME, _COMMENT, _ADMIN, _EXTRA, _LINE, _DIR, _ELAPSED, _LIMIT, _ALLOC_CPUS, _NCPUS, _ALLOC_NODES, _NNODES,
    _REQ_MEM,
) = range(len(COLUMNS))  # fmt: skip
_OOM = "OUT_OF_ME"  # a prefix, as a narrow column of sacct cuts the state


def missing(names: Sequence[str]) -> list[str]:
    """Return the required columns that `names` lacks."""
    lacking = [name for name in NEEDED if name not in names]
    return lacking if any(name in names for name in _IDS) else ["JobID", *lacking]


def lacked(names: Sequence[str]) -> list[str]:
    """Return the columns that `names` lacks, without those that another column replaces."""
    given = {*names, *(raw for raw, other in _STAND_INS.items() if other in names)}
    return [name for name in ASKED if name not in given]


@dataclass(slots=True)
class _Use:
    """What the steps of one incarnation that have been read used."""

    cpu: float = 0.0
    memory: int | None = None  # of the batch script
    steps: list[tuple[int, float, int]] = field(default_factory=list)  # start, end and memory of each other step
    gpu_seconds: float | None = None  # percent times seconds, summed over all GPUs
    out_of_memory: bool = False
    has_cpu: bool = False


class Rows:
    """Makes records of rows with the columns `names`. A running job without an elapsed time is counted until `now`."""

    def __init__(self, names: Sequence[str], diagnostics: Diagnostics, now: int) -> None:
        self._diagnostics, self._now = diagnostics, now
        self._pick = itemgetter(*(names.index(name) if name in names else -1 for name in COLUMNS))

    def records(self, table: Iterable[list[str]]) -> Iterator[UsageRecord]:
        """Yield a record for each row of a job. Rows of steps must follow that of their job, as sacct prints them."""
        job: tuple[str, ...] | None = None
        use: _Use | None = None
        pick, made = self._pick, self._record
        for row in table:
            row.append("")  # the value of missing columns, at index -1
            values = pick(row)
            if "." not in (values[0] or values[1]):  # the id of a job, not of a step
                if job is not None and (record := made(job, use)):
                    yield record
                job, use = values, None
            elif job is not None and _is_step_of(values, job):
                use = self._step(use or _Use(), values)
            else:
                self._diagnostics.orphans.add(values[_ID] or values[_RAW])
        if job is not None and (record := made(job, use)):
            yield record

    def _step(self, use: _Use, step: tuple[str, ...]) -> _Use:
        """Add a step, unless it is .extern, which lasts as long as the allocation and does no work."""
        if not step[_ID].endswith(".extern"):
            try:
                _add(use, step)
            except (UnitError, ValueError) as error:
                self._diagnostics.unreadable.add(f"step {step[_ID]}: {error}")
        return use

    def _record(self, job: tuple[str, ...], use: _Use | None) -> UsageRecord | None:
        """Return the record of a job's row and what its steps used; None, after noting it, if it cannot be parsed."""
        try:
            return self._made(job, use)
        except (UnitError, ValueError) as error:
            self._diagnostics.unreadable.add(f"job {job[_ID] or job[_RAW]}: {error}")
            return None

    def _made(self, job: tuple[str, ...], use: _Use | None) -> UsageRecord:
        (
            id_, raw, state, cluster, sluid, submit, eligible, start, end, elapsed, suspension, user, account,
            partition, qos, wckey, exit_code, limit, restarts, tres, cpu, rss, _, _, energy, nodes, reason, name,
            comment, admin_comment, extra, submit_line, work_dir, *others,
        ) = job  # fmt: skip
        submitted, started, ended = time(submit), time(start), time(end)
        elapsed = elapsed or others[0]
        known = _elapsed(elapsed)
        suspended = 0 if suspension == _ZERO else _suspended(suspension, started, ended, known)
        until = None
        if ended is None and started is not None:
            until = self._now if known is None else started + int(known) + suspended
        held = _NOTHING
        if started is not None:
            held = sacct_amounts.tres(tres)
            if not (held.cpus and held.memory and held.nodes):
                held = _completed(held, *others[2:])
        use = use or _UNSEEN
        cpu_used = use.cpu
        if not use.has_cpu:
            cpu_used = sacct_amounts.seconds(cpu) if cpu else 0.0
        memory_used = max(use.memory or 0, _peak(use.steps)) or (_resident(job) if rss else 0)
        status, _, signal = exit_code.partition(":")
        gpu_use = _gpu_use(use, held.gpus, started, ended, admin_comment) if held.gpus else None
        return UsageRecord(
            id_ or raw, raw or id_, state, cluster, sluid,
            submitted, submitted if eligible == submit else time(eligible), started, ended, until, suspended,
            user, account, partition, qos, wckey, name, comment, admin_comment, extra, submit_line, work_dir,
            text_or_empty(nodes), text_or_empty(reason), int(status) if status else None,
            int(signal) if signal else None,
            held.cpus, held.nodes, held.gpus, held.gpu_type, held.memory, held.billing,
            int(limit) if limit.isdigit() else _limit(limit or others[1]),
            sacct_amounts.number(restarts) if restarts else None,
            # both are 0 if they were not measured
            cpu_used if cpu_used or memory_used else None, memory_used or None, gpu_use,
            sacct_amounts.number(energy) if energy not in _UNMEASURED else None,
            use.out_of_memory or state.startswith(_OOM),
        )  # fmt: skip


_NOTHING = sacct_amounts.Tres()
_UNMEASURED = ("", "0")
_UNSEEN = _Use()  # the use of a job without steps


def _elapsed(text: str) -> float | None:
    """Return a job's Elapsed or ElapsedRaw in seconds, None where there is none."""
    if ":" in text:
        return sacct_amounts.seconds(text)
    return int(text) if text else None


def _suspended(text: str, started: int | None, ended: int | None, elapsed: float | None) -> int:
    """Return for how many seconds a job was suspended. Elapsed excludes that time (slurmdbd, 20.11 to 26.05)."""
    if started is None:
        return 0
    if text:
        return int(sacct_amounts.seconds(text))
    return 0 if ended is None or elapsed is None else max(0, ended - started - int(elapsed))


def _is_step_of(step: tuple[str, ...], job: tuple[str, ...]) -> bool:
    """Whether a step is of this job. Some releases print "12.0+1" for a step of component 1 of job 12."""
    if step[_RAW] and job[_RAW]:
        return step[_RAW].partition(".")[0] == job[_RAW]
    owner, _, rest = step[_ID].partition(".")
    return owner == job[_ID] or ("+" in rest and owner == job[_ID].partition("+")[0])


def _add(use: _Use, step: tuple[str, ...]) -> None:
    counted = sacct_amounts.used(step[_USED]) if step[_USED] else {}
    if step[_CPU]:
        # if a signal ended a task, TotalCPU lacks its child processes; the sampled value includes them
        sampled = counted.get("cpu", "")
        use.cpu += max(sacct_amounts.seconds(step[_CPU]), sacct_amounts.seconds(sampled) if ":" in sampled else 0.0)
        use.has_cpu = True
    memory = sacct_amounts.size(counted["mem"]) if counted.get("mem") else _resident(step)
    if memory and step[_ID].rpartition(".")[2][:1].isdigit():
        use.steps.append((time(step[_START]) or 0, time(step[_END]) or math.inf, memory))
    elif memory:
        use.memory = max(use.memory or 0, memory)
    busy = counted.get("gres/gpuutil")
    if busy and (step[_ELAPSED_RAW] or step[_ELAPSED]):
        length = int(step[_ELAPSED_RAW] or sacct_amounts.seconds(step[_ELAPSED]))
        use.gpu_seconds = (use.gpu_seconds or 0.0) + sacct_amounts.count(busy) * length
    if step[_STATE].startswith(_OOM):
        use.out_of_memory = True


def _peak(steps: Sequence[tuple[int, float, int]]) -> int:
    """Return the most memory that steps used which ran at the same time, as if all reached their peak then."""
    running: list[tuple[float, int]] = []
    held = peak = 0
    for start, end, memory in sorted(steps):
        while running and running[0][0] <= start:
            held -= heapq.heappop(running)[1]
        heapq.heappush(running, (end, memory))
        held += memory
        peak = max(peak, held)
    return peak


def _resident(row: tuple[str, ...]) -> int:
    """Return an upper bound of the memory that the tasks of a step used together, in bytes."""
    return sacct_amounts.size(row[_RSS]) * int(row[_TASKS] or 1) if row[_RSS] else 0


def _gpu_use(use: _Use, gpus: int, started: int | None, ended: int | None, admin_comment: str) -> float | None:
    """Return the mean use of the GPUs in percent, as Slurm or jobstats recorded it; None if neither did."""
    if use.gpu_seconds is not None and started is not None and ended is not None and ended > started:
        return use.gpu_seconds / (gpus * (ended - started))
    return jobstats.gpu_use(admin_comment) if admin_comment.startswith("JS1:") else None


def _completed(
    held: sacct_amounts.Tres, alloc_cpus: str, ncpus: str, alloc_nodes: str, nnodes: str, req_mem: str
) -> sacct_amounts.Tres:
    """Return the TRES of an allocation, with CPUs, nodes and memory from other columns if AllocTRES lacks them."""
    cpus = held.cpus or sacct_amounts.count(alloc_cpus or ncpus or "0")
    nodes = held.nodes or sacct_amounts.count(alloc_nodes or nnodes or "0")
    memory = held.memory or (sacct_amounts.requested_memory(req_mem, cpus, nodes) if req_mem else 0)
    return held._replace(cpus=cpus, nodes=nodes, memory=memory)


def _limit(text: str) -> int | None:
    """Return minutes; None for UNLIMITED, Partition_Limit and other words that are not a time."""
    if ":" not in text:
        return None
    limit = units.parse_time(text)
    return None if limit is None else int(limit.total_seconds()) // 60


def time(text: str) -> int | None:
    """Return seconds since the epoch for "1700000000" or a local time "2023-11-14T22:13:20"; None for "Unknown" and
    other words for no time. Raises ValueError.
    """
    if len(text) == _ISO:
        return _minute(text[:16]) + int(text[17:])
    if text in _NEVER:
        return None
    found = int(text)
    return found if 0 < found < _NO_TIME else None


@lru_cache(maxsize=8192)
def _minute(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


_NEVER = frozenset(("", "Unknown", "None", "N/A"))
_NO_TIME = 2**32 - 2  # NO_VAL
_ZERO = "00:00:00"
_ISO = len("2023-11-14T22:13:20")
