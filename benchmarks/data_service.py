"""Measures a heavy map on one and on two data workers of a tf.data service, and in the task that trains itself.

    python benchmarks/data_service.py [--rounds 5] [--work 3000] [--samples 4000]

Prints a Markdown table. Each data worker, and the task that trains, is pinned to one CPU by taskset, as if it had a
node with one: with two CPUs two data workers take turns with the task that reads. All three are run by `slurm-tf run`,
one after the other in each round. Of each, the first pass is left out, and the second is counted from the request for
its first element to its end; every id must have come once. Rates are medians, ratios medians of those of the rounds,
with the smallest and the largest.
"""

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DATA_WORKERS = (0, 1, 2)
CPUS = sorted(os.sched_getaffinity(0))
SERVICE = """\
[roles.data-dispatcher]
[roles.data-worker]
count = {count}
command = {command}
"""
JOB = """\
name = "data-service"
strategy = "single"
command = {command}
[roles.worker]
"""
ENVIRON = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0", "OMP_NUM_THREADS": "1"}
# the index of the task, from the first CPU on; the task that trains has the last one
PINNED = 'exec taskset -c "$(echo {cpus} | cut -d, -f"$(({place} % {count} + 1))")" "$@"'


def program(samples, work, uses_service):
    """Read two passes of a heavy map; print the seconds of each."""
    import collections  # the program alone needs these
    import time

    import tensorflow as tf

    import slurm_tf.train as train

    def heavy(ids):
        value = tf.random.stateless_uniform([256], [1, 2])
        for _ in tf.range(work):
            value = tf.sin(value) + 1.0
        return ids, value

    run = train.init()
    made = tf.data.Dataset.range(samples).batch(8).map(heavy, num_parallel_calls=tf.data.AUTOTUNE)
    data = run.distribute(made) if uses_service else made.prefetch(tf.data.AUTOTUNE)
    for _ in range(2):
        begun, seen = time.monotonic(), collections.Counter()
        for ids, _ in data:
            seen.update(ids.numpy().tolist())
        assert seen == dict.fromkeys(range(samples), 1)
        print(f"pass of {time.monotonic() - begun:.4f} s", flush=True)


def pinned(place, *command):
    """Return a command that runs on one CPU."""
    script = PINNED.format(cpus=",".join(map(str, CPUS)), place=place, count=len(CPUS))
    return json.dumps(["sh", "-c", script, "sh", *command])


def measured(data_workers, options):
    """Return the samples a second of the second pass."""
    with tempfile.TemporaryDirectory() as folder:
        reads = [sys.executable, str(Path(__file__).resolve()), "--as-program", str(data_workers)]
        reads += [f"--samples={options.samples}", f"--work={options.work}"]
        job = JOB.format(command=pinned(len(CPUS) - 1, *reads))
        if data_workers:
            service = pinned("${SLURM_TF_TASK#*:}", sys.executable, "-m", "slurm_tf.train.data.service")
            job += SERVICE.format(count=data_workers, command=service)
        Path(folder, "job.toml").write_text(job)
        environ = {**os.environ, **ENVIRON, "SLURM_TF_RUNS": str(Path(folder, "runs")), "PYTHONPATH": str(ROOT)}
        argv = [sys.executable, "-m", "slurm_tf", "run", str(Path(folder, "job.toml"))]
        done = subprocess.run(argv, env=environ, capture_output=True, text=True, check=False)
        passes = re.findall(r"pass of (\S+) s", done.stdout + done.stderr)
        assert len(passes) == 2, done.stdout + done.stderr
        return options.samples / float(passes[-1])


def main():
    """Run what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=4000)
    parser.add_argument("--work", type=int, default=3000, help="iterations of the map for 8 samples")
    parser.add_argument("--as-program", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_program is not None:
        program(options.samples, options.work, bool(options.as_program))
        return
    load = os.getloadavg()[0]
    rounds = [{count: measured(count, options) for count in DATA_WORKERS} for _ in range(options.rounds)]
    print(f"Python {platform.python_version()}, {len(CPUS)} cores, load {load:.1f} at the start.\n")
    print("| data workers | samples/s | times one data worker |\n|---|---|---|")
    for count in DATA_WORKERS:
        rate = statistics.median(each[count] for each in rounds)
        ratios = sorted(each[count] / each[1] for each in rounds)
        times = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
        print(f"| {count or 'none: in the task'} | {rate:.0f} | {times} |")


if __name__ == "__main__":
    main()
