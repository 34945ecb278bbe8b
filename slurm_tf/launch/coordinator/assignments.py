"""What the coordinator tells each task: how to register, then its assignment (launch/mapping/assignment.py)."""

import os
from typing import Any, Dict, List

from slurm_tf.launch.job_context import JobContext, attempt_id
from slurm_tf.launch.mapping import horovod_variables
from slurm_tf.launch.mapping.cluster import Cluster
from slurm_tf.launch.nodes import preflight
from slurm_tf.run import env, lease
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.settings import LaunchSettings

# TensorFlow knows one process under these strategies: a TF_CONFIG would make it wait for others.
_WITHOUT_CLUSTER = ("single", "mirrored", "horovod")


def greeting(settings: LaunchSettings, place: JobContext, goes_on: bool) -> Dict[str, Any]:
    """Return what each agent must know to take part, and what to do when it is left alone.

    `goes_on`: whether the run may be put back into the queue.
    """
    return {
        "ports": settings.ports,
        "interface": settings.interface,
        "patience": settings.register_timeout + preflight.PATIENCE_SECONDS,
        "named": settings.horovod == "gloo",
        "silence": settings.watch.coordinator,
        "alone": {
            "submission": place.submission.path,
            "point": place.point,
            "signal": settings.checkpoint_signal,
            "goes_on": goes_on and settings.goes_on,
        },
    }


def shared(settings: LaunchSettings, folder: RunFolder, formed: Cluster) -> Dict[str, Any]:
    """Return what is the same for all. Raises RunError if the run is another attempt's by now."""
    return {
        "hosts": None if settings.strategy in _WITHOUT_CLUSTER else formed.hosts,
        "variables": _variables(settings, folder, len({task.node for task in formed.tasks})),
        "cluster_flags": settings.cluster_flags,
        "point": settings.point,
    }


def own(settings: LaunchSettings, formed: Cluster) -> List[Dict[str, Any]]:
    """Return what is each task's own, in the order of the cluster."""
    nodes = [task.node for task in formed.tasks]
    every = (
        horovod_variables.places(settings.horovod, nodes, settings.interface) if settings.horovod else [{}] * len(nodes)
    )
    return [
        {"role": task.role, "index": task.index, "gpus": task.gpus, "variables": variables}
        for task, variables in zip(formed.tasks, every)
    ]


def _variables(settings: LaunchSettings, folder: RunFolder, nodes: int) -> Dict[str, str]:
    """Return the contract with the program, but for what is each task's own."""
    held = lease.check(folder, attempt_id(os.environ))
    variables = {
        env.RUN: settings.run,
        env.RUN_FOLDER: folder.path,
        env.ATTEMPT: held.attempt,
        env.STEP: str(held.step),
        env.STRATEGY: settings.strategy,
        env.CHECKPOINT_FOLDER: folder.checkpoints,
        env.CHECKPOINT_KEEP: str(settings.checkpoint_keep),
        env.EXPORT_FOLDER: folder.exports,
        env.TENSORBOARD_FOLDER: folder.tensorboard,
        **settings.train,
    }
    if settings.checkpoint_every is not None:
        variables[env.CHECKPOINT_EVERY] = str(settings.checkpoint_every)
    if settings.checkpoint_mtbf is not None:
        variables[env.CHECKPOINT_MTBF] = str(settings.checkpoint_mtbf / nodes)
    if settings.checkpoint_every_steps is not None:
        variables[env.CHECKPOINT_EVERY_STEPS] = str(settings.checkpoint_every_steps)
    return variables
