"""The efficiency of the nodes of a job, and of their GPUs, as jobstats measured them: lines below that of the job."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from slurm_tf.account import jobstats
from slurm_tf.account.efficiency_table import Column
from slurm_tf.account.job_use import MIB, JobUse
from slurm_tf.account.jobstats import GpuSummary, NodeSummary


class Detail(Enum):
    """Of what there are lines: of jobs alone, of their nodes as well, of the GPUs of these nodes as well."""

    JOB = 0
    NODE = 1
    GPU = 2


@dataclass(frozen=True, slots=True)
class Part:
    """A node of a job, or a GPU of that node (`gpu`: its number; "" for the node), with its values by column.

    A value is None where it is unknown. What a column says of the whole job has no value.
    """

    node: str
    gpu: str
    values: Mapping[str, Any]

    def cell(self, column: Column) -> str:
        """Return the value as a cell; "-" if it is unknown, "" for what is of the whole job."""
        if column.name == "JobID":
            return f"    {self.gpu}" if self.gpu else f"  {self.node}"
        value = self.values.get(column.name)
        if value is not None:
            return column.text(value)
        return "-" if column.name in self.values else ""

    def row(self, job: JobUse, wanted: Sequence[Column]) -> list[Any]:
        """Return the values for CSV: the job's id, the node, the GPU, then those of the other columns."""
        return [job.id, self.node, self.gpu, *(self.values.get(column.name) for column in wanted[1:])]


def parts(job: JobUse, detail: Detail) -> Iterator[Part]:
    """Yield the nodes of a job of several, each with its GPUs after it; with GPUs also the node of a job of one."""
    nodes = job.summary.nodes
    if detail is Detail.JOB or (len(nodes) < 2 and not (detail is Detail.GPU and job.summary.gpus)):
        return
    for name, node in nodes.items():
        yield Part(name, "", _of_node(node, job.summary.seconds))
        if detail is Detail.GPU:
            yield from (Part(name, gpu.name, _of_gpus([gpu])) for gpu in node.gpus)


def as_dicts(job: JobUse, detail: Detail) -> list[dict[str, Any]]:
    """Return the nodes of a job for JSON; None: unknown. Shares from 0 to 1, memory in MiB."""
    found: list[dict[str, Any]] = []
    for part in parts(job, detail):
        if part.gpu:
            found[-1].setdefault("gpus", []).append({"gpu": part.gpu, **part.values})
        else:
            found.append({"node": part.node, **part.values})
    return found


def remark(jobs: Iterable[JobUse], detail: Detail) -> str:
    """Return a line for jobs on several nodes of which only the whole is known; "" for none."""
    if detail is Detail.JOB:
        return ""
    number = sum((job.node_count or 0) > 1 and not job.summary.nodes for job in jobs)
    which = f"{number} jobs on several nodes have" if number > 1 else "1 job on several nodes has"
    return f"{which} no values by node: jobstats records them in AdminComment" if number else ""


def _of_node(node: NodeSummary, seconds: float | None) -> dict[str, Any]:
    return {
        "CPUEff": node.cpu / seconds / node.cpus if node.cpu is not None and seconds and node.cpus else None,
        "MemEff": node.memory / node.memory_of if node.memory is not None and node.memory_of else None,
        **_of_gpus(node.gpus),
        "AllocCPUS": node.cpus,
        "TotalCPU": node.cpu,
        "ReqMem": None if node.memory_of is None else node.memory_of // MIB,
        "UsedMem": None if node.memory is None else node.memory / MIB,
        "GPUs": len(node.gpus),
    }


def _of_gpus(gpus: Sequence[GpuSummary]) -> dict[str, Any]:
    use = jobstats.mean_use(gpus)
    return {"GPUEff": None if use is None else use / 100, "GPUMem": jobstats.memory_share(gpus)}
