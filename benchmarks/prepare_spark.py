"""Does the job of benchmarks/prepare.py in Spark on this machine, as somebody who knows it would.

    python benchmarks/prepare_spark.py FOLDER OUT CPUS MEM

FOLDER has clicks*.csv, users.csv and duckdb.toml, as prepare.py writes them; it runs this by the Python that it was
given. Serialises with the code of slurm-tf, and writes the same shards, byte for byte.
"""

import os
import sys
from decimal import Decimal
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ |= {
    "PYSPARK_PYTHON": sys.executable,
    "PYTHONPATH": str(ROOT),
    # JDK 17 fails where it looks at cgroups of version 1
    "JAVA_TOOL_OPTIONS": "-XX:-UseContainerSupport",
}

import pyarrow as pa
from pyspark.sql import SparkSession
from pyspark.sql import functions as sql

from slurm_tf.prepare import feature_columns, recipe_file, serialize
from slurm_tf.prepare.row_errors import RowErrors
from tests.prepare import clicks_job

TYPES = {"BIGINT": "bigint", "VARCHAR": "string", "DOUBLE": "double"}
CLICKS = ", ".join(f"{name} {TYPES[kind]}" for name, kind in clicks_job.COLUMNS.items())
WORDS = {"country": 1, "device": 1, "segment": 2}
TRAIN, TEST = clicks_job.TRAIN_SHARDS, clicks_job.TEST_SHARDS


def placed(rows):
    """Add the hash of each row and the number of its shard, those of train first."""
    digest = sql.md5(sql.col("id").cast("string"))
    first, last = (sql.conv(sql.substring(digest, at, 16), 16, 10).cast("decimal(20,0)") for at in (1, 17))
    shard = sql.when(last < sql.lit(Decimal(2**64 * 4 // 5)), first % TRAIN).otherwise(first % TEST + TRAIN)
    return rows.withColumn("hash", first).withColumn("shard", shard.cast("int"))


def with_numbers(rows, name, least):
    """Put the numbers of a vocabulary, learned from train, in place of words."""
    counts = rows.where(sql.col("shard") < TRAIN).groupBy(name).count().where(sql.col("count") >= least)
    words = [row[name] for row in counts.orderBy(sql.desc("count"), name).select(name).collect()]
    numbers = rows.sparkSession.createDataFrame(list(zip(words, range(2, len(words) + 2), strict=True)), [name, "n"])
    known = rows.join(sql.broadcast(numbers), name, "left").drop(name)
    return known.withColumn(name, sql.coalesce("n", sql.lit(1))).drop("n")


def writer(folder, out):
    """Return the function that writes the rows of a shard, which are given as a table."""

    def write(table):
        schema = recipe_file.load(Path(folder) / "duckdb.toml").schema
        number = table["shard"][0].as_py()
        split, place, count = ("train", number, TRAIN) if number < TRAIN else ("test", number - TRAIN, TEST)
        table = table.sort_by([("hash", "ascending"), ("key", "ascending")])
        table = table.select([feature.name for feature in schema.features])
        with open(f"{out}/{split}-{place:05d}-of-{count:05d}.tfrecord", "wb") as file:
            for batch in table.combine_chunks().to_batches():
                for piece in feature_columns.pieces(batch):
                    checked = feature_columns.checked(schema, piece, RowErrors(piece, "rows"))
                    file.write(serialize.contents(serialize.framed(serialize.records(schema, checked))))
        return pa.table({"shard": pa.array([number], pa.int32())})

    return write


def main(folder, out, cpus, mem):
    Path(out).mkdir()
    builder = SparkSession.builder.master(f"local[{cpus}]").config("spark.driver.memory", mem)
    builder = builder.config("spark.ui.enabled", "false").config("spark.sql.shuffle.partitions", 2 * int(cpus))
    spark = builder.config("spark.sql.execution.arrow.maxRecordsPerBatch", 1 << 14).getOrCreate()
    clicks = spark.read.csv(f"{folder}/clicks*.csv", CLICKS, header=True)
    users = spark.read.csv(f"{folder}/users.csv", "user_id bigint, age bigint, segment string", header=True)
    spent = clicks.groupBy("user_id").agg(sql.sum("cents").alias("spent"))
    rows = placed(clicks.join(users, "user_id").join(spent, "user_id")).withColumn("key", sql.col("id").cast("string"))
    for name, least in WORDS.items():
        rows = with_numbers(rows, name, least)
    rows.groupBy("shard").applyInArrow(writer(folder, out), "shard int").collect()
    spark.stop()


if __name__ == "__main__":
    main(*sys.argv[1:])
