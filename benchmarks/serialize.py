"""Measures how long a row takes to become a record of TFRecord: 9 features, about 200 bytes, one process.

    python benchmarks/serialize.py [--rows 100000] [--rounds 9]

Prints a Markdown table of microseconds a row, of CPU. A round is one run of each way on the same rows, and the next
round runs them in reverse order. Cells are medians of the rounds with the smallest and largest, ratios are medians of
the rounds' ratios. Every way must give the same records, as protobuf serialises them deterministically. tfx-bsl takes
part where it is installed; it has no frames and no checksums.
"""

import argparse
import importlib.util
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "TF_ENABLE_ONEDNN_OPTS": "0"}

import numpy as np
import pyarrow as pa

from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.prepare import feature_columns, serialize, shards
from slurm_tf.prepare.form import Form
from slurm_tf.prepare.row_errors import RowErrors

KINDS = {
    "clicked": Kind.INT64, "country": Kind.BYTES, "day": Kind.INT64, "device": Kind.BYTES, "item": Kind.INT64,
    "price": Kind.FLOAT, "query": Kind.BYTES, "score": Kind.FLOAT, "user": Kind.INT64,
}  # fmt: skip
SCHEMA = Schema(tuple(Feature(name, kind) for name, kind in KINDS.items()))


def table(rows):
    """Return random rows: words of 2 to 66 bytes, integers of one to five bytes as varints."""
    random = np.random.default_rng(19)
    words = np.array([b"w" * length for length in range(2, 67)], object)

    def text(longest):
        return pa.array(words[random.integers(0, longest - 1, rows)].tolist(), pa.binary())

    columns = {
        "clicked": random.integers(0, 2, rows), "country": text(3), "day": random.integers(0, 365, rows),
        "device": text(12), "item": random.integers(0, 10**6, rows), "price": random.random(rows).astype("f"),
        "query": text(66), "score": random.random(rows).astype("f"), "user": random.integers(0, 10**9, rows),
    }  # fmt: skip
    return pa.RecordBatch.from_pydict({name: pa.array(column) for name, column in columns.items()})


# --- the ways: each takes the batch and a path for a file, and returns the records; None if only a file has them ---


def ours(batch, _path):
    """Check, serialise and frame."""
    messages = serialize.records(SCHEMA, feature_columns.checked(SCHEMA, batch, RowErrors(batch, "rows")))
    serialize.contents(serialize.framed(messages))
    return messages


def our_shard(batch, path):
    """Write a shard: the file and its sum, the digest, the index, the statistics."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        shards.write_shard(shards.ShardFile(folder, "train", 0, 1, Form.TFRECORD), SCHEMA, [batch], "")


def tutorial(batch, path):
    """Do as TensorFlow's tutorial on TFRecord does."""
    import tensorflow as tf  # it takes seconds

    lists = {
        Kind.INT64: lambda value: tf.train.Feature(int64_list=tf.train.Int64List(value=[value])),
        Kind.FLOAT: lambda value: tf.train.Feature(float_list=tf.train.FloatList(value=[value])),
        Kind.BYTES: lambda value: tf.train.Feature(bytes_list=tf.train.BytesList(value=[value])),
    }
    records = []
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in batch.to_pylist():
            features = {name: lists[KINDS[name]](value) for name, value in row.items()}
            example = tf.train.Example(features=tf.train.Features(feature=features))
            records.append(example.SerializeToString(deterministic=True))
            writer.write(records[-1])
    return pa.array(records, pa.binary())


def field_by_field(batch, path):
    """Fill the fields of one message again and again, which is the fastest way with protobuf."""
    import tensorflow as tf

    example, records = tf.train.Example(), []
    names = {Kind.INT64: "int64_list", Kind.FLOAT: "float_list", Kind.BYTES: "bytes_list"}
    fields = [getattr(example.features.feature[name], names[kind]).value for name, kind in KINDS.items()]
    for field, kind in zip(fields, KINDS.values(), strict=True):
        field.append(b"" if kind is Kind.BYTES else 0)
    columns = [batch.column(name).to_pylist() for name in KINDS]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for row in zip(*columns, strict=True):
            for field, value in zip(fields, row, strict=True):
                field[0] = value
            records.append(example.SerializeToString(deterministic=True))
            writer.write(records[-1])
    return pa.array(records, pa.binary())


def tfx_bsl(batch, _path):
    """Serialise in C++, without frames and checksums."""
    from tfx_bsl.coders import example_coder

    ends = pa.array(np.arange(batch.num_rows + 1, dtype=np.int32))
    lists = [pa.ListArray.from_arrays(ends, batch.column(name)) for name in KINDS]
    encoder = example_coder.RecordBatchToExamplesEncoder()
    return pa.array(encoder.encode(pa.RecordBatch.from_arrays(lists, names=list(KINDS))), pa.binary())


WAYS = {
    "ours": ours,
    "ours, a whole shard": our_shard,
    "protobuf, as in the tutorial": tutorial,
    "protobuf, field by field": field_by_field,
}


def measure(way, batch, path, expected):
    """Return the microseconds of CPU a row, after a comparison of the records."""
    start = time.process_time()
    records = way(batch, path)
    taken = (time.process_time() - start) / batch.num_rows * 1e6
    assert records is None or records.equals(expected), f"{way.__name__} gives other records"
    return taken


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=9)
    options = parser.parse_args()
    ways = dict(WAYS)
    if importlib.util.find_spec("tfx_bsl"):
        ways["tfx-bsl, without frames"] = tfx_bsl
    else:
        print("tfx-bsl is not installed, and takes no part.")
    batch = table(options.rows)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "rows.tfrecord")
        expected = tutorial(batch, path)
        for way in ways.values():  # imports, memory
            measure(way, batch.slice(0, 1000), path, expected.slice(0, 1000))
        rounds = []
        for number in range(options.rounds):
            order = list(ways.items())[:: 1 if number % 2 == 0 else -1]
            rounds.append({name: measure(way, batch, path, expected) for name, way in order})
    size = int(serialize.sizes(expected).mean())
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} at the end.")
    print(f"{options.rows} rows of {size} bytes, {options.rounds} alternating rounds.\n")
    print("| way | µs of CPU a row | times ours |\n|---|---|---|")
    for name in ways:
        times, ratios = [each[name] for each in rounds], [each[name] / each["ours"] for each in rounds]
        print(f"| {name} | {cell(times, 2)} | {cell(ratios, 2)} |")


def cell(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
