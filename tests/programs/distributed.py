"""Reads a data set that the job's data workers compute, and prints how often each id came in each pass.

"half way" is printed in the first pass, where it waits for the file "go on", if it is to wait.
"""

import argparse
import collections
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

import slurm_tf.train as train

parser = argparse.ArgumentParser()
parser.add_argument("--samples", type=int, default=500, help="of all tasks together")
parser.add_argument("--batch", type=int, default=8, help="ids that a data worker computes together")
parser.add_argument("--work", type=int, default=1, help="how heavy the computation of a batch is")
parser.add_argument("--passes", type=int, default=2)
parser.add_argument("--waits", action="store_true")
options = parser.parse_args()

run = train.init()


def heavy(ids: tf.Tensor) -> Any:
    """Return the ids, and something that takes long to compute on one CPU."""
    value = tf.cast(ids, tf.float32)
    for _ in tf.range(options.work):
        value = tf.sin(value) + 1.0
    return ids, value


def make(context: tf.distribute.InputContext) -> tf.data.Dataset:
    """Return this task's part of the ids."""
    ids = np.arange(options.samples)[context.input_pipeline_id :: context.num_input_pipelines]
    return tf.data.Dataset.from_tensor_slices(ids).shuffle(100).batch(options.batch).map(heavy)


data = run.distribute(run.dataset(make)).rebatch(10)
mine = set(range(run.rank, options.samples, run.size))
for each in range(options.passes):
    started, seen = time.monotonic(), collections.Counter[int]()
    for ids, _ in data:
        seen.update(ids.numpy().tolist())
        if options.waits and each == 0 and seen.total() == 10 * (len(mine) // 20):
            print("half way", flush=True)
            while not Path("go on").exists():
                time.sleep(0.1)
    seconds = time.monotonic() - started
    lost, twice = len(mine - set(seen)), sum(count > 1 for count in seen.values())
    print(f"pass {each}: {seen.total()} of {len(mine)} ids, {lost} lost, {twice} twice, in {seconds:.3f} s", flush=True)
