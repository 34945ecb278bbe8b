"""Which task of which run this process is, as its agent left it in the environment. Standard library only."""

import json
from dataclasses import dataclass
from typing import Mapping, Optional

from slurm_tf.run import env
from slurm_tf.run.version import check_version


@dataclass(frozen=True)
class TaskContext:
    """One task's place. `rank` of `size` counts the tasks that train: chief and workers, in this order.

    `run` is the run's folder, `attempt` which attempt of it this is, `step` which of its steps. `workers` and
    `servers`: how many tasks of these roles there are. Folders are "" outside of a run. `save_every`: seconds; `mtbf`:
    mean seconds between interruptions, where the interval follows from it. The last four are the job file's [train];
    `mixed_precision` is "" for none.
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
    keep: int
    save_every: Optional[float]
    save_every_steps: Optional[int]
    mtbf: Optional[float]
    control_fd: Optional[int]
    accumulate: int
    mixed_precision: str
    bytes_per_pack: Optional[int]
    collective: str

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
        pack = environ.get(env.BYTES_PER_PACK)
        mtbf = environ.get(env.CHECKPOINT_MTBF)
        steps, seconds = environ.get(env.CHECKPOINT_EVERY_STEPS), environ.get(env.CHECKPOINT_EVERY)
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
            keep=int(environ.get(env.CHECKPOINT_KEEP, "3")),
            save_every=float(seconds) if seconds else None,
            save_every_steps=int(steps) if steps else None,
            mtbf=float(mtbf) if mtbf else None,
            control_fd=int(environ[env.CONTROL_FD]) if env.CONTROL_FD in environ else None,
            accumulate=int(environ.get(env.ACCUMULATE, "1")),
            mixed_precision=environ.get(env.MIXED_PRECISION, ""),
            bytes_per_pack=int(pack) if pack else None,
            collective=environ.get(env.COLLECTIVE, "auto"),
        )
