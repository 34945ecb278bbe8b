"""What one role asks of its nodes, spelled as the site wants it, and whether the partition can give it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from slurm_tf import units
from slurm_tf.errors import SpecError
from slurm_tf.jobspec import layers
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.job_file import Amount, Role
from slurm_tf.units import Gpus

T = TypeVar("T")

# --name=value, or --name alone.
Option = tuple[str, str | None]


@dataclass(frozen=True, slots=True)
class Needs:
    """One role's needs. `gpus_per_task`: 0 none, None some but not known how many; `mem` in MiB with its option."""

    partition: str
    constraint: str
    cpus_per_task: int | None
    ntasks_per_node: int | None
    mem: tuple[str, int] | None
    gpus: tuple[str, Gpus] | None
    gpus_per_task: int | None

    @property
    def alike(self) -> "Needs":
        """What two roles must have in common to be one component: a total of GPUs counts for each task."""
        if self.gpus and self.gpus[0] == "gpus" and self.gpus_per_task:
            return replace(self, gpus=("gpus", self.gpus[1]._replace(number=self.gpus_per_task)))
        return self

    def joined(self, others: Sequence["Needs"]) -> "Needs":
        """Return the needs of one component for this role and `others`, which are alike: totals of GPUs add up."""
        if self.gpus and self.gpus[0] == "gpus":
            total = sum(each.gpus[1].number for each in (self, *others) if each.gpus)
            return replace(self, gpus=("gpus", self.gpus[1]._replace(number=total)))
        return self


def read(job: Job, name: str, role: Role) -> Needs:
    """Return the needs of role `name`. Raises SpecError."""
    memory = _one_of(job, name, role, ("mem", "mem-per-cpu", "mem-per-gpu"), units.parse_memory)
    gpus = _one_of(job, name, role, ("gpus", "gpus-per-node", "gpus-per-task"), units.parse_gpus)
    if gpus and gpus[1].number == 0:
        gpus = None
    needs = Needs(
        partition=_partition(job, role),
        constraint=role.constraint or "",
        cpus_per_task=role.cpus_per_task,
        ntasks_per_node=role.ntasks_per_node,
        mem=memory,
        gpus=gpus,
        gpus_per_task=_per_task(gpus, role) if gpus else 0,
    )
    _check_partition(job, name, needs, role.count)
    if job.site.scheduler == "local":
        return needs
    return replace(needs, mem=_spell_mem(job, name, needs, role), gpus=_spell_gpus(job, name, needs, role))


def _partition(job: Job, role: Role) -> str:
    """Return the role's own partition, unless the environment or the command line names one for the whole job."""
    named = job.origins.get("partition", "").startswith(("environment: ", "command line: "))
    return (job.spec.partition if named else None) or role.partition or job.spec.partition or ""


def _one_of(job: Job, name: str, role: Role, keys: tuple[str, ...], parse: Callable[[str], T]) -> tuple[str, T] | None:
    """Return the one of `keys` that the role has, with its value."""
    found: list[tuple[str, Amount]] = [
        (key, value) for key in keys if (value := getattr(role, key.replace("-", "_"))) is not None
    ]
    if not found:
        return None
    key, value = found[-1]
    where = job.where(f"roles.{name}.{key}")
    if len(found) > 1:
        raise SpecError(f"found {' and '.join(key for key, _ in found)}", "one of them", where=where)
    layers.check_unit(value, parse, where)
    return key, parse(str(value))


def _per_task(gpus: tuple[str, Gpus], role: Role) -> int | None:
    """Return how many GPUs each task gets if they divide evenly, else None."""
    option, (number, _) = gpus
    if option == "gpus-per-task":
        return number
    tasks = role.count if option == "gpus" else role.ntasks_per_node
    return number // tasks if tasks and number % tasks == 0 else None


def _tasks_per_node(needs: Needs, tasks: int) -> int | None:
    return needs.ntasks_per_node or (1 if tasks == 1 else None)


