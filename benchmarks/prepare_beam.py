"""Does the job of benchmarks/prepare.py in Apache Beam, as somebody who knows it would: in the DirectRunner.

    python benchmarks/prepare_beam.py FOLDER OUT CPUS

FOLDER has clicks*.csv, users.csv and duckdb.toml, as prepare.py writes them; it runs this by the Python that it was
given.
Serialises with the code of slurm-tf, and writes the same shards, byte for byte.
"""

import csv
import hashlib
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.pvalue import AsDict

from slurm_tf.prepare import feature_columns, recipe_file, serialize
from slurm_tf.prepare.row_errors import RowErrors

COLUMNS = ("id", "user_id", "item", "country", "device", "query", "cents", "score", "clicked")
WORDS = {"country": 1, "device": 1, "segment": 2}
NUMBERS = ("id", "user_id", "item", "cents", "clicked")
TRAIN, TEST = 8, 2


def click(line):
    row = dict(zip(COLUMNS, next(csv.reader([line])), strict=True))
    return row | {name: int(row[name]) for name in NUMBERS} | {"score": float(row["score"])}


def user(line):
    number, age, segment = line.split(",")
    return int(number), {"age": int(age), "segment": segment}


def joined(row, users, spent):
    if found := users.get(row["user_id"]):
        yield row | found | {"spent": spent[row["user_id"]]}


def placed(row):
    key = str(row["id"]).encode()
    digest = hashlib.md5(key, usedforsecurity=False).digest()
    first, second = int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:], "big")
    shard = TRAIN + first % TEST if second >= 2**64 * 4 // 5 else first % TRAIN
    return row | {"hash": first, "key": key, "shard": shard}


def numbered(counts, least):
    known = sorted((each for each in counts if each[1] >= least), key=lambda each: (-each[1], each[0]))
    return [(word, number) for number, (word, _) in enumerate(known, 2)]


def vocabulary(rows, name, least):
    """Return the numbers of the words in a column of the rows for training, as a collection of pairs."""
    return (
        rows
        | f"{name}, train" >> beam.Filter(lambda row: row["shard"] < TRAIN)
        | f"{name}, words" >> beam.Map(lambda row: row[name])
        | f"{name}, counts" >> beam.combiners.Count.PerElement()
        | f"{name}, all" >> beam.combiners.ToList()
        | f"{name}, numbers" >> beam.FlatMap(numbered, least)
    )


def with_numbers(row, **tables):
    return row | {name: table.get(row[name], 1) for name, table in tables.items()}


def write(group, folder, out):
    number, rows = group
    schema = recipe_file.load(Path(folder) / "duckdb.toml").schema
    rows = sorted(rows, key=lambda row: (row["hash"], row["key"]))
    names = [feature.name for feature in schema.features]
    split, place, count = ("train", number, TRAIN) if number < TRAIN else ("test", number - TRAIN, TEST)
    table = pa.table({name: [row[name] for row in rows] for name in names})
    with open(f"{out}/{split}-{place:05d}-of-{count:05d}.tfrecord", "wb") as file:
        for batch in table.combine_chunks().to_batches():
            for piece in feature_columns.pieces(batch):
                checked = feature_columns.checked(schema, piece, RowErrors(piece, "rows"))
                file.write(serialize.contents(serialize.framed(serialize.records(schema, checked))))


def main(folder, out, cpus):
    Path(out).mkdir()
    words = ["--runner=DirectRunner", "--direct_running_mode=multi_processing", f"--direct_num_workers={cpus}"]
    with beam.Pipeline(options=PipelineOptions([*words, "--save_main_session"])) as pipeline:
        clicks = pipeline | "clicks" >> beam.io.ReadFromText(f"{folder}/clicks*.csv", skip_header_lines=1)
        clicks = clicks | "click" >> beam.Map(click)
        users = pipeline | "users" >> beam.io.ReadFromText(f"{folder}/users.csv", skip_header_lines=1)
        users = users | "user" >> beam.Map(user)
        spent = clicks | beam.Map(lambda row: (row["user_id"], row["cents"])) | beam.CombinePerKey(sum)
        rows = clicks | "join" >> beam.FlatMap(joined, AsDict(users), AsDict(spent)) | "place" >> beam.Map(placed)
        tables = {name: AsDict(vocabulary(rows, name, least)) for name, least in WORDS.items()}
        rows = rows | "number" >> beam.Map(with_numbers, **tables)
        shards = rows | "by shard" >> beam.GroupBy(lambda row: row["shard"])
        shards | "write" >> beam.Map(write, folder, out)


if __name__ == "__main__":
    main(*sys.argv[1:])
