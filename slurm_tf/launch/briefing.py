"""What the coordinator tells each task: at first how to take part, and when all have come launch/environ.py's Place."""

import os
from typing import Any, Dict, List

from slurm_tf import contract
from slurm_tf.launch import horovod, lease, preflight
from slurm_tf.launch.cluster import Cluster
from slurm_tf.launch.future import Place

# TensorFlow knows one process under these strategies: a TF_CONFIG would make it wait for others.
_WITHOUT_CLUSTER = ("single", "mirrored", "horovod")


def greeting(settings: contract.LaunchSettings, place: Place, goes_on: bool) -> Dict[str, Any]:
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
            "group": place.group.path,
            "point": place.point,
            "signal": settings.checkpoint_signal,
            "goes_on": goes_on and settings.goes_on,
        },
    }


def shared(settings: contract.LaunchSettings, folder: contract.RunFolder, formed: Cluster) -> Dict[str, Any]:
    """Return what is the same for all. Raises RunError if the run is another attempt's by now."""
    return {
        "hosts": None if settings.strategy in _WITHOUT_CLUSTER else formed.hosts,
        "variables": _variables(settings, folder, len({task.node for task in formed.tasks})),
        "cluster_flags": settings.cluster_flags,
        "point": settings.point,
    }


def own(settings: contract.LaunchSettings, formed: Cluster) -> List[Dict[str, Any]]:
    """Return what is each task's own, in the order of the cluster."""
    nodes = [task.node for task in formed.tasks]
    every = horovod.places(settings.horovod, nodes, settings.interface) if settings.horovod else [{}] * len(nodes)
    return [
        {"role": task.role, "index": task.index, "gpus": task.gpus, "variables": variables}
        for task, variables in zip(formed.tasks, every)
    ]


def _variables(settings: contract.LaunchSettings, folder: contract.RunFolder, nodes: int) -> Dict[str, str]:
    """Return the contract with the program, but for what is each task's own."""
    held = lease.check(folder, lease.attempt(os.environ))
    variables = {
        contract.RUN: settings.run,
        contract.RUN_FOLDER: folder.path,
        contract.ATTEMPT: held.attempt,
        contract.STEP: str(held.step),
        contract.STRATEGY: settings.strategy,
        contract.CHECKPOINT_FOLDER: folder.checkpoints,
        contract.CHECKPOINT_KEEP: str(settings.checkpoint_keep),
        contract.EXPORT_FOLDER: folder.exports,
        contract.TENSORBOARD_FOLDER: folder.tensorboard,
        **settings.train,
    }
    if settings.checkpoint_every is not None:
        variables[contract.CHECKPOINT_EVERY] = str(settings.checkpoint_every)
    if settings.checkpoint_mtbf is not None:
        variables[contract.CHECKPOINT_MTBF] = str(settings.checkpoint_mtbf / nodes)
    if settings.checkpoint_every_steps is not None:
        variables[contract.CHECKPOINT_EVERY_STEPS] = str(settings.checkpoint_every_steps)
    return variables