def _spell_gpus(job: Job, name: str, needs: Needs, role: Role) -> tuple[str, Gpus] | None:
    """Return the GPUs in the option that the site accepts."""
    spelling = job.site.gpu_spelling
    if needs.gpus is None or spelling in ("as-asked", needs.gpus[0]):
        return needs.gpus
    option, gpus = needs.gpus
    per_node = _tasks_per_node(needs, role.count)
    if spelling == "gpus-per-task" and needs.gpus_per_task:
        return spelling, gpus._replace(number=needs.gpus_per_task)
    if spelling != "gpus-per-task" and option == "gpus-per-node":
        return spelling, gpus
    if spelling != "gpus-per-task" and needs.gpus_per_task and per_node:
        return spelling, gpus._replace(number=needs.gpus_per_task * per_node)
    raise SpecError(
        f"found {option} = {units.format_gpus(gpus)!r}",
        f"a number that site {job.site_name} can be asked for as {spelling}",
        "say ntasks-per-node as well, and a number of GPUs that divides by it",
        job.where(f"roles.{name}.{option}"),
    )


def _spell_mem(job: Job, name: str, needs: Needs, role: Role) -> tuple[str, int] | None:
    """Return the memory in the option that the site accepts; None where it accepts none."""
    spelling = job.site.mem_spelling
    if needs.mem is None or spelling == "none":
        return None
    if spelling in ("as-asked", needs.mem[0]):
        return needs.mem
    option, mib = needs.mem
    per_node = _tasks_per_node(needs, role.count)
    if option != "mem-per-gpu" and per_node and needs.cpus_per_task:
        cpus = per_node * needs.cpus_per_task
        return spelling, mib * cpus if spelling == "mem" else -(-mib // cpus)
    raise SpecError(
        f"found {option} = {units.format_memory(mib)!r}",
        f"an amount that site {job.site_name} can be asked for as {spelling}",
        "say ntasks-per-node and cpus-per-task as well",
        job.where(f"roles.{name}.{option}"),
    )


def _check_partition(job: Job, name: str, needs: Needs, tasks: int) -> None:
    """Raise SpecError if the partition cannot give what is asked, as far as the site profile says."""
    partition_name = needs.partition or job.site.default_partition
    partition = job.site.partitions.get(partition_name)
    if partition is None:
        return
    at_once = needs.ntasks_per_node or 1
    gpus = needs.gpus[1].number if needs.gpus and needs.gpus[0] == "gpus-per-node" else None
    if gpus is None:
        gpus = (needs.gpus_per_task or 0) * at_once
    limit = _value(partition.max_time, units.parse_time)
    asked = _value(job.spec.time, units.parse_time)
    mem = needs.mem[1] if needs.mem and needs.mem[0] == "mem" else 0
    # key, what is asked, what there is, both also as text
    rows = [
        ("cpus-per-task", (needs.cpus_per_task or 1) * at_once, partition.cpus_per_node, "CPUs on a node"),
        ("mem", mem, _value(partition.mem_per_node, units.parse_memory), "MiB of memory on a node"),
        (needs.gpus[0] if needs.gpus else "gpus", gpus, _gpu_limit(partition.gpus_per_node), "GPUs on a node"),
        ("ntasks-per-node", -(-tasks // at_once) if needs.ntasks_per_node else 1, partition.max_nodes, "nodes"),
    ]
    for key, want, have, what in rows:
        if have is not None and want > have:
            _refuse(job, f"roles.{name}.{key}", f"{want} {what}", f"{have}", partition_name)
    if limit is not None and asked is not None and asked > limit:
        _refuse(job, "time", units.format_time(asked), units.format_time(limit), partition_name)


def _refuse(job: Job, key: str, asked: str, limit: str, partition: str) -> None:
    raise SpecError(f"asks for {asked}", f"at most {limit}, the limit of partition {partition!r}", where=job.where(key))


def _value(amount: Amount | None, parse: Callable[[str], T]) -> T | None:
    return None if amount is None else parse(str(amount))


def _gpu_limit(amount: Amount | None) -> int | None:
    gpus = _value(amount, units.parse_gpus)
    return None if gpus is None else gpus.number
