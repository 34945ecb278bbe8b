"""Makes the environment of the user's program: its task in the cluster, its GPUs, nothing that is the launcher's."""

import json
import os
from dataclasses import dataclass
from typing import Dict, List, Mapping, Optional, Tuple

from slurm_tf.launch.mapping import cluster, engine_variables
from slurm_tf.launch.transport.messages import SharedAssignment, TaskAssignment
from slurm_tf.run import env
from slurm_tf.run.container_settings import ContainerSettings
from slurm_tf.run.settings import DATA_SERVICE, ENGINE
from slurm_tf.run.version import VERSION

_NOT_FOR_PROGRAMS = (env.SECRET, env.COORDINATOR, env.PROGRAM_ENV, env.INSIDE)


@dataclass(frozen=True)
class Assignment:
    """One task's program and its place in the cluster.

    `hosts`: the ClusterSpec, None where the strategy has no TF_CONFIG. `addresses`: those of all roles, None where
    programs need no others than those. `gpus`: the devices to see, None for those that
    Slurm gave. `variables`: environment variables of run/env.py.
    `cluster_flags`: whether the program also gets its role and the ClusterSpec as arguments. `warns`: whether its agent
    prints what is known to go wrong with the program; `joins`: whether it sees to it that the program joins others;
    `leads`: whether all that the program prints goes to the job's output. `container`: where its agent starts it, None
    for on the node itself.
    """

    role: str
    index: int
    hosts: Optional[cluster.Hosts]
    gpus: Optional[Tuple[str, ...]]
    variables: Mapping[str, str]
    command: Tuple[str, ...]
    cluster_flags: bool
    warns: bool = False
    joins: bool = False
    leads: bool = False
    container: Optional[ContainerSettings] = None
    addresses: Optional[cluster.Hosts] = None

    @classmethod
    def of_parts(cls, task: TaskAssignment, shared: SharedAssignment) -> "Assignment":
        """Return the assignment that the coordinator sent in two parts."""
        variables = {**shared.variables, **task.variables}
        command = tuple(map(in_utf_8, task.command))
        return cls(
            task.role,
            task.index,
            shared.hosts,
            task.gpus,
            variables,
            command,
            shared.cluster_flags,
            warns=task.warns,
            joins=task.joins,
            leads=task.leads,
            container=task.container,
            addresses=shared.addresses,
        )

    @property
    def name(self) -> str:
        """Role and index, as in "worker:0"."""
        return f"{self.role}:{self.index}"

    @property
    def argv(self) -> List[str]:
        """The command, with the cluster's flags if it gets them."""
        flags = cluster.flags(self.hosts, self.role, self.index) if self.cluster_flags and self.hosts else []
        return [*self.command, *flags]


def job_env(environ: Mapping[str, str]) -> Dict[str, str]:
    """Return the job file's [env] from the environment of an agent."""
    found: Dict[str, str] = json.loads(environ.get(env.PROGRAM_ENV, "{}"))
    return {name: in_utf_8(value) for name, value in found.items()}


def in_utf_8(text: str) -> str:
    """Return text from a file such that a program that is started with it gets UTF-8, whatever the locale is."""
    return os.fsdecode(text.encode())


def program_environ(
    inherited: Mapping[str, str], job_env: Mapping[str, str], assignment: Assignment, restarts: int, library: str = ""
) -> Dict[str, str]:
    """Return the environment of the program: `inherited`, overridden by the job file's [env], then by the assignment.

    `restarts`: how often the program was started before. `library`: the file of slurm_tf.train for a Python that has
    none; it steps behind what PYTHONPATH, which comes first, and the Python have (submit/packed_modules.py).
    """
    environ = {**inherited, **job_env, **assignment.variables}
    # a pipe would hold back what the program prints, and lose it when the program is killed
    environ.setdefault("PYTHONUNBUFFERED", "1")
    if library:
        environ["PYTHONPATH"] = f"{environ['PYTHONPATH']}:{library}" if environ.get("PYTHONPATH") else library
    threads = environ.pop(env.THREAD_VARIABLES, "")
    for name in threads.split(",") if threads and environ.get("SLURM_CPUS_PER_TASK") else ():
        environ.setdefault(name, environ["SLURM_CPUS_PER_TASK"])
    if assignment.variables.get(env.STRATEGY) == "ps":
        # TensorFlow's guide on parameter servers: else the chief waits for a dead worker instead of hearing of it
        environ.setdefault("GRPC_FAIL_FAST", "use_caller")
    for name in (*_NOT_FOR_PROGRAMS, "TF_CONFIG", *env.DTENSOR_VARIABLES):
        environ.pop(name, None)
    environ[env.CONTRACT] = str(VERSION)
    environ[env.TASK] = assignment.name
    environ[env.RESTARTS] = str(restarts)
    environ.update(_cluster_variables(assignment))
    if assignment.variables.get(env.STRATEGY) == ENGINE:
        environ.update(engine_variables.secret(inherited[env.SECRET]))
    if assignment.hosts or assignment.addresses:
        _bypass_proxies(environ, {**(assignment.hosts or {}), **(assignment.addresses or {})})
    if assignment.gpus is not None:
        names = [name for name in env.DEVICE_VARIABLES if name in environ or name == "CUDA_VISIBLE_DEVICES"]
        environ.update(dict.fromkeys(names, ",".join(assignment.gpus)))
    return environ


def _cluster_variables(assignment: Assignment) -> Dict[str, str]:
    """Return the variables by which the program finds those of other tasks."""
    role, index = assignment.role, assignment.index
    hosts, addresses = assignment.hosts, assignment.addresses
    found: Dict[str, str] = {}
    if hosts is not None and role not in DATA_SERVICE:
        found["TF_CONFIG"] = cluster.tf_config(hosts, role, index)
        found.update(cluster.dtensor(hosts, role, index))
    if addresses is not None:
        found[env.CLUSTER] = json.dumps(addresses, separators=(",", ":"), sort_keys=True)
        found[env.ADDRESS] = addresses[role][index]
    return found


def _bypass_proxies(environ: Dict[str, str], hosts: cluster.Hosts) -> None:
    """Keep gRPC from sending the tasks' traffic through http_proxy: TensorFlow would hang for ever and print nothing.

    gRPC reads no_grpc_proxy and only if that is unset no_proxy; Python and curl read either case of the second.
    """
    ours = {address.rpartition(":")[0].strip("[]"): None for addresses in hosts.values() for address in addresses}
    environ.setdefault("no_grpc_proxy", environ.get("no_proxy", ""))
    for name in ("no_grpc_proxy", "no_proxy", "NO_PROXY"):
        theirs = [host for host in environ.get(name, "").split(",") if host]
        environ[name] = ",".join(dict.fromkeys([*theirs, *ours]))
