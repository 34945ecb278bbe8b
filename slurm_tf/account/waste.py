"""What jobs wasted and why: their ends and idle resources, by template or job name, each with what to do about it.

Of a job that did not complete all time counts, unless its run recorded what it kept.
"""

import math
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

from slurm_tf import units
from slurm_tf.account.amounts import in_hours
from slurm_tf.account.literals import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

# A request that was too small is advised to grow by this factor.
_MORE = 1.5
# Idle: GPUs less busy than this many percent, CPUs less used than this share, of jobs of some minutes.
IDLE_GPU, IDLE_CPU, SOME_MINUTES = 10, 0.5, 600
_STEPS = (60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 43200, 86400)


class Why(Enum):
    """Why time was wasted: what a job did, in the words of a sentence."""

    OUT_OF_MEMORY = "ran out of memory"
    TIMEOUT = "reached the time limit"
    FAILED = "failed"
    PREEMPTED = "were preempted"
    REQUEUED = "were requeued"
    NODE_FAIL = "were on nodes that failed"
    BOOT_FAIL = "were on nodes that did not boot"
    DEADLINE = "reached their deadline"
    CANCELLED = "were cancelled"
    CANCELLED_BY_SITE = "were cancelled by the site"
    IDLE_GPUS = f"had GPUs that were less than {IDLE_GPU}% busy"
    IDLE_CPUS = "used less than half of their CPUs"

    @property
    def end(self) -> str:
        """The end of such jobs, in the word of a report; "" for one that did not end so."""
        return "" if self in (Why.IDLE_GPUS, Why.IDLE_CPUS) else self.name.lower().replace("_", " ")


@dataclass(frozen=True, slots=True)
class Cause:
    """Why incarnations of one template, or of jobs of one name, wasted their time.

    `within`: nine of ten of them took at most so many seconds. `memory`: MiB of one node, `limit`: minutes, the most
    that one had; None: unknown. `job`, `run`, `work_dir`: of the one that wasted most. `is_known`: whether the hours
    are no upper bound.
    """

    why: Why
    template: str
    name: str
    jobs: int
    gpu_seconds: float | None
    cpu_seconds: float | None
    within: float
    memory: float | None
    limit: int | None
    job: str
    run: str
    work_dir: str
    is_known: bool

    @property
    def what(self) -> str:
        """The sentence: 14 jobs of template cnn ran out of memory within 5 minutes."""
        of = f"of template {self.template}" if self.template else f"named {self.name or '-'}"
        if self.jobs != 1:
            return f"{self.jobs} jobs {of} {self.why.value}{self._more()}"
        return f"1 job {of} {re.sub('^were', 'was', self.why.value).replace('their', 'its')}{self._more()}"

    def _more(self) -> str:
        if self.why in (Why.OUT_OF_MEMORY, Why.FAILED):
            return f" within {_rounded_up(self.within)}"
        if self.why is Why.TIMEOUT and self.limit:
            return f" of {units.format_time(timedelta(minutes=self.limit))}"
        return ""

    @property
    def advice(self) -> str:
        """What to do: a line of the job file, an option of sbatch, or a command that says more."""
        if self.why is Why.OUT_OF_MEMORY and self.memory:
            enough = units.format_memory(_round_mib(self.memory * _MORE))
            # a job file says it for each role
            return f'ask for mem = "{enough}"' if self.template else f"ask for --mem={enough}"
        if self.why is Why.TIMEOUT and self.limit:
            longer = timedelta(minutes=math.ceil(self.limit * _MORE))
            return f"ask for --time={units.format_time(longer)}, or save checkpoints and resume"
        if self.why in (Why.FAILED, Why.CANCELLED):
            return f"read: {self._output()}"
        if self.why in (Why.PREEMPTED, Why.REQUEUED, Why.NODE_FAIL, Why.BOOT_FAIL):
            return f"save checkpoints more often: {self._checkpoints()}"
        if self.why is Why.CANCELLED_BY_SITE:
            return f"ask the staff of the site about job {self.job}"
        if self.why is Why.DEADLINE:
            return "ask for a later --deadline, or submit sooner"
        return f"see what to ask for: slurm-tf efficiency {shlex.quote(self.job)}"

    def _output(self) -> str:
        if self.run:
            return f"slurm-tf logs {shlex.quote(self.run)}"
        where = f" in {self.work_dir}" if self.work_dir else ""
        return f"the output of job {self.job}{where}"

    def _checkpoints(self) -> str:
        return f"slurm-tf checkpoints {shlex.quote(self.run)}" if self.run else f"job {self.job} wasted most"

    def as_dict(self) -> dict[str, Any]:
        """Return all values, for JSON; None: unknown."""
        return {
            "why": self.why.name.lower().replace("_", " "),
            "is_at_most": not self.is_known,
            "template": self.template or None,
            "name": self.name or None,
            "jobs": self.jobs,
            "gpu_hours": in_hours(self.gpu_seconds),
            "cpu_hours": in_hours(self.cpu_seconds),
            "what": self.what,
            "advice": self.advice,
            "job": self.job,
            "run": self.run or None,
        }


