"""Writes a first job file for a program, from what it is and from what the cluster says of itself.

What is not known stands there as a comment.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from slurm_tf import units
from slurm_tf.jobspec import layers, toml_entries
from slurm_tf.jobspec.job_file import JobSpec, Strategy
from slurm_tf.jobspec.layers import Layer
from slurm_tf.jobspec.program_outline import Outline, ProgramKind, ProgramOption
from slurm_tf.jobspec.toml_entries import Entry
from slurm_tf.run import placeholders
from slurm_tf.slurm.live_cluster import LiveCluster, LivePartition, NodeKind

_STRATEGIES: dict[ProgramKind, Strategy] = {
    ProgramKind.PS_FLAGS: "between_graph",
    ProgramKind.HOROVOD: "horovod",
    ProgramKind.PARAMETER_SERVER: "ps",
    ProgramKind.MULTI_WORKER: "multi_worker",
    ProgramKind.MIRRORED: "mirrored",
    ProgramKind.SLURM_TF: "multi_worker",
    ProgramKind.KERAS_FIT: "multi_worker",
    ProgramKind.OTHER: "single",
}
# Of a first run, which should start soon.
_TIME = timedelta(hours=1)
_MOST_CPUS = 8


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What is known beside the program. `cluster`: None where Slurm does not answer, and `why` says so.

    `stated`: keys that the site's profile or the user's file state for all jobs.
    """

    cluster: LiveCluster | None
    why: str = ""
    stated: Collection[str] = ()


def of_program(program: Path, outline: Outline, around: Surroundings, chdir: str = "") -> str:
    """Return the job file as TOML; `chdir`: the program's folder, "" if the job file will be there."""
    partition = _partition(around.cluster)
    strategy = _STRATEGIES[outline.kind]
    lines = [
        toml_entries.comment(f"Written by `slurm-tf init {program.name}`; `slurm-tf docs jobs` explains each key."),
        *toml_entries.lines(_top(program, outline, strategy, chdir)),
        toml_entries.comment('setup = "source ~/venv/bin/activate"  # if TensorFlow is in an environment'),
        *toml_entries.lines(_limits(around, partition)),
    ]
    lines += _params(outline.options)
    for role, count in _roles(strategy).items():
        lines += ["", f"[roles.{role}]", *toml_entries.lines(_role(role, count, strategy, partition))]
    text = "\n".join(lines) + "\n"
    path = Path("the first job file")
    layers.resolve([Layer(str(path), layers.parse_toml(text.encode(), path))], JobSpec)
    return text


def _top(program: Path, outline: Outline, strategy: Strategy, chdir: str) -> Iterator[Entry]:
    yield Entry("name", re.sub(r"[^A-Za-z0-9._-]+", "-", program.stem).strip("-.") or "job")
    where = f" (line {outline.line})" if outline.line else ""
    yield Entry("strategy", strategy, f"{outline.kind.value}{where}")
    if outline.kind is ProgramKind.KERAS_FIT:
        note = 'it needs the lines that init showed; without them: strategy = "single", and no count'
        yield Entry("", None, note)
    options = [each for each in outline.options if not each.left_out]
    words = [f"{each.flag}={{{each.name}}}" if each.flag.startswith("--") else f"{{{each.name}}}" for each in options]
    short = {each.name: each.flag for each in options if each.flag and not each.flag.startswith("--")}
    command = ["python", placeholders.literal(program.name)]
    for option, word in zip(options, words, strict=True):
        command += [short[option.name], word] if option.name in short else [word]
    yield Entry("command", tuple(command))
    if chdir:
        yield Entry("chdir", chdir, "the program's folder")


def _limits(around: Surroundings, partition: LivePartition | None) -> Iterator[Entry]:
    """Yield time, partition and account."""
    cluster = around.cluster
    limit = partition.max_time if partition else None
    longest = f", up to {units.format_time(limit)} there" if limit else ""
    yield Entry("time", units.format_time(min(_TIME, limit or _TIME)), f"the most that it may take{longest}")
    if cluster is None:
        yield Entry("", None, f"partition, account and GPUs are yours to add: Slurm does not answer ({around.why})")
        return
    if "partition" in around.stated:
        yield Entry("partition", None, "stated for all jobs, see `slurm-tf explain`")
    elif partition:
        others = [each.name for each in cluster.partitions if each is not partition]
        note = f"{_words(partition)}; others: {', '.join(others)}" if others else _words(partition)
        yield Entry("partition", partition.name, note)
    if "account" in around.stated:
        yield Entry("account", None, "stated for all jobs, see `slurm-tf explain`")
    elif len(cluster.accounts) == 1:
        yield Entry("account", cluster.accounts[0], f"the only one of {cluster.user}")
    elif cluster.accounts:
        yield Entry("account", None, f"the default one of {', '.join(cluster.accounts)}, unless you name another")


