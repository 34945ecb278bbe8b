"""Forms the TensorFlow cluster from the reports of all tasks: the role, address and GPUs of each.

A pure function of the reports, so every task gets the same cluster. The host of a rank is never derived from a node
list: each task reports where it is, which is right under every distribution.
"""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from slurm_tf.errors import TopologyError
from slurm_tf.launch.mapping import gpus
from slurm_tf.launch.transport.messages import Report
from slurm_tf.run.env import DTENSOR_VARIABLES
from slurm_tf.run.settings import AS_GIVEN, DATA_SERVICE, RoleSettings

# execve(2): MAX_ARG_STRLEN, one variable or argument with its terminating zero, 32 pages of 4 KiB.
EXECVE_LIMIT = 131072

# Addresses of each role, by index.
Hosts = Mapping[str, Tuple[str, ...]]

# TensorFlow looks for the evaluator outside of "cluster": it takes no part in training, nor does a tf.data service.
_OUTSIDE = ("evaluator", *DATA_SERVICE)


@dataclass(frozen=True)
class Task:
    """One task of the cluster. `gpus`: the device names it is to see; None leaves it what Slurm gave."""

    role: str
    index: int
    rank: int
    node: str
    address: str
    gpus: Optional[Tuple[str, ...]] = ()

    @property
    def name(self) -> str:
        """Role and index, as in "worker:0"."""
        return f"{self.role}:{self.index}"


@dataclass(frozen=True)
class Cluster:
    """Every task, in rank order."""

    tasks: Tuple[Task, ...]

    @property
    def hosts(self) -> Hosts:
        """The ClusterSpec: addresses of each role, by index; without evaluator and tf.data service."""
        return {role: addresses for role, addresses in self.addresses.items() if role not in _OUTSIDE}

    @property
    def addresses(self) -> Hosts:
        """Addresses of every role, by index."""
        found: Dict[str, List[str]] = {}
        for task in sorted(self.tasks, key=lambda task: task.index):
            found.setdefault(task.role, []).append(task.address)
        return {role: tuple(of_role) for role, of_role in found.items()}

    def check_size(self) -> None:
        """Raise TopologyError if a process could not be started with this cluster in its environment and arguments."""
        hosts = self.hosts
        longest = max(self.tasks, key=lambda task: (len(task.role), task.index))
        strings = [f"TF_CONFIG={tf_config(hosts, longest.role, longest.index)}"]
        for text in strings + flags(hosts, longest.role, longest.index):
            if len(text) + 1 > EXECVE_LIMIT:
                raise TopologyError(
                    f"{text.partition('=')[0]} for {len(self.tasks)} tasks takes {len(text) + 1} bytes",
                    f"at most {EXECVE_LIMIT}, the most that Linux starts a process with in one variable or argument",
                    "use fewer tasks, with more GPUs or CPUs each",
                )


def tf_config(hosts: Hosts, role: str, index: int) -> str:
    """Return the TF_CONFIG of one task."""
    task = {"type": role, "index": index}
    return json.dumps({"cluster": hosts, "task": task}, separators=(",", ":"), sort_keys=True)


def dtensor(hosts: Hosts, role: str, index: int) -> Dict[str, str]:
    """Return the variables by which DTensor's clients find each other; none with parameter servers, or outside.

    As TensorFlow makes them of a TF_CONFIG: _parse_dtensor_env_var_from_cluster_resolver in
    tensorflow/python/distribute/experimental/multi_worker_mirrored_strategy.py (2.21).
    """
    chiefs, workers = hosts.get("chief", ()), hosts.get("worker", ())
    if set(hosts) - {"chief", "worker"} or role not in hosts:
        return {}
    clients, client = [*chiefs, *workers], index + (len(chiefs) if role == "worker" else 0)
    return dict(zip(DTENSOR_VARIABLES, (",".join(clients), str(len(clients)), str(client), "worker")))


def flags(hosts: Hosts, role: str, index: int) -> List[str]:
    """Return the same as arguments, as programs of 2016-17 read it.

    Source: the trainer program in TensorFlow 1.x's guide "Distributed TensorFlow".
    """
    lists = [f"--{name}_hosts={','.join(addresses)}" for name, addresses in sorted(hosts.items())]
    return [*lists, f"--job_name={role}", f"--task_index={index}"]


