"""What one incarnation of a job asked for and used: its row and those of its steps, and the memory of each node."""

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from slurm_tf.account import jobstats
from slurm_tf.account.exit_classes import ExitClass
from slurm_tf.account.jobstats import Summary
from slurm_tf.errors import HostlistError
from slurm_tf.slurm import hostlist
from slurm_tf.slurm.job_states import JobState

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MIB = 1024**2
# The steps that are one process on one node, whatever a table says of their tasks.
_SINGLE = ("batch", "interactive")
_EXTERN = "extern"  # lasts as long as the allocation and does no work
_ANYWHERE = ""  # the node of a step whose nodes are unknown
_CLASSES = {end.word: end for end in ExitClass}


@dataclass(frozen=True, slots=True)
class StepUse:
    """One step; memory in bytes. None, and no nodes: unknown."""

    name: str
    nodes: tuple[str, ...] = ()
    node_count: int | None = None
    tasks: int | None = None
    max_rss: int | None = None  # the most that one of its tasks held
    total_memory: int | None = None  # what its tasks held together
    started: int | None = None
    ended: int | None = None

    @property
    def node_least(self) -> int | None:
        """Return bytes that one of its nodes held for certain; None if unknown."""
        if self.total_memory and (self.node_count or len(self.nodes) or 1) == 1:
            return self.total_memory
        return self.max_rss or None

    @property
    def node_most(self) -> int | None:
        """Return bytes that none of its nodes held more than; None if unknown.

        Slurm says what one task held at most and what all held together, but not what those on one node did.
        """
        nodes = self.node_count or len(self.nodes) or 1
        tasks = 1 if self.name in _SINGLE else self.tasks
        if self.total_memory and (nodes == 1 or tasks is None):
            return max(self.total_memory, self.max_rss or 0)
        if self.max_rss and tasks is not None:
            return max(self.max_rss * math.ceil(tasks / nodes), (self.total_memory or 0) // nodes)
        return self.total_memory if not self.max_rss else None


@dataclass(frozen=True, slots=True)
class JobUse:
    """One incarnation. Times are in seconds, memory in bytes, `memory` (what was asked for) in MiB; None: unknown."""

    id: str
    state: str = ""
    end: ExitClass = ExitClass.UNKNOWN
    name: str = ""
    user: str = ""
    account: str = ""
    partition: str = ""
    qos: str = ""
    nodes: str = ""
    submitted: int | None = None
    started: int | None = None
    ended: int | None = None
    elapsed: int | None = None
    waited: int | None = None
    time_limit: int | None = None  # minutes
    cpus: int | None = None
    node_count: int | None = None
    gpus: int | None = None
    gpu_type: str = ""
    memory: int | None = None
    used_cpu: float | None = None
    measured_cpu_share: float | None = None  # what jobstats measured
    used_memory: int | None = None
    memory_of: int | None = None  # what jobstats measured that the job had
    node_least: int | None = None  # what one node held for certain
    node_most: int | None = None  # what none held more than
    gpu_use: float | None = None  # percent
    gpu_memory_share: float | None = None
    lacks_tasks: bool = False  # a step's memory is unknown as its tasks are
    summary: Summary = field(default_factory=lambda: Summary({}))  # what jobstats measured on each node

    @property
    def ran(self) -> bool:
        """Whether it had its allocation for any time that is known."""
        return self.started is not None or bool(self.elapsed)

    @property
    def time_share(self) -> float | None:
        """The share of the time limit in which it ran."""
        return None if not self.time_limit or self.elapsed is None else self.elapsed / (60 * self.time_limit)

    @property
    def cpu_share(self) -> float | None:
        """The share of its CPUs' time that it used."""
        if self.measured_cpu_share is not None or self.used_cpu is None or not self.cpus or not self.elapsed:
            return self.measured_cpu_share
        return self.used_cpu / self.elapsed / self.cpus

    @property
    def memory_share(self) -> float | None:
        """The share of its memory that it used."""
        had = self.memory_of or (self.memory or 0) * MIB
        return None if self.used_memory is None or not had else self.used_memory / had


def read(job: Mapping[str, Any], steps: Iterable[Mapping[str, Any]] = ()) -> JobUse:
    """Return the use of one row of the table `jobs` and its rows of `steps`; what jobstats says goes before."""
    parts = [_step(row) for row in steps if row.get("step") != _EXTERN]
    summary = jobstats.read(job.get("admin_comment") or "") or Summary({})
    lacks_tasks = any(part.max_rss and part.node_most is None for part in parts)
    used = _first(summary.memory, None if lacks_tasks else job.get("used_memory"))
    least = max((part.node_least or 0 for part in parts), default=0) or None
    values: dict[str, Any] = {name: job.get(name) or "" for name in _WORDS} | {name: job.get(name) for name in _AMOUNTS}
    return JobUse(
        id=job["id"], end=_CLASSES.get(job.get("exit_class") or "", ExitClass.UNKNOWN), **values,
        waited=_waited(job), used_cpu=_used_cpu(job, summary), measured_cpu_share=summary.cpu_share, used_memory=used,
        memory_of=summary.memory_of, gpus=_first(job.get("gpus"), summary.gpus),
        node_least=_first(summary.node_memory, least),
        node_most=_first(summary.node_memory, None if lacks_tasks else _first(busiest_node(parts), used)),
        gpu_use=_first(summary.gpu_use, job.get("gpu_use")), gpu_memory_share=summary.gpu_memory_share,
        lacks_tasks=lacks_tasks and summary.memory is None, summary=summary,
    )  # fmt: skip


_WORDS = ("state", "name", "user", "account", "partition", "qos", "nodes", "gpu_type")
_AMOUNTS = ("submitted", "started", "ended", "elapsed", "time_limit", "cpus", "node_count", "memory")


@dataclass(frozen=True, slots=True)
class Chosen:
    """Which jobs are wanted: of these states, names (patterns as a shell's), partitions and clusters; empty: of all.

    `not_states`: of none of these states.
    """

    states: tuple[JobState, ...] = ()
    names: tuple[str, ...] = ()
    partitions: tuple[str, ...] = ()
    not_states: tuple[JobState, ...] = ()
    clusters: tuple[str, ...] = ()

    @property
    def conditions(self) -> tuple[str, list[Any]]:
        """A condition of SQL on the table `jobs`, and its parameters."""
        states, others = _words_of(self.states), _words_of(self.not_states)
        parts = [
            (f"state in ({_marks(states)})", states),
            (f"(state not in ({_marks(others)})) is not false", others),
            (" or ".join(["name glob ?"] * len(self.names)), list(self.names)),
            (f"partition in ({_marks(self.partitions)})", list(self.partitions)),
            (f"cluster in ({_marks(self.clusters)})", list(self.clusters)),
        ]
        used = [(text, values) for text, values in parts if values]
        return (
            " and ".join(f"({text})" for text, _ in used) or "true",
            [value for _, values in used for value in values],
        )


def _words_of(states: Iterable[JobState]) -> list[str]:
    return [word for state in states for word in (state.name, state.short)]


def _marks(values: Sequence[str]) -> str:
    return ", ".join("?" * len(values))


def found(database: "DuckDBPyConnection", chosen: Chosen, each: bool = True) -> Iterator[JobUse]:
    """Yield the jobs of the tables `jobs` and `steps`, in the order in which they were submitted.

    `each`: every incarnation; otherwise the last one of each job, as sacct has it without --duplicates.
    """
    condition, values = chosen.conditions
    last = "" if each else _LAST
    reader = database.execute(_FOUND.format(condition=condition, last=last), values)
    names = [name for name, *_ in reader.description or ()]
    while rows := reader.fetchmany(_FETCHED):
        for row in rows:
            job = dict(zip(names, row, strict=True))
            yield read(job, job.pop("parts") or ())


def without_small_arrays(uses: Sequence[JobUse], least: int) -> list[JobUse]:
    """Return the jobs without those of arrays of which there are fewer than `least`; others stay."""
    arrays = Counter(array for array, _, task in {each.id.partition("_") for each in uses} if task)
    return [each for each in uses if "_" not in each.id or arrays[each.id.partition("_")[0]] >= least]


_FETCHED = 1000
_LAST = "qualify row_number() over (partition by cluster, id order by coalesce(submitted, started, 0) desc) = 1"
_FOUND = """
with parts as (
  select incarnation, list({{'step': step, 'nodes': nodes, 'node_count': node_count, 'tasks': tasks,
    'max_rss': max_rss, 'total_memory': total_memory, 'started': started, 'ended': ended}}) as parts
  from steps where step <> 'extern' group by incarnation
), wanted as (select * from jobs where {condition} {last})
select wanted.* exclude (gpu_use, busy), coalesce(gpu_use, busy) as gpu_use, parts.parts
from wanted left join parts using (incarnation) order by submitted, try_cast(wanted.raw_id as bigint), id, started
"""


def _first(*values: Any) -> Any:  # noqa: ANN401 - of the type of its arguments
    return next((value for value in values if value is not None), None)


def _used_cpu(job: Mapping[str, Any], summary: Summary) -> float | None:
    if summary.busy_cpus is None or job.get("elapsed") is None:
        found: float | None = job.get("used_cpu")
        return found
    return summary.busy_cpus * float(job["elapsed"])


def _step(row: Mapping[str, Any]) -> StepUse:
    try:
        nodes = hostlist.expand(row.get("nodes") or "")
    except HostlistError:
        nodes = ()
    names = ("node_count", "tasks", "max_rss", "total_memory", "started", "ended")
    return StepUse(row.get("step") or "", nodes, **{name: row.get(name) for name in names})


def _waited(job: Mapping[str, Any]) -> int | None:
    eligible, started = job.get("eligible"), job.get("started")
    return None if eligible is None or started is None else max(0, started - eligible)


def busiest_node(steps: Iterable[StepUse]) -> int | None:
    """Return bytes that no node held more than, as if steps at one time reached their most then; None if unknown.

    A step whose nodes or times are unknown counts on every node, or all the time.
    """
    held: defaultdict[str, int] = defaultdict(int)
    running: list[tuple[float, int]] = []
    peak: int | None = None
    known = [(step, memory) for step in steps if (memory := step.node_most)]
    known.sort(key=lambda each: each[0].started or 0)
    for number, (step, memory) in enumerate(known):
        while running and running[0][0] <= (step.started or 0):
            ended, ended_memory = known[heapq.heappop(running)[1]]
            for node in _places(ended):
                held[node] -= ended_memory
        heapq.heappush(running, (math.inf if step.ended is None else step.ended, number))
        own = _places(step)
        for node in own:
            held[node] += memory
        looked_at = held if _ANYWHERE in own else own
        most = max((held[node] for node in looked_at if node != _ANYWHERE), default=0) + held[_ANYWHERE]
        peak = max(peak or 0, most)
    return peak


def _places(step: StepUse) -> set[str]:
    return set(step.nodes or (_ANYWHERE,))
