"""Measures how fast prepared records are read for training: small rows of 9 features, batches of 1024, one process.

    python benchmarks/reading.py [--rows 1000000] [--rounds 9] [--cache both|warm|cold] [--start-rows 10000000]

Prints a Markdown table for a warm page cache and one for a cold cache, and how long the start of an epoch takes. A
round is one epoch of each way over the same data set, and the next round runs them in reverse order. Cells are medians
of the rounds with the smallest and largest; ratios are medians of the ratios of each round. "a core" divides by the
seconds of CPU of all threads. Every way must give every record once. For the cold cache each file's pages are dropped
before each epoch (posix_fadvise), and mincore says that they are; as the pages of files that are mapped stay, such an
epoch has a process of its own, after one of a small data set. Bytes and reads are those of /proc/self/io: what is
mapped into memory counts among the bytes from storage alone. ArrayRecord takes part where array-record is installed
(pip install array-record etils).
"""

import argparse
import ctypes
import gc
import importlib.util
import json
import mmap
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0", "CUDA_VISIBLE_DEVICES": "-1"}

import numpy as np
import pyarrow as pa
import tensorflow as tf
from serialize import SCHEMA, cell, table

from slurm_tf.dataset import dataset_manifest
from slurm_tf.prepare import commit, record_file, shards
from slurm_tf.prepare.form import Form
from slurm_tf.train.data import examples
from slurm_tf.train.data.batches import Batches
from slurm_tf.train.data.prepared_records import Records

SHARDS = 10
SMALL = 20_000
OURS = "run.records, shuffled by records"