_ENDS = ", ".join(literal(why.end) for why in Why if why.end)
_WHY = f"""case
    when exit_class in ({_ENDS}) and gone > 0 then upper(replace(exit_class, ' ', '_'))
    when gpus > 0 and gpu_busy < {IDLE_GPU} and seconds >= {SOME_MINUTES} then 'IDLE_GPUS'
    when gpus = 0 and seconds >= {SOME_MINUTES} and cpu_share < {IDLE_CPU} then 'IDLE_CPUS'
    end as why"""
_WASTED = """case why when 'IDLE_GPUS' then gpus * seconds when 'IDLE_CPUS' then 0 else gpus * gone end as wasted_gpu,
  case why when 'IDLE_GPUS' then 0 when 'IDLE_CPUS' then cpus * running * (1 - cpu_share) else cpus * gone end
    as wasted_cpu"""


def marked(parts: str) -> str:
    """Return the query of the rows of `parts` (usage.py), with `why` they wasted time, NULL if they did not, and how
    many GPU-seconds and CPU-seconds.
    """
    # one in another: an expression is planned anew wherever the same SELECT names it
    shares = f"select *, used_cpu / (cpus * whole) as cpu_share from {parts}"
    return f"select *, {_WASTED} from (select *, {_WHY} from ({shares}))"


_MOST = "coalesce(wasted_gpu, 0) * 1000.0 + coalesce(wasted_cpu, 0)"
_CAUSES = f"""
select why, coalesce(template, ''), case when template is null then coalesce(name, '') else '' end,
    count(distinct hash(cluster, id)), sum(wasted_gpu) as g, sum(wasted_cpu) as c, quantile_cont(stop - started, 0.9),
    max(memory / greatest(node_count, 1)), max(time_limit), coalesce(arg_max(id, {_MOST}), ''),
    coalesce(arg_max(run, {_MOST}), ''), coalesce(arg_max(work_dir, {_MOST}), ''),
    bool_and(start_lost is not null or why in ('IDLE_GPUS', 'IDLE_CPUS'))
from parts where seconds > 0 and why is not null group by 1, 2, 3 order by g desc nulls last, c desc nulls last, 1, 2, 3
"""


def causes(database: "DuckDBPyConnection") -> Sequence[Cause]:
    """Return why time was wasted, of the rows of `parts`; the most expensive cause first."""
    rows = database.execute(_CAUSES).fetchall()
    return [Cause(Why[row[0]], *row[1:]) for row in rows]


def _rounded_up(seconds: float) -> str:
    """Return a time in words, rounded up: 5 minutes, 2 hours, 3 days."""
    step = next((each for each in _STEPS if seconds <= each), math.ceil(seconds / 86400) * 86400)
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if step >= size:
            number = step // size
            return f"{number} {unit}" + ("s" if number > 1 else "")
    return "1 minute"


def _round_mib(mib: float) -> int:
    step = 1024 if mib > 2048 else 128
    return max(step, math.ceil(mib / step) * step)
