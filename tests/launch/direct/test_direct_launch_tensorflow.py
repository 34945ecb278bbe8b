"""TensorFlow itself, on the port that `launch` holds and on one that a TaskProlog let go."""

import subprocess
import sys
from pathlib import Path

import pytest

from slurm_tf.submit import task_prolog
from tests import forkserver
from tests.launch.direct.direct_tasks import LAUNCHER, after, seen, start, step

PROGRAM = """
import json, os
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
rank = float(os.environ["SLURM_PROCID"])
total = strategy.run(lambda: tf.distribute.get_replica_context().all_reduce("SUM", tf.constant(rank + 1)))
print(json.dumps([dict(os.environ), [float(total)]]))
"""
ENVIRON = {**forkserver.VARIABLES, "CUDA_VISIBLE_DEVICES": "", "SLURM_TF_ROLES": "worker=2"}


@pytest.mark.tensorflow
def test_workers_of_launch_reduce(tmp_path: Path) -> None:
    done = start([*LAUNCHER, "--", forkserver.python(), "-c", PROGRAM], 2, tmp_path, environ=ENVIRON)
    assert [arguments for _, arguments in seen(done)] == [[3.0], [3.0]]


@pytest.mark.tensorflow
def test_workers_of_a_task_prolog_reduce(tmp_path: Path) -> None:
    prolog = tmp_path / "prolog"
    prolog.write_bytes(task_prolog.task_prolog(sys.executable))
    printed = start(["/bin/sh", str(prolog)], 2, tmp_path, environ=ENVIRON)
    processes = [
        subprocess.Popen(
            [forkserver.python(), "-c", PROGRAM], stdout=subprocess.PIPE, text=True,
            env=after(each.stdout, {**step(rank, 2, tmp_path), **ENVIRON}),
        )
        for rank, each in enumerate(printed)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [output.rpartition(", [")[2] for output in outputs] == ["3.0]]\n"] * 2