def data_set(folder, rows):
    """Write a data set whose column user is the number of the record."""
    folder.mkdir(mode=0o700)
    summaries = []
    for number in range(SHARDS):
        part = table(rows // SHARDS)
        numbers = pa.array(np.arange(number * part.num_rows, (number + 1) * part.num_rows))
        part = part.set_column(part.schema.get_field_index("user"), "user", numbers)
        shard = shards.ShardFile(str(folder), "train", number, SHARDS, Form.TFRECORD)
        summaries.append(shards.write_shard(shard, SCHEMA, [part], ""))
    commit.commit(str(folder), commit.manifest_of(summaries, Form.TFRECORD, SCHEMA, (), {}, {}, {}, ()))
    return folder


# --- the ways: each takes a folder and the size of a batch, and yields batches of features ---


def records(shuffle):
    """Return the way of run.records in a single task."""

    def batches(folder, size):
        for features, weight in Batches(Records(str(folder), "train", 0, shuffle, None), size, 0, 1).dataset:
            yield {**features, "weight": weight}

    return batches


def files_of(folder):
    return sorted(str(path) for path in folder.glob("*.tfrecord"))


def parsed(dataset, size):
    parse = tf.autograph.experimental.do_not_convert(lambda batch: examples.parse(SCHEMA, batch))
    return dataset.batch(size).map(parse, num_parallel_calls=tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)


def in_order(folder, size):
    """Read the files one after another, without any shuffling."""
    return parsed(tf.data.TFRecordDataset(files_of(folder)), size)


def shuffle_buffer(folder, size):
    """Shuffle as tutorials do: in a buffer of 100,000 records."""
    return parsed(tf.data.TFRecordDataset(files_of(folder)).shuffle(100_000), size)


def array_record(folder, size):
    """Read shuffled indices from ArrayRecord files by the data source that Grain has for them."""
    from array_record.python.array_record_data_source import ArrayRecordDataSource

    source = ArrayRecordDataSource([str(path) for path in array_records(folder)])
    order = np.random.default_rng(0).permutation(len(source))
    for first in range(0, len(order), size):
        batch = source.__getitems__(order[first : first + size].tolist())
        yield examples.parse(SCHEMA, tf.constant(batch))


def array_records(folder):
    """Return the data set as ArrayRecord files, which are written the first time."""
    from array_record.python.array_record_module import ArrayRecordWriter

    paths = [Path(path).with_suffix(".array_record") for path in files_of(folder)]
    for path, source in zip(paths, files_of(folder), strict=True):
        if path.exists():
            continue
        writer = ArrayRecordWriter(str(path), "group_size:1")
        with open(source, "rb") as file:
            for record in record_file.records(source, file, is_compressed=False):
                writer.write(record)
        writer.close()
    return paths


def installed_ways():
    ways = {
        OURS: records("records"),
        "run.records, shuffled by blocks": records("blocks"),
        "TFRecordDataset and parse_example after batch, in order": in_order,
        "the same, with a shuffle buffer of 100,000": shuffle_buffer,
    }
    if importlib.util.find_spec("array_record"):
        ways["ArrayRecord by Grain's data source, shuffled indices"] = array_record
    else:
        print("array_record is not installed, and takes no part.\n")
    return ways


# --- measuring ---


def storage():
    """Return (bytes of read calls, read calls, bytes from storage) of this process so far."""
    lines = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return np.array([int(lines[name]) for name in ("rchar", "syscr", "read_bytes")])


def drop_caches(folder):
    """Have the kernel forget the pages of the data set's files, and make sure that it has."""
    gc.collect()  # pages that are mapped stay
    for path in folder.iterdir():
        with open(path, "rb") as file:
            os.fsync(file.fileno())  # and so do pages that are not written yet
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    pages = sum(map(resident_pages, folder.glob("*.tfrecord")))
    assert not pages, f"{pages} pages are still in the page cache"


def resident_pages(path):
    """Return how many pages of a file are in the page cache (mincore)."""
    size = os.path.getsize(path)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        flags, start = np.zeros(-(-size // mmap.PAGESIZE), np.uint8), np.frombuffer(mapped, np.uint8)
        libc = ctypes.CDLL(None, use_errno=True)
        failed = libc.mincore(*map(ctypes.c_void_p, (start.ctypes.data, size, flags.ctypes.data)))
        del start
    assert not failed, os.strerror(ctypes.get_errno())
    return int((flags & 1).sum())


def measure(way, folder, size, rows):
    """Return what an epoch takes: examples/s, examples/s a core, and what was read of how many bytes."""
    before, start, cpu = storage(), time.perf_counter(), time.process_time()
    batches = [(features["user"], features.get("weight")) for features in way(folder, size)]
    taken, cpu = time.perf_counter() - start, time.process_time() - cpu
    read = storage() - before
    numbers = [each.numpy() if weight is None else each[weight > 0].numpy() for each, weight in batches]
    seen = np.concatenate(numbers)
    assert (np.sort(seen) == np.arange(rows)).all(), "not every record once"
    return {
        "rate": rows / taken,
        "core": rows / cpu,
        "called": float(read[0] / 1e6),
        "calls": int(read[1]),
        "storage": float(read[2] / 1e6),
    }


def measure_cold(name, folder, options):
    """Return what an epoch takes in a process of its own, whose caches are cold."""
    command = [sys.executable, __file__, "--cold-epoch", name, str(folder)]
    command += ["--rows", str(options.rows), "--batch-size", str(options.batch_size)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def cold_epoch(name, folder, options):
    """Print what an epoch takes, as JSON."""
    way = installed_ways()[name]
    measure(way, folder.parent / "small", options.batch_size, SMALL)  # imports, traces
    drop_caches(folder)
    print(json.dumps(measure(way, folder, options.batch_size, options.rows)))


def compare(ways, folder, options, is_cold):
    def one(name, way):
        if is_cold:
            return measure_cold(name, folder, options)
        return measure(way, folder, options.batch_size, options.rows)

    if not is_cold:
        for name, way in ways.items():  # imports, traces
            one(name, way)
    rounds = []
    for number in range(options.rounds):
        order = list(ways.items())[:: 1 if number % 2 == 0 else -1]
        rounds.append({name: one(name, way) for name, way in order})
    print(f"\nPage cache {'cold' if is_cold else 'warm'}:\n")
    heads = (
        "way",
        "thousand examples/s",
        "thousand a core",
        "ours / this",
        "a core",
        "MB read",
        "reads",
        "MB of storage",
    )
    print(f"| {' | '.join(heads)} |")
    print("|---" * len(heads) + "|")
    for name in ways:
        one = [each[name] for each in rounds]
        ratios = [cell([each[OURS][key] / each[name][key] for each in rounds], 2) for key in ("rate", "core")]
        rates = [cell([each[key] / 1e3 for each in one], 0) for key in ("rate", "core")]
        read = [f"{statistics.median(each[key] for each in one):.0f}" for key in ("called", "calls", "storage")]
        print(f"| {name} | {' | '.join([*rates, *ratios, *read])} |")


def epoch_starts(folder, rows, linked, shuffle):
    """Return the seconds to the first batch of a program, and to the first one of its next epoch."""
    batches = None
    start = time.perf_counter()
    batches = Batches(Records(str(linked), "train", 0, shuffle, None), 1024, 0, 1)
    next(iter(batches.dataset))
    first = time.perf_counter() - start
    assert batches.samples == rows, folder
    batches.step = batches.steps_per_epoch
    start = time.perf_counter()
    next(iter(batches.dataset))
    return first, time.perf_counter() - start


def linked_data_set(folder, linked, rows):
    """Make a data set of so many rows, whose shards are links to the shards of one that is smaller."""
    manifest = dataset_manifest.read(str(folder))
    (split,) = manifest.splits
    linked.mkdir(mode=0o700)
    more = []
    while sum(shard.rows for shard in more) < rows:
        shard = split.shards[len(more) % SHARDS]
        name = f"train-{len(more):05d}-of-99999.tfrecord"
        for end in ("", ".index"):
            os.link(folder / f"{shard.name}{end}", linked / f"{name}{end}")
        more.append(dataset_manifest.Shard(name, shard.rows, shard.bytes, shard.sha256, shard.digest))
    whole = {**vars(manifest), "splits": (dataset_manifest.Split("train", tuple(more)),)}
    dataset_manifest.write(str(linked), dataset_manifest.Manifest(**whole))
    return sum(shard.rows for shard in more)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--cache", choices=("both", "warm", "cold"), default="both")
    parser.add_argument("--start-rows", type=int, default=10_000_000, help="rows of the epochs that are started")
    parser.add_argument("--folder", help="where the data sets are written; needed are 0.4 GB for a million rows")
    parser.add_argument("--cold-epoch", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.rows -= options.rows % SHARDS
    if options.cold_epoch:
        cold_epoch(options.cold_epoch[0], Path(options.cold_epoch[1]), options)
        return
    ways = installed_ways()
    with tempfile.TemporaryDirectory(dir=options.folder) as scratch:
        folder = data_set(Path(scratch, "data"), options.rows)
        size = sum(os.path.getsize(path) for path in files_of(folder))
        print(f"Python {platform.python_version()}, TensorFlow {tf.__version__}, {os.cpu_count()} cores.")
        print(f"{options.rows} records of {size / options.rows:.0f} bytes in {SHARDS} shards, {options.rounds} rounds.")
        data_set(Path(scratch, "small"), SMALL)
        for is_cold in (True, False):  # what was mapped once here would not become cold
            if options.cache in ("both", "cold" if is_cold else "warm"):
                compare(ways, folder, options, is_cold)
        linked = Path(scratch, "linked")
        rows = linked_data_set(folder, linked, options.start_rows)
        print(f"\n| {rows} records | seconds to the first batch | of the next epoch |\n|---|---|---|")
        for shuffle in ("records", "blocks"):
            times = [epoch_starts(folder, rows, linked, shuffle) for _ in range(options.rounds)]
            print(f"| {shuffle} | {cell([each[0] for each in times], 2)} | {cell([each[1] for each in times], 2)} |")
    print(f"\nLoad {os.getloadavg()[0]:.1f} at the end.")


if __name__ == "__main__":
    main()
