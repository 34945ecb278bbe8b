"""Diagnostics of a report: rows that were left out, repeated or not understood."""

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from slurm_tf.account.window import Window
from slurm_tf.slurm.job_states import JobState

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# All are counted, but only this many of each kind are named: a malicious file must not fill the memory.
_NAMED = 20
_LACKS_TASKS = """max_rss > 0 and tasks is null and total_memory is null
  and step not in ('batch', 'interactive', 'extern')"""


@dataclass
class Examples:
    """The number of occurrences, and the first of them as examples."""

    total: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, text: str) -> None:
        """Count one occurrence."""
        self.total += 1
        if len(self.first) < _NAMED:
            self.first.append(text)


@dataclass
class Diagnostics:
    """What was noticed while records were read; complete once all are read.

    `until`: the latest time until which a running incarnation is counted, None if none runs.
    """

    records: int = 0
    until: int | None = None
    users: set[str] = field(default_factory=set)
    unknown_states: Counter[str] = field(default_factory=Counter)
    unknown_fields: list[str] = field(default_factory=list)
    missing_fields: list[str] = field(default_factory=list)
    # steps without a row of their job: they are in no sum
    orphans: Examples = field(default_factory=Examples)
    # rows that could not be parsed, with the reason
    unreadable: Examples = field(default_factory=Examples)
    # values of jobs, and of steps, that could not be parsed and are unknown
    values: Examples = field(default_factory=Examples)
    values_of_steps: Examples = field(default_factory=Examples)
    # incarnations that ran, of which Slurm does not say on how many CPUs, GPUs or nodes
    unallocated: Examples = field(default_factory=Examples)
    # records that occurred more than once, because files overlap
    repeated: int = 0
    # incarnations that are recorded as running long after their time limit: sacctmgr show runawayjobs
    runaways: Examples = field(default_factory=Examples)
    # jobs with a step of which it is known what one task held, but not how many tasks there were
    lack_tasks: Examples = field(default_factory=Examples)
    # what was wrong with files of the ledger
    ledger: list[str] = field(default_factory=list)
    # jobs that were shrunk: Slurm records the time before that twice, and so does sreport (22.05.8)
    resized: Examples = field(default_factory=Examples)
    # suspended incarnations that are partly outside the window: Slurm does not record when they were suspended, so
    # their CPU-seconds in the window may be wrong
    suspended: Examples = field(default_factory=Examples)

    def add_jobs(self, database: "DuckDBPyConnection", window: Window, now: int) -> None:
        """Record what is noticeable about the rows of `accounted` and `steps`, which are counted in the window."""
        start, end = window
        stop = f"coalesce(ended, {now})"
        kinds = {
            "started is not null and (cpus is null or gpus is null or node_count is null)": self.unallocated,
            "is_runaway": self.runaways,
            "submitted > started": self.resized,
            f"suspended > 0 and (started < {start} or {stop} > {end})": self.suspended,
        }
        counts = ", ".join(f"count(*) filter ({condition})" for condition in kinds)
        groups = database.execute(
            f"select state_text, coalesce(user, ''), count(*), max(counted_until), {counts} from accounted "
            "group by state_text, user"
        ).fetchall()
        states: Counter[str] = Counter()
        for state, user, count, until, *numbers in groups:
            states[state or ""] += count
            self.users.add(user)
            self.records += count
            self.until = max((each for each in (self.until, until) if each is not None), default=None)
            for examples, number in zip(kinds.values(), numbers, strict=True):
                examples.total += number
        unknown = {state: count for state, count in states.items() if JobState.parse(state) is JobState.UNKNOWN}
        self.unknown_states = Counter(dict(Counter(unknown).most_common(_NAMED)))
        for condition, examples in kinds.items():
            if examples.total:
                found = database.execute(
                    f"select arg_min(id, started, {_NAMED}) from accounted where {condition}"
                ).fetchall()
                examples.first = [*(found[0][0] or ())]
        self.lack_tasks = _lack_tasks(database)


def _lack_tasks(database: "DuckDBPyConnection") -> Examples:
    """Return the jobs whose memory is unknown, as a step of theirs lacks NTasks."""
    if not database.execute(f"select 1 from steps where {_LACKS_TASKS} limit 1").fetchall():
        return Examples()
    query = f"from accounted semi join (select incarnation from steps where {_LACKS_TASKS}) using (incarnation)"
    ((total, ids),) = database.execute(f"select count(*), arg_min(id, started, {_NAMED}) {query}").fetchall()
    return Examples(total, [*(ids or ())])
