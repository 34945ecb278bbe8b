"""Registers a task with its coordinator: finds it, reserves a port, reports the task, waits for its assignment."""

import socket
import time
from dataclasses import dataclass, replace
from typing import List, Mapping, Optional, Tuple

from slurm_tf import units
from slurm_tf.errors import AllocationError, ContainerError, SlurmTfError
from slurm_tf.launch.agent import memory_cgroup, node_staging
from slurm_tf.launch.agent.program_container import ProgramContainer
from slurm_tf.launch.mapping import horovod_variables
from slurm_tf.launch.mapping.allocation import Allocation
from slurm_tf.launch.mapping.assignment import Assignment, in_utf_8, job_env
from slurm_tf.launch.nodes import probe
from slurm_tf.launch.transport import connections, messages, ports
from slurm_tf.launch.transport.connections import Client
from slurm_tf.launch.transport.message import Message
from slurm_tf.launch.transport.messages import (
    Greeting,
    Hello,
    Leave,
    Report,
    SharedAssignment,
    TaskAssignment,
    TryContainer,
    Unable,
)
from slurm_tf.launch.transport.stage_messages import (
    Stage,
    StillStaging,
    Unstage,
)
from slurm_tf.run import env
from slurm_tf.run.folder import SubmissionFolder


@dataclass(frozen=True)
class Registered:
    """What an agent has once it is registered.

    `reserved`: holds the task's port until this process ends, so that the program can be started again at the same
    address; None where none could be reserved.
    """

    client: Client
    allocation: Allocation
    greeting: Greeting
    reserved: Optional[socket.socket]
    assignment: Assignment


def register(environ: Mapping[str, str], roles: str, first_rank: int, inside: str = "") -> Optional[Registered]:
    """Register the task whose environment this is; None if the coordinator has the agent leave instead.

    `roles`: those of its step, "" for all; `first_rank`: the rank of the step's first task among those of all steps.
    `inside`: the runtime in whose container this process should be, "" for none.
    What keeps this task from taking part is sent to the coordinator, which ends the job and says so. Raises
    SlurmTfError where that cannot be sent.
    """
    allocation = Allocation.from_environ(environ)
    allocation = replace(allocation, rank=first_rank + allocation.rank)
    addresses, secret = _coordinator(environ)
    deadline = time.monotonic() + float(environ.get(env.REGISTER_TIMEOUT, "300"))
    client = connections.connect(addresses, secret, allocation.tasks, deadline)
    client.send(Hello())
    greeting = messages.expect(client.next(deadline), Greeting)
    allowed, reserved = greeting.ports, None
    try:
        _check_inside(environ, inside)
        if environ.get(env.PORTS):
            allowed = units.parse_ports(environ[env.PORTS])
        reserved = ports.reserve(allowed, (time.monotonic() + deadline) / 2)
        client.send(_report(allocation, greeting, client, ports.port_of(reserved), roles))
    except SlurmTfError as error:
        client.send(Unable(allocation.rank, allocation.node, str(error), isinstance(error, ContainerError)))
    deadline += greeting.assignment_timeout
    reply = _until_assigned(client, secret, allowed, deadline, greeting, environ)
    if isinstance(reply, Leave):
        return None
    task = messages.expect(reply, TaskAssignment)
    assignment = Assignment.of_parts(task, messages.expect(client.next(deadline), SharedAssignment))
    return Registered(client, allocation, greeting, reserved, assignment)


def _until_assigned(
    client: Client,
    secret: bytes,
    allowed: Optional[Tuple[int, int]],
    deadline: float,
    greeting: Greeting,
    environ: Mapping[str, str],
) -> Message:
    """Do what the coordinator asks of this node before the programs start; return the first other message."""
    while True:
        reply = probe.answer_requests(client, secret, allowed, deadline)
        if isinstance(reply, TryContainer):
            place = ProgramContainer(reply.container, SubmissionFolder(greeting.submission), environ, job_env(environ))
            client.send(place.try_command(tuple(map(in_utf_8, reply.command)), reply.seconds))
        elif isinstance(reply, Stage):
            node_staging.stage(reply, client, environ)
        elif isinstance(reply, Unstage):
            node_staging.unstage(reply, environ)
        elif not isinstance(reply, StillStaging):
            return reply
        if isinstance(reply, (Stage, StillStaging)):
            deadline = max(deadline, time.monotonic() + greeting.assignment_timeout)


def _report(allocation: Allocation, greeting: Greeting, client: Client, port: int, roles: str) -> Report:
    fast = ports.fast_address(greeting.interface, greeting.host_suffix, allocation.node)
    return Report(
        rank=allocation.rank,
        node=allocation.node,
        host=fast or client.sock.getsockname()[0],
        port=port,
        gpus=allocation.gpus,
        gpus_bound=allocation.gpus_bound,
        gpu_places=allocation.gpu_places,
        gpus_on_node=allocation.gpus_on_node,
        gpu_binding=allocation.gpu_binding,
        roles=roles,
        named=horovod_variables.named_address() if greeting.named else "",
        memory=memory_cgroup.node_mib(),
    )


def _check_inside(environ: Mapping[str, str], inside: str) -> None:
    """Raise ContainerError outside the container where Slurm should have started this process.

    Without oci.conf it ignores --container, and the program would run with the node's own libraries. pyxis is not
    ignored: without it srun does not know its options.
    """
    if inside == env.OCI and environ.get(env.INSIDE) != env.OCI:
        needed = "oci.conf beside its slurm.conf"
        raise ContainerError("Slurm ignored --container on this node", needed, "ask your administrators for it")


def _coordinator(environ: Mapping[str, str]) -> Tuple[List[Tuple[str, int]], bytes]:
    """Return the addresses at which the coordinator may be reached, and the job's secret."""
    addresses, secret = environ.get(env.COORDINATOR), environ.get(env.SECRET)
    if not addresses or not secret:
        raise AllocationError(
            f"{env.COORDINATOR} and {env.SECRET} are not set",
            "to be started by a coordinator (launch.pyz coordinate)",
            "if srun drops the environment, pass it --export=ALL",
        )
    hosts, _, port = addresses.rpartition(":")
    names = hosts.split(",")
    # where srun runs, in Slurm's own words: right even if the batch host's name resolves to nothing useful here
    launcher = environ.get("SLURM_LAUNCH_NODE_IPADDR", "")
    extra = [launcher] if launcher and names != ["127.0.0.1"] else []
    return [(name, int(port)) for name in dict.fromkeys([*names, *extra])], bytes.fromhex(secret)
