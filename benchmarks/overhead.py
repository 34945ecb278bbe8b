"""Measures what slurm-tf costs while a program trains: two workers under `slurm-tf run`, and two started by hand.

    python benchmarks/overhead.py [--pairs 9] [--seconds 60]

Prints a Markdown table. "By hand" is a TF_CONFIG and one subprocess per worker. The program is a loop with TensorFlow's
own MultiWorkerMirroredStrategy, without slurm_tf.train. Both run the same number of steps, alternately. Figures are
medians, ratios are medians of the pairs' ratios with the smallest and largest. CPU seconds are those of all processes,
slurm-tf's own included; the time until the first step is done is counted apart.
"""

import argparse
import functools
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
WORKERS = 2
CALIBRATION_STEPS = 200
# The load may fall after the calibration: more steps than it gives, so that training takes at least --seconds.
MARGIN = 1.3
POLL_SECONDS = 0.02
TICKS = os.sysconf("SC_CLK_TCK")
ENVIRON = {"TF_CPP_MIN_LOG_LEVEL": "2", "TF_ENABLE_ONEDNN_OPTS": "0"}
JOB = """\
name = "overhead"
strategy = "multi_worker"
join = "optional"
command = {command}
[roles.worker]
count = {workers}
"""


def train(folder, steps):
    """Run the program: train a small network on random images, and print a line every 100 steps."""
    import tensorflow as tf  # the program alone needs it

    tf.config.threading.set_intra_op_parallelism_threads(1)
    rank = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    with strategy.scope():
        sizes = [(784, 512), (512, 256), (256, 10)]
        weights = [tf.Variable(tf.random.stateless_normal(size, [1, 2], stddev=0.05)) for size in sizes]
    images = tf.random.stateless_normal([64, 784], [3, rank])
    labels = tf.random.stateless_uniform([64], [4, rank], maxval=10, dtype=tf.int32)

    @tf.function
    def step():
        def replica():
            with tf.GradientTape() as tape:
                hidden = tf.nn.relu(images @ weights[0])
                logits = tf.nn.relu(hidden @ weights[1]) @ weights[2]
                loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
            gradients = tf.distribute.get_replica_context().all_reduce("MEAN", tape.gradient(loss, weights))
            for weight, gradient in zip(weights, gradients, strict=True):
                weight.assign_sub(0.01 * gradient)
            return loss

        return strategy.reduce("MEAN", strategy.run(replica), axis=None)

    for number in range(steps):
        loss = float(step())
        if number == 0:
            Path(folder, f"first-{rank}").write_text(str(time.time()))
        elif number % 100 == 0:
            print(f"step {number}: loss {loss:.4f}")
    Path(folder, f"last-{rank}").write_text(str(time.time()))


def by_hand(command, folder):
    """Start the workers; return them."""
    listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(WORKERS)]
    addresses = [f"127.0.0.1:{sock.getsockname()[1]}" for sock in listeners]
    for sock in listeners:
        sock.close()
    processes = []
    for rank in range(WORKERS):
        tf_config = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": rank}}
        with Path(folder, f"worker-{rank}.log").open("wb") as log:
            environ = {**os.environ, **ENVIRON, "TF_CONFIG": json.dumps(tf_config)}
            processes.append(subprocess.Popen(command, env=environ, stdout=log, stderr=log))
    return processes


def under_slurm_tf(command, folder):
    """Start `slurm-tf run`; return its process in a list."""
    job = Path(folder, "job.toml")
    job.write_text(JOB.format(command=json.dumps(command), workers=WORKERS))
    environ = {**os.environ, **ENVIRON, "SLURM_TF_RUNS": str(Path(folder, "runs")), "PYTHONPATH": str(ROOT)}
    with Path(folder, "output").open("wb") as log:
        run = [sys.executable, "-m", "slurm_tf", "run", str(job)]
        return [subprocess.Popen(run, env=environ, stdout=log, stderr=log)]


def cpu_of(roots):
    """Return the CPU seconds of the processes `roots` and all their descendants, ended ones included."""
    parents, seconds = {}, {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        pid = int(path.parent.name)
        parents[pid] = int(fields[1])
        seconds[pid] = sum(map(int, fields[11:15])) / TICKS
    found = set(roots)
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return sum(seconds.get(pid, 0.0) for pid in found)


def measured(start, steps, python=sys.executable):
    """Run the program once; return the wall and CPU seconds of start-up, and those of training."""
    with tempfile.TemporaryDirectory() as folder:
        command = [python, str(Path(__file__).resolve()), "--as-program", folder, str(steps)]
        begun, at_first = time.time(), None
        processes = start(command, folder)
        marks = [Path(folder, f"first-{rank}") for rank in range(WORKERS)]
        left, total = {process.pid: process for process in processes}, 0.0
        while left:
            time.sleep(POLL_SECONDS if at_first is None else 0.5)
            if at_first is None and all(mark.exists() for mark in marks):
                at_first = cpu_of(left)
            for pid, process in list(left.items()):
                done, status, usage = os.wait4(pid, os.WNOHANG)
                if done:
                    total += usage.ru_utime + usage.ru_stime
                    process.returncode = os.waitstatus_to_exitcode(status)
                    del left[pid]
                    assert process.returncode == 0, (command, Path(folder))
        first, last = (
            max(float(Path(folder, f"{mark}-{rank}").read_text()) for rank in range(WORKERS))
            for mark in ("first", "last")
        )
        return first - begun, at_first, last - first, total - at_first


def spread(values):
    return f"{statistics.median(values):.3f} ({min(values):.3f} to {max(values):.3f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--as-program", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.as_program:
        train(options.as_program[0], int(options.as_program[1]))
        return
    print_machine()
    rate = CALIBRATION_STEPS / measured(by_hand, CALIBRATION_STEPS)[2]
    ways = {
        "slurm-tf run": functools.partial(measured, under_slurm_tf),
        "by hand": functools.partial(measured, by_hand),
    }
    compare(ways, int(rate * options.seconds * MARGIN), options.pairs)


def print_machine():
    load = os.getloadavg()[0]
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {load:.1f} at the start.")


def compare(ways, steps, pairs):
    """Measure two ways alternately, and print a table; `ways`: by its name, what measures a number of steps."""
    found = {name: [] for name in ways}
    for number in range(pairs):
        for name in list(ways) if number % 2 == 0 else reversed(ways):
            found[name].append(ways[name](steps))
            print([round(value, 2) for value in found[name][-1]], name, file=sys.stderr, flush=True)
    first, second = found.values()
    shortest = min(row[2] for row in first + second)
    print(f"{steps} steps each, {shortest:.0f} s of training at least, {pairs} alternating pairs.\n")
    print(f"| seconds | {' | '.join(ways)} | ratio |\n|---|---|---|---|")
    names = ("start-up, wall", "start-up, CPU", "training, wall", "training, CPU")
    for column, name in enumerate(names):
        a, b = ([row[column] for row in rows] for rows in (first, second))
        ratios = [x / y for x, y in zip(a, b, strict=True)]
        print(f"| {name} | {statistics.median(a):.2f} | {statistics.median(b):.2f} | {spread(ratios)} |")


if __name__ == "__main__":
    main()
