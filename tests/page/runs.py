"""Runs as they lie on storage, and reports of a training that goes on."""

import json
import math
import time
from pathlib import Path

from slurm_tf.run import attempts, status
from slurm_tf.run.attempts import Attempt, EndCause
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.manifest import ArrayShape
from slurm_tf.run.status import AttemptState, Progress, RunStatus, TaskState, TaskStatus
from tests.cli.scene import make_run


def make_training(folder: Path, name: str, job: str, steps: int = 0) -> RunFolder:
    """Make a run of two workers that trains in its second attempt, and has done so many steps."""
    run = make_run(folder, name, job)
    progress = Progress(float(steps), 1000.0, 12.5, {"loss": 0.5}, time.time())
    tasks = {
        f"worker:{n}": TaskStatus(TaskState.RUNNING, f"gpu00{n}", 0, progress=None if n else progress) for n in (0, 1)
    }
    now = time.time()
    status.write(run, RunStatus(name, job, 0, "gpu000", now - 500, AttemptState.RUNNING, tasks=tasks, written=now))
    first = Attempt(f"{job}.0", job, now - 400, now - 300, EndCause.PREEMPTION, 0, "preempted", 100, 200, True)
    attempts.write(run, [first, Attempt(f"{job}.1", job, now - 200, speaks=True)])
    report(run, range(0, steps, 10))
    Path(run.logs, f"slurm-{job}.out").write_text("[worker:0] <b>step</b> 1\n")
    for n in (0, 1):
        Path(run.log("worker", n)).write_text(f"\x1b[31mstep\x1b[m 1 of {n}\n")
    return run


def make_sweep(folder: Path, name: str, job: str) -> RunFolder:
    """Make a sweep of four rates, of which the first is the best."""
    points = {str(n): {"rate": 0.1 / 2**n, "units": 32} for n in range(4)}
    run = make_run(folder, name, job, ArrayShape(None, True, points))
    for n in range(4):
        Path(run.point(n).path).mkdir(mode=0o700)
        report(run.point(n), range(0, 100, 10), n * 0.1)
    return run


def report(run: RunFolder, steps: range, worse: float = 0.0) -> None:
    """Report of steps, as a program does."""
    with open(run.progress, "a", encoding="utf-8") as file:
        for step in steps:
            values = {"loss": math.exp(-step / 200) + worse, "val_accuracy": 1 - math.exp(-step / 150) - worse}
            file.write(json.dumps({"step": step, "at": time.time(), "attempt": "1.0/0", "values": values}) + "\n")
