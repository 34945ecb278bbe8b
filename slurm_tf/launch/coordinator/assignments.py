"""Makes what the coordinator sends to each agent before its program starts: a greeting, then an assignment."""

import json
import os
from dataclasses import replace
from typing import Dict, List, Mapping, Optional

from slurm_tf.launch.decide import joining
from slurm_tf.launch.job_context import JobContext, attempt_id
from slurm_tf.launch.mapping import engine_variables, horovod_variables
from slurm_tf.launch.mapping.cluster import Cluster
from slurm_tf.launch.nodes import preflight
from slurm_tf.launch.transport.messages import Greeting, SharedAssignment, TaskAssignment
from slurm_tf.run import env, lease, serve_settings, train_settings
from slurm_tf.run.container_settings import ContainerSettings
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.settings import ENGINE, SERVE, LaunchSettings, RoleSettings

# TensorFlow knows one process under these strategies, where a TF_CONFIG would make it wait for others, or none.
_WITHOUT_CLUSTER = ("single", "mirrored", "horovod", ENGINE, SERVE)


def greeting(settings: LaunchSettings, context: JobContext, goes_on: bool) -> Greeting:
    """Return what each agent must know to register. `goes_on`: whether the run may be put back into the queue."""
    return Greeting(
        ports=settings.ports,
        interface=settings.interface,
        host_suffix=settings.host_suffix,
        assignment_timeout=settings.register_timeout + preflight.MAX_SECONDS,
        named=settings.horovod == "gloo",
        silence=settings.watch.coordinator,
        submission=context.submission.path,
        point=context.point,
        checkpoint_signal=settings.checkpoint_signal,
        goes_on=goes_on and settings.goes_on,
    )


def shared(settings: LaunchSettings, folder: RunFolder, cluster: Cluster) -> SharedAssignment:
    """Return the part that is the same for all tasks. Raises RunError if another attempt has taken the run over."""
    return SharedAssignment(
        hosts=None if settings.strategy in _WITHOUT_CLUSTER else cluster.hosts,
        variables=_variables(settings, folder, len({task.node for task in cluster.tasks})),
        cluster_flags=settings.cluster_flags,
        addresses=cluster.addresses if settings.shares_addresses else None,
    )


def of_tasks(
    settings: LaunchSettings, cluster: Cluster, memory: Mapping[str, int], stage_folders: Mapping[str, str]
) -> List[TaskAssignment]:
    """Return the part that differs between tasks, for each task in the order of the cluster.

    `memory`: MiB that each node has for this job, as far as it is known. `stage_folders`: where the tasks of each node
    find the files of [stage]; empty without it.
    """
    nodes = [task.node for task in cluster.tasks]
    variables: List[Dict[str, str]] = [{env.GPUS: settings.gpu_need(task.role).value} for task in cluster.tasks]
    if settings.horovod:
        of_ranks = horovod_variables.of_ranks(settings.horovod, nodes, settings.interface)
        variables = [{**each, **of_rank} for each, of_rank in zip(variables, of_ranks)]
    if settings.strategy == ENGINE:
        of_memory = engine_variables.memory(cluster, settings.roles, memory)
        variables = [{**each, **of_task} for each, of_task in zip(variables, of_memory)]
    if stage_folders:
        variables = [{**each, env.STAGE_FOLDER: stage_folders[node]} for each, node in zip(variables, nodes)]
    of_role = {role.name: role for role in settings.roles}
    commands = [of_role[task.role].command for task in cluster.tasks]
    joins, lead = joining.judged(settings), settings.lead
    first = {command: rank for rank, command in reversed(list(enumerate(commands)))}
    return [
        TaskAssignment(
            task.role,
            task.index,
            task.gpus,
            variables[rank],
            commands[rank],
            warns=first[commands[rank]] == rank,
            joins=task.name in joins,
            leads=task.name == lead,
            container=_wrapper(of_role[task.role]),
        )
        for rank, task in enumerate(cluster.tasks)
    ]


def _wrapper(role: RoleSettings) -> Optional[ContainerSettings]:
    """Return the container that an agent of the role starts its program in; None where it is inside itself."""
    return role.container if role.container and role.container.runtime.wraps else None


def _variables(settings: LaunchSettings, folder: RunFolder, nodes: int) -> Dict[str, str]:
    """Return the environment variables (run/env.py) that are the same for all programs."""
    held, train = lease.check(folder, attempt_id(os.environ)), settings.train
    if train.mtbf is not None:
        train = replace(train, mtbf=train.mtbf / nodes)
    serve = {env.SERVE: serve_settings.to_variable(settings.serve)} if settings.serve else {}
    return {
        **serve,
        env.RUN: settings.run,
        env.RUN_FOLDER: folder.path,
        env.ATTEMPT: held.attempt,
        env.STEP: str(held.step),
        env.STRATEGY: settings.strategy,
        env.CHECKPOINT_FOLDER: folder.checkpoints,
        env.EXPORT_FOLDER: folder.exports,
        env.TENSORBOARD_FOLDER: folder.tensorboard,
        env.TRAIN: train_settings.to_variable(train),
        env.PARAMS: json.dumps(dict(settings.params)),
    }
