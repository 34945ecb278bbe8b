"""Reads from the environment that the agent has set which task this process is. Standard library only."""

import json
from dataclasses import dataclass
from typing import Any, Mapping, Optional

from slurm_tf.run import env, train_settings
from slurm_tf.run.settings import DATA_DISPATCHER, DATA_WORKER, GpuNeed
from slurm_tf.run.train_settings import TrainSettings
from slurm_tf.run.version import check_version


@dataclass(frozen=True)
class TaskContext:
    """The task that this process is. `rank` of `size` counts the tasks that train: the chief, then the workers.

    `workers`, `parameter_servers`: how many tasks of these roles there are. Folders are "" outside of a run.
    `params`: the values of the job's params. `export_step`: the step of the checkpoint that the program is to export
    into the folder of exports, None for a program that trains.
    `attempt`, `slurm_step`: the attempt of the run, and the number of its Slurm step; `restarts`: how often this task
    was started again in the attempt. `agent_fd`: the socket to the agent, None without one. `settings`: [checkpoint]
    and [train] of the job file. `gpu_need`: whether it is to have GPUs. `data_dispatcher`: the address of the job's
    tf.data service, "" without one, which has so many `data_workers`.
    """

    strategy: str
    role: str
    index: int
    rank: int
    size: int
    workers: int
    parameter_servers: int
    run_folder: str
    checkpoint_folder: str
    export_folder: str
    export_step: Optional[int]
    tensorboard_folder: str
    params: Mapping[str, Any]
    attempt: str
    slurm_step: int
    restarts: int
    agent_fd: Optional[int]
    settings: TrainSettings
    gpu_need: GpuNeed
    data_dispatcher: str
    data_workers: int

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "TaskContext":
        """Return the context of the process that has this environment.

        TF_CONFIG and Horovod's variables are read also where something else than slurm-tf has set them. Raises RunError
        if another release of slurm-tf has started this process.
        """
        if env.CONTRACT in environ:
            check_version(environ[env.CONTRACT], "this job's launcher")
        config = json.loads(environ.get("TF_CONFIG") or "{}")
        cluster, task = config.get("cluster", {}), config.get("task", {"type": "worker", "index": 0})
        role, index = str(task["type"]), int(task["index"])
        chiefs, workers = len(cluster.get("chief", ())), len(cluster.get("worker", ()))
        addresses = json.loads(environ.get(env.CLUSTER) or "{}")
        strategy = environ.get(env.STRATEGY) or _strategy(cluster, environ)
        rank, size = index + (chiefs if role == "worker" else 0), chiefs + workers
        if strategy == "horovod":
            index = rank = int(environ["HOROVOD_RANK"])
            size = int(environ["HOROVOD_SIZE"])
        return cls(
            strategy=strategy,
            role=role,
            index=index,
            rank=rank,
            size=size or 1,
            workers=workers,
            parameter_servers=len(cluster.get("ps", ())),
            run_folder=environ.get(env.RUN_FOLDER, ""),
            checkpoint_folder=environ.get(env.CHECKPOINT_FOLDER, ""),
            export_folder=environ.get(env.EXPORT_FOLDER, ""),
            export_step=int(environ[env.EXPORT_STEP]) if env.EXPORT_STEP in environ else None,
            tensorboard_folder=environ.get(env.TENSORBOARD_FOLDER, ""),
            params=json.loads(environ.get(env.PARAMS) or "{}"),
            attempt=environ.get(env.ATTEMPT, ""),
            slurm_step=int(environ.get(env.STEP, "0")),
            restarts=int(environ.get(env.RESTARTS, "0")),
            agent_fd=int(environ[env.CONTROL_FD]) if env.CONTROL_FD in environ else None,
            settings=train_settings.from_environ(environ),
            gpu_need=GpuNeed(environ.get(env.GPUS, GpuNeed.NONE)),
            data_dispatcher=next(iter(addresses.get(DATA_DISPATCHER, ())), ""),
            data_workers=len(addresses.get(DATA_WORKER, ())),
        )


def _strategy(cluster: Mapping[str, Any], environ: Mapping[str, str]) -> str:
    """Return the strategy of a program that slurm-tf has not started."""
    if "HOROVOD_RANK" in environ:
        return "horovod"
    if "ps" in cluster:
        return "ps"
    return "multi_worker" if cluster else "single"
