"""Measures the cost of a checkpoint and of a restore, with slurm_tf.train and with CheckpointManager.

    python benchmarks/checkpoint.py [--rounds 9] [--million 100] [--folder .] [--costs FILE]

Prints a Markdown table. One process trains 100 million float32 with a step that changes all of them. It saves in turn
with slurm_tf.train and with TensorFlow's own CheckpointManager, synchronous and asynchronous. Figures are medians with
the smallest and largest. CheckpointManager flushes nothing, so the benchmark flushes afterwards, and counts that time:
until then its checkpoint is in the page cache of one node. `--costs` writes slurm_tf.train's medians, which
benchmarks/goodput.py reads.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import tensorflow as tf

from slurm_tf.run import checkpoint_folder
from slurm_tf.train.checkpoint import save_interval
from slurm_tf.train.checkpoint.checkpoints import Checkpoints

VARIABLES = 10
DAY = 86400.0


class SlurmTfTrain:
    """Saves with slurm_tf.train."""

    name = "slurm_tf.train"

    def __init__(self, checkpoint, folder):
        self.checkpoint, self.folder = checkpoint, folder
        self.saver = Checkpoints(folder, 1)

    def save(self, step):
        self.saver.save(self.checkpoint, step)

    def written(self):
        self.saver.wait()

    def flush(self):
        """Do nothing: a committed checkpoint is flushed."""

    def restore(self):
        return Checkpoints(self.folder, 1).restore(self.checkpoint).step


class Manager:
    """Saves with tf.train.CheckpointManager."""

    def __init__(self, checkpoint, folder, asynchronous):
        self.name = f"CheckpointManager, {'a' if asynchronous else ''}synchronous"
        self.checkpoint, self.folder = checkpoint, folder
        self.manager = tf.train.CheckpointManager(checkpoint, folder, max_to_keep=1)
        self.options = tf.train.CheckpointOptions(enable_async=asynchronous)

    def save(self, step):
        self.manager.save(step, options=self.options)

    def written(self):
        self.checkpoint.sync()

    def flush(self):
        checkpoint_folder.flush_files(self.folder)

    def restore(self):
        newest = tf.train.latest_checkpoint(self.folder)
        self.checkpoint.restore(newest).assert_existing_objects_matched()
        return int(newest.rpartition("-")[2])


def training(million):
    """Return the variables, and a step that computes and then changes all of them."""
    size = million * 1_000_000 // VARIABLES
    variables = [tf.Variable(tf.zeros([size])) for _ in range(VARIABLES)]
    factor = tf.random.stateless_normal([1024, 1024], [1, 2], stddev=0.03)

    @tf.function
    def step():
        product = factor
        for _ in range(8):
            product = tf.tanh(product @ factor)
        for variable in variables:
            variable.assign_add(tf.fill([size], tf.reduce_mean(product) + 1.0))

    return variables, step


def timed(act):
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def measured(saver, step, number, steps_after):
    """Save once, and run at least `steps_after` steps from then on; return the figures in seconds."""
    usual = statistics.median(timed(step) for _ in range(5))
    done = []
    start = time.perf_counter()
    saver.save(number)
    blocked = time.perf_counter() - start

    def watch():
        saver.written()
        done.append(time.perf_counter() - start)

    watcher = threading.Thread(target=watch)
    watcher.start()
    steps = 0
    while watcher.is_alive() or steps < steps_after:
        step()
        steps += 1
    spent = time.perf_counter() - start
    watcher.join()
    flushed = timed(saver.flush)
    return {
        "training waits for the save": blocked,
        "training lost to it in all": spent - steps * usual,
        "until TensorFlow has written": None if isinstance(saver, SlurmTfTrain) else done[0],
        "until it is on storage": done[0] + flushed,
        "step": usual,
    }


def restored(saver, variables, number):
    """Restore the newest checkpoint; return the seconds that it takes."""
    before = float(variables[0][0])
    for variable in variables:
        variable.assign(tf.zeros_like(variable))
    found = []
    seconds = timed(lambda: found.append(saver.restore()))
    assert found == [number], (saver.name, found, number)
    assert 0 < float(variables[0][0]) <= before
    return seconds


def spread(values, digits=3):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--million", type=int, default=100, help="float32 values")
    parser.add_argument("--beside", type=int, default=20, help="the least number of steps that are timed after a save")
    parser.add_argument("--folder", default=".", help="the storage to measure")
    parser.add_argument("--costs", type=Path, help="a file to write for benchmarks/goodput.py")
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, TensorFlow {tf.__version__}, {os.cpu_count()} cores, ", end="")
    print(f"load {os.getloadavg()[0]:.1f} at the start, {options.rounds} alternating rounds.")
    with tempfile.TemporaryDirectory(dir=options.folder) as root:
        variables, step = training(options.million)
        savers = []
        for name in ("ours", "synchronous", "asynchronous"):
            folder = str(Path(root, name))
            os.mkdir(folder, 0o700)
            checkpoint = tf.train.Checkpoint(v=variables)
            manager = name != "ours"
            savers.append(
                Manager(checkpoint, folder, name == "asynchronous") if manager else SlurmTfTrain(checkpoint, folder)
            )
        step()
        for saver in savers:  # the first save of each builds functions that the later ones use
            measured(saver, step, 1, 1)
        rows = {saver.name: [] for saver in savers}
        for number in range(2, options.rounds + 2):
            for saver in savers[number % 3 :] + savers[: number % 3]:
                figures = measured(saver, step, number, options.beside)
                figures["until training continues from it"] = restored(saver, variables, number)
                rows[saver.name].append(figures)
                print(saver.name, {name: value and round(value, 3) for name, value in figures.items()}, file=sys.stderr)
    show(rows, options.million * 4)
    if options.costs:
        options.costs.write_text(json.dumps(costs(rows[SlurmTfTrain.name])))


def costs(figures):
    """Return the seconds that the model of goodput.py reads."""
    names = {
        "blocked": "training lost to it in all",
        "written": "until it is on storage",
        "recovery": "until training continues from it",
    }
    return {key: max(0.0, statistics.median(each[name] for each in figures)) for key, name in names.items()}


def show(rows, megabytes):
    every = [figures["step"] for each in rows.values() for figures in each]
    print(f"{megabytes} MB, a step takes {spread(every)} s.\n")
    print(f"| seconds | {' | '.join(rows)} |\n|---|{'---|' * len(rows)}")
    columns = {name: {key: [each[key] for each in figures] for key in figures[0]} for name, figures in rows.items()}
    for key in next(iter(columns.values())):
        if key != "step":
            cells = [spread(column[key]) if column[key][0] is not None else "" for column in columns.values()]
            print(f"| {key} | {' | '.join(cells)} |")
    speeds = [spread([megabytes / each for each in column["until it is on storage"]], 0) for column in columns.values()]
    print(f"| MB a second to storage | {' | '.join(speeds)} |")
    ours = columns[SlurmTfTrain.name]
    waits, loses = (statistics.median(ours[f"training {key}"]) for key in ("waits for the save", "lost to it in all"))
    stored = statistics.median(ours["until it is on storage"])
    chosen = save_interval.SaveInterval(DAY)
    chosen.record_save(stored, waits, megabytes * 1_000_000)
    seconds = chosen.seconds
    print(
        f'\nWith an interruption a day, `checkpoint.every = "auto"` chooses {seconds:.0f} s: training waits for '
        f"{waits / seconds:.4%} of the time, and loses {loses / seconds:.2%} in all; the most that it chooses is "
        f"{save_interval.MAX_OVERHEAD:.1%}."
    )


if __name__ == "__main__":
    main()