def _words(partition: LivePartition) -> str:
    kind = _largest(partition)
    gpus = f", {units.format_gpus(kind.gpus)} GPUs" if kind and kind.gpus else ""
    default = "the default; " if partition.is_default else ""
    size = f"nodes with {kind.cpus} CPUs, {units.format_memory(kind.memory)}{gpus}" if kind else "no nodes"
    return f"{default}{size}"


def _partition(cluster: LiveCluster | None) -> LivePartition | None:
    """Return the partition for a first run: the default one, else one with GPUs that is open to this user."""
    if cluster is None:
        return None
    usable = [each for each in cluster.partitions if each.kinds and _may_use(cluster, each)]
    with_gpus = [each for each in usable if any(kind.gpus for kind in each.kinds)]
    preferred = [*(each for each in with_gpus if each.is_default), *with_gpus]
    return next(iter([*preferred, *(each for each in usable if each.is_default), *usable]), None)


def _may_use(cluster: LiveCluster, partition: LivePartition) -> bool:
    is_open = partition.accounts is None or bool({*partition.accounts} & {*cluster.accounts})
    return is_open and partition.state == "UP"


def _largest(partition: LivePartition) -> NodeKind | None:
    """Return the nodes of a partition with the most GPUs, and of them those with the most CPUs."""
    return max(partition.kinds, key=lambda kind: (sum(each.number for each in kind.gpus), kind.cpus), default=None)


def _params(options: Collection[ProgramOption]) -> list[str]:
    """Return the table of params, and as comments the options that are none."""
    params = [each for each in options if not each.left_out]
    lines = ["", "[params]"] if params else []
    for each in params:
        is_said = each.default is None or each.type == "path"
        keys: dict[str, toml_entries.Value] = {"type": each.type} if is_said else {}
        keys |= {} if each.default is None else {"default": each.default}
        keys |= {"choices": each.choices} if each.choices else {}
        keys |= {"help": each.help} if each.help else {}
        lines += toml_entries.lines([Entry(each.name, keys)])
    left_out = [each for each in options if each.left_out]
    if left_out:
        lines += ["", "# Options that are no params; type them behind --: slurm-tf submit JOB -- OPTIONS"]
    lines += [toml_entries.comment(f"  {e.flag or e.name} (line {e.line}): {e.left_out}") for e in left_out]
    return lines


def _roles(strategy: Strategy) -> dict[str, int]:
    if strategy == "ps":
        return {"chief": 1, "worker": 2, "ps": 1}
    if strategy == "between_graph":
        return {"worker": 2, "ps": 1}
    return {"worker": 1 if strategy in ("single", "mirrored") else 2}


def _role(role: str, count: int, strategy: Strategy, partition: LivePartition | None) -> Iterator[Entry]:
    """Yield what the tasks of one role need: with GPUs one each, under `mirrored` all of a node."""
    kind = _largest(partition) if partition else None
    gpus = sum(each.number for each in kind.gpus) if kind and role == "worker" else 0
    if count > 1:
        yield Entry("count", count, "tasks; more of them need no change of the program")
    if kind and gpus:
        wanted = gpus if strategy == "mirrored" else 1
        yield Entry("gpus-per-task", wanted, f"a node has {units.format_gpus(kind.gpus)}")
        yield Entry("cpus-per-task", max(1, min(_MOST_CPUS, kind.cpus // gpus) * wanted), f"a node has {kind.cpus}")
    else:
        yield Entry("cpus-per-task", min(2, kind.cpus) if kind else 2)
    note = "enough for TensorFlow and small data"
    if partition:
        note += f"; a job that states none gets {partition.default_memory or 'all memory of its nodes'}"
    yield Entry("mem-per-cpu", "2G", note)
