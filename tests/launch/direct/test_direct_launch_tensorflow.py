"""TensorFlow itself, on the port that `launch` holds and on one that a TaskProlog let go."""

import subprocess
import sys
from pathlib import Path

import pytest

from slurm_tf.submit import task_prolog
from tests.launch.direct.test_direct_launch import LAUNCHER, after, seen, start, step

PROGRAM = """
import json, os
import tensorflow as tf
strategy = tf.distribute.MultiWorkerMirroredStrategy()
rank = float(os.environ["SLURM_PROCID"])
total = strategy.run(lambda: tf.distribute.get_replica_context().all_reduce("SUM", tf.constant(rank + 1)))
print(json.dumps([dict(os.environ), [float(total)]]))
"""
QUIET = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", "SLURM_TF_ROLES": "worker=2"}


@pytest.mark.tensorflow
def test_workers_of_launch_reduce(tmp_path: Path) -> None:
    done = start([*LAUNCHER, "--", sys.executable, "-c", PROGRAM], 2, tmp_path, environ=QUIET)
    assert [arguments for _, arguments in seen(done)] == [[3.0], [3.0]]


@pytest.mark.tensorflow
def test_workers_of_a_task_prolog_reduce(tmp_path: Path) -> None:
    prolog = tmp_path / "prolog"
    prolog.write_bytes(task_prolog.task_prolog(sys.executable))
    printed = start(["/bin/sh", str(prolog)], 2, tmp_path, environ=QUIET)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, text=True,
            env=after(each.stdout, {**step(rank, 2, tmp_path), **QUIET}),
        )
        for rank, each in enumerate(printed)
    ]  # fmt: skip
    try:
        outputs = [process.communicate(timeout=120)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [output.rpartition(", [")[2] for output in outputs] == ["3.0]]\n"] * 2
