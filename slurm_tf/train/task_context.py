"""Which task of which run this process is, as its agent left it in the environment. Standard library only."""

import json
from dataclasses import dataclass
from typing import Mapping, Optional

from slurm_tf.run import env, train_settings
from slurm_tf.run.train_settings import TrainSettings
from slurm_tf.run.version import check_version


@dataclass(frozen=True)
class TaskContext:
    """One task's place. `rank` of `size` counts the tasks that train: chief and workers, in this order.

    `run` is the run's folder, `attempt` which attempt of it this is, `step` which of its steps. `workers` and
    `servers`: how many tasks of these roles there are. Folders are "" outside of a run. `train`: what the job file says
    of checkpoints and training.
    """

    strategy: str
    role: str
    index: int
    rank: int
    size: int
    workers: int
    servers: int
    run: str
    attempt: str
    step: int
    checkpoints: str
    exports: str
    control_fd: Optional[int]
    train: TrainSettings

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "TaskContext":
        """Return the place of the process whose environment this is.

        TF_CONFIG and Horovod's variables from somewhere else than slurm-tf are honoured as well. Raises RunError if
        another release of slurm-tf started this process.
        """
        if env.CONTRACT in environ:
            check_version(environ[env.CONTRACT], "this job's launcher")
        config = json.loads(environ.get("TF_CONFIG") or "{}")
        cluster, task = config.get("cluster", {}), config.get("task", {"type": "worker", "index": 0})
        role, index = str(task["type"]), int(task["index"])
        chiefs = len(cluster.get("chief", ()))
        strategy = "ps" if "ps" in cluster else "multi_worker" if cluster else "single"
        strategy = environ.get(env.STRATEGY, "horovod" if "HOROVOD_RANK" in environ else strategy)
        rank, size = index + (chiefs if role == "worker" else 0), chiefs + len(cluster.get("worker", ()))
        if strategy == "horovod":
            index = rank = int(environ["HOROVOD_RANK"])
            size = int(environ["HOROVOD_SIZE"])
        return cls(
            strategy=strategy,
            role=role,
            index=index,
            rank=rank,
            size=size or 1,
            workers=len(cluster.get("worker", ())),
            servers=len(cluster.get("ps", ())),
            run=environ.get(env.RUN_FOLDER, ""),
            attempt=environ.get(env.ATTEMPT, ""),
            step=int(environ.get(env.STEP, "0")),
            checkpoints=environ.get(env.CHECKPOINT_FOLDER, ""),
            exports=environ.get(env.EXPORT_FOLDER, ""),
            control_fd=int(environ[env.CONTROL_FD]) if env.CONTROL_FD in environ else None,
            train=train_settings.from_environ(environ),
        )
