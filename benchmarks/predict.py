"""Measures `slurm-tf predict` beside a hand-written loop over tf.saved_model: rows a second of one process.

    python benchmarks/predict.py [--rows 200000] [--rounds 9] [--batch 256]

Prints a Markdown table. The models are networks on 64 numbers: a small one, whose call takes a fraction of a
millisecond a batch, and one of 17 million weights, whose call takes nearly all of the time; it has a 20th of the rows.
The rows are tf.train.Examples in a TFRecord file, and both ways write a line of JSON for each row. The loop reads with
tf.data, parses batches, calls the signature and writes with the module json; it checks, counts and flushes nothing. A
round is each way once, in a process of its own that has loaded the model and computed a batch before the clock starts;
the next round has them in the other order. "a CPU second" divides by the seconds of CPU of all threads. Cells are
medians of the rounds with the smallest and largest, ratios those of each round's ratios.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}

WIDTH = 64
# The widths of the layers of each model, and which fraction of the rows it has.
MODELS = {"small": ([128, 10], 1), "17 M weights": ([4096, 4096, 10], 20)}


def write_model(folder, layers):
    import tensorflow as tf

    class Network(tf.Module):
        def __init__(self):
            self.weights = [
                tf.Variable(tf.random.stateless_normal([before, after], [1, 2]) / before**0.5)
                for before, after in zip([WIDTH, *layers], layers, strict=False)
            ]

        @tf.function(input_signature=[tf.TensorSpec([None, WIDTH], tf.float32, "x")])
        def __call__(self, x):
            for weight in self.weights[:-1]:
                x = tf.nn.relu(x @ weight)
            return {"scores": tf.nn.softmax(x @ self.weights[-1])}

    network = Network()
    tf.saved_model.save(network, folder, {"serving_default": network.__call__})


def write_rows(path, rows):
    import numpy as np
    import tensorflow as tf

    values = np.random.default_rng(0).normal(size=(rows, WIDTH)).astype("float32")
    with tf.io.TFRecordWriter(path) as writer:
        for each in values:
            feature = tf.train.Feature(float_list=tf.train.FloatList(value=each))
            writer.write(tf.train.Example(features=tf.train.Features(feature={"x": feature})).SerializeToString())


def by_hand(version, source, target, batch):
    """Return the seconds, and those of CPU, of the loop that one writes by hand."""
    import tensorflow as tf

    model = tf.saved_model.load(version)
    function = model.signatures["serving_default"]
    function(x=tf.zeros([batch, WIDTH]))
    features = {"x": tf.io.FixedLenFeature([WIDTH], tf.float32)}
    started = time.perf_counter(), time.process_time()
    data = (
        tf.data.TFRecordDataset(source).batch(batch).map(lambda each: tf.io.parse_example(each, features)).prefetch(2)
    )
    with open(target, "w") as file:
        for each in data:
            for scores in function(**each)["scores"].numpy().tolist():
                file.write(json.dumps({"scores": scores}) + "\n")
    return time.perf_counter() - started[0], time.process_time() - started[1]


def by_predict(output, batch):
    """Return the seconds, and those of CPU, of shard_process for its shard."""
    import threading

    import tensorflow as tf

    from slurm_tf.predict import prediction_plan, shard_process

    prediction = shard_process._Prediction(output, prediction_plan.read(output), threading.Event())
    prediction._function(x=tf.zeros([batch, WIDTH]))
    started = time.perf_counter(), time.process_time()
    prediction.compute(0)
    return time.perf_counter() - started[0], time.process_time() - started[1]


def seconds(*words):
    """Measure one way in a process of its own."""
    done = subprocess.run(
        [sys.executable, __file__, "--one", *map(str, words)], capture_output=True, text=True, check=True
    )
    return [float(each) for each in done.stdout.split()[-2:]]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--one", nargs="+")
    options = parser.parse_args()
    if options.one:
        way, *words = options.one
        words[-1] = int(words[-1])
        print(*{"hand": by_hand, "predict": by_predict}[way](*words))
        return
    print("| model | way | rows/s | rows a CPU second | predict / this, rows/s | predict / this, a CPU second |")
    print("|---|---|---|---|---|---|")
    for name, (layers, fraction) in MODELS.items():
        rates = measure(layers, options.rows // fraction, options.rounds, options.batch)
        for way, title in (("hand", "a loop over tf.saved_model"), ("predict", "slurm-tf predict")):
            pairs = list(zip(rates["predict"], rates[way], strict=True))
            cells = [cell([each[place] for each in rates[way]], ",.0f") for place in (0, 1)]
            cells += [cell([ours[place] / theirs[place] for ours, theirs in pairs], ".2f") for place in (0, 1)]
            print(f"| {name} | {title} | {' | '.join(cells)} |", flush=True)
    print(f"\n{options.rows} rows of {WIDTH} numbers, batches of {options.batch}, {options.rounds} rounds")


def measure(layers, rows, rounds, batch):
    """Return the rows a second, and a second of CPU, of each round of each way."""
    from slurm_tf.models import model_versions
    from slurm_tf.predict import batch_prediction
    from slurm_tf.predict.prediction_plan import OutputFormat

    rates = {"hand": [], "predict": []}
    with tempfile.TemporaryDirectory() as scratch:
        version, source = f"{scratch}/m/1", f"{scratch}/rows.tfrecord"
        os.mkdir(f"{scratch}/m", 0o700)
        write_model(version, layers)
        for path in (version, *map(str, Path(version).rglob("*"))):
            os.chmod(path, 0o700)
        assert model_versions.find(f"{scratch}/m").number == 1
        write_rows(source, rows)
        for number in range(rounds):
            output = f"{scratch}/out{number}"
            batch_prediction.prepare(
                batch_prediction.Request(
                    f"{scratch}/m", None, "", source, output, 1, batch, 0, 60.0, OutputFormat.JSONL, ()
                )
            )
            ways = [("hand", version, source, f"{scratch}/hand.jsonl"), ("predict", output)]
            for way, *words in ways if number % 2 else ways[::-1]:
                rates[way].append([rows / each for each in seconds(way, *words, batch)])
            found = [read(path) for path in (f"{scratch}/hand.jsonl", f"{output}/part-00000-of-00001.jsonl")]
            assert found[0] == found[1], "the two ways have written other rows"
    return rates


def read(path):
    return [json.loads(line) for line in Path(path).read_text().splitlines()]


def cell(values, form):
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


main()