def form(
    reports: Sequence[Report],
    roles: Sequence[RoleSettings],
    gpu_sharing: str = "split",
    gpus_where_found: bool = False,
) -> Cluster:
    """Return the cluster that `reports`, one a rank, form.

    `gpu_sharing`: "split" gives tasks that see all GPUs of their node disjoint slices; "all" leaves every task what it
    sees; so does AS_GIVEN, whatever its role. `gpus_where_found`: a task that sees no GPU needs none, whatever its
    role, and where Slurm set no variable none is set. Raises TopologyError.
    """
    ordered = sorted(reports, key=lambda report: report.rank)
    _check_reports(ordered, roles)
    roles_of_ranks = _roles_of_ranks(ordered, roles)
    slices = _slices(ordered, [role for role, _ in roles_of_ranks], gpu_sharing, gpus_where_found)
    tasks = (
        Task(role.name, index, report.rank, report.node, address(report.host, report.port), given)
        for report, (role, index), given in zip(ordered, roles_of_ranks, slices)
    )
    return Cluster(tuple(tasks))


def unused_gpus(
    formed: Cluster, reports: Mapping[int, Report], roles: Sequence[RoleSettings], held: Mapping[str, int]
) -> str:
    """Return a line that says where a job has more GPUs than its tasks use, "" if it has not.

    `reports`: by rank. `held`: how many GPUs it has on a node, as far as its batch script knows.
    """
    by_name = {role.name: role for role in roles}
    ordered = [reports[task.rank] for task in formed.tasks]
    pools = _pools(ordered, [by_name[task.role] for task in formed.tasks])
    return gpus.unused(ordered, [task.gpus for task in formed.tasks], pools, held)


def address(host: str, port: int) -> str:
    """Return "host:port", an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _slices(
    reports: Sequence[Report], roles: Sequence[RoleSettings], sharing: str, where_found: bool
) -> List[gpus.Devices]:
    """Return the devices of each task, whose role is that of the same position in `roles`."""
    if sharing == AS_GIVEN or (where_found and all(report.gpus is None for report in reports)):
        return [None] * len(reports)
    pools = _pools(reports, roles)
    wanted = [0 if where_found and not report.gpus else role.gpus for report, role in zip(reports, roles)]
    slices = gpus.assign(reports, wanted, pools, sharing)
    if where_found:
        unset = [report.gpus is None and role.gpus != 0 for report, role in zip(reports, roles)]
        slices = [None if each else devices for each, devices in zip(unset, slices)]
    return slices


def _pools(reports: Sequence[Report], roles: Sequence[RoleSettings]) -> List[str]:
    """Return whose devices each task divides with others of its node.

    Steps for one role, and components of a heterogeneous job, have devices of their own, where Slurm gave them.
    """
    return ["" if role.node_gpus else report.roles for report, role in zip(reports, roles)]


def _check_reports(reports: Sequence[Report], roles: Sequence[RoleSettings]) -> None:
    wanted = sum(role.count for role in roles)
    if [report.rank for report in reports] != list(range(wanted)):
        ranks = ",".join(str(report.rank) for report in reports)
        raise TopologyError(f"ranks {ranks} reported", f"each of 0 to {wanted - 1} once")
    twice = [endpoint for endpoint, count in Counter((r.host, r.port) for r in reports).items() if count > 1]
    if twice:
        raise TopologyError(
            f"several tasks reported the address {address(*twice[0])}", "an address of its own for each"
        )


def _roles_of_ranks(reports: Sequence[Report], roles: Sequence[RoleSettings]) -> List[Tuple[RoleSettings, int]]:
    """Return each rank's role and index: the roles in order, as the job's steps and their components are."""
    in_order = [(role, index) for role in roles for index in range(role.count)]
    for report, (role, index) in zip(reports, in_order):
        if report.roles and role.name not in report.roles.split(","):
            raise TopologyError(f"rank {report.rank} was started as {report.roles}", f"{role.name}:{index} to be")
    return in_order
