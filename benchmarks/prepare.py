"""Measures how long a table takes to become a data set: `slurm-tf prepare` against a hand-written script in Polars.

    python benchmarks/prepare.py [--rows 3000000] [--rounds 3] [--cpus 2] [--mem 1G] [--beam PYTHON]

The job: clicks in CSV, joined with a table of users in MariaDB (in CSV without `mariadbd`, or if not root), a sum for
each user, three vocabularies, a split, 10 shards of tf.Example. Prints a Markdown table of seconds, rows a second,
seconds of CPU and the peak of memory, which is the sum of the processes' PSS. A round is one run of each way, and the
next round runs them in reverse order; cells are medians, with the smallest and largest. Each way must write the same
shards, byte for byte. Apache Beam takes part where --beam names an interpreter that has it (it needs other releases of
some packages than TensorFlow, and is slow: give fewer rows). Of Spark it says whether it is installed.
"""

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import duckdb

from slurm_tf.prepare import recipe_file
from tests.prepare import database_servers

USERS, PASSWORD = 200_000, database_servers.PASSWORD
COLUMNS = {
    "id": "BIGINT", "user_id": "BIGINT", "item": "BIGINT", "country": "VARCHAR", "device": "VARCHAR",
    "query": "VARCHAR", "cents": "BIGINT", "score": "DOUBLE", "clicked": "BIGINT",
}  # fmt: skip
RECIPE = """
mem = "{mem}"
cpus = {cpus}
[sources.clicks]
format = "csv"
path = "clicks.csv"
columns = {columns}
[sources.users]
{users}
columns = {{ user_id = "BIGINT", age = "BIGINT", segment = "VARCHAR" }}
[transform]
sql = "job.sql"
[features.clicked]
kind = "int64"
[features.item]
kind = "int64"
[features.country]
vocabulary = {{}}
[features.device]
vocabulary = {{}}
[features.segment]
vocabulary = {{ min-count = 2 }}
[features.query]
kind = "bytes"
[features.score]
kind = "float"
[features.spent]
kind = "int64"
[features.age]
kind = "int64"
[split]
key = ["id"]
shares = {{ train = 0.8, test = 0.2 }}
[output]
folder = "{out}"
shards = {{ train = 8, test = 2 }}
"""
SQL = """
SELECT clicks.*, age, segment, spent
FROM clicks
JOIN users USING (user_id)
JOIN (SELECT user_id, sum(cents) AS spent FROM clicks GROUP BY user_id) USING (user_id)
"""
QUERY = "SELECT user_id, age, segment FROM users"


def make_tables(folder, rows):
    """Write clicks.csv and users.csv; one in fifty clicks is of a user that is not in the table."""
    with duckdb.connect() as connection:
        connection.execute(
            f"COPY (SELECT i AS id, hash(i) % {USERS * 51 // 50} AS user_id, hash(i + 1) % 1000000 AS item, "
            "'c' || hash(i + 2) % 200 AS country, 'device ' || hash(i + 3) % 50 AS device, "
            "'what somebody looked for ' || repeat('w', (hash(i + 4) % 60)::INT) || hash(i + 5) % 1000 AS query, "
            "hash(i + 6) % 10000 AS cents, (hash(i + 7) % 1000000) / 7 AS score, hash(i + 8) % 2 AS clicked "
            f"FROM range({rows}) AS t(i)) TO '{folder}/clicks.csv' (HEADER)"
        )
        connection.execute(
            f"COPY (SELECT i AS user_id, hash(i) % 90 AS age, 's' || hash(i + 1) % 30 AS segment "
            f"FROM range({USERS}) AS t(i)) TO '{folder}/users.csv' (HEADER)"
        )


@contextlib.contextmanager
def users_table(folder):
    """Give the keys of the source users, and the URL of the database, "" for CSV."""
    if os.getuid() or not shutil.which("mariadbd"):
        yield 'format = "csv"\npath = "users.csv"', ""
        return
    with database_servers.mariadb() as server:
        server.run("use shop; create table users (user_id bigint primary key, age bigint, segment varchar(20))")
        rows = (folder / "users.csv").read_text().splitlines()[1:]
        for start in range(0, len(rows), 2_000):
            values = ",".join(f"({a},{b},'{c}')" for a, b, c in (row.split(",") for row in rows[start : start + 2_000]))
            server.run(f"use shop; insert into users values {values}")
        keys = f'format = "mysql"\nurl = "{server.url}"\npassword-variable = "SHOP_PASSWORD"\nquery = "{QUERY}"'
        yield keys, server.url.replace("reader@", f"reader:{quote(PASSWORD, safe='')}@")


def with_polars(folder, out, url):
    """Do the job as somebody who knows Polars and this serialiser would, in one process."""
    import numpy as np
    import polars as pl

    from slurm_tf.prepare import feature_columns, serialize
    from slurm_tf.prepare.row_errors import RowErrors

    schema = recipe_file.load(folder / "job.toml").schema
    types = {"VARCHAR": pl.String, "DOUBLE": pl.Float64, "BIGINT": pl.Int64}
    kinds = {name: types[kind] for name, kind in COLUMNS.items()}
    clicks = pl.scan_csv(folder / "clicks.csv", schema=kinds)
    table = pl.read_database_uri(QUERY, url, engine="connectorx") if url else pl.read_csv(folder / "users.csv")
    spent = clicks.group_by("user_id").agg(pl.col("cents").sum().alias("spent"))
    rows = clicks.join(table.lazy(), on="user_id").join(spent, on="user_id").collect()
    key = [str(number).encode() for number in rows["id"].to_list()]
    digests = b"".join(hashlib.md5(each, usedforsecurity=False).digest() for each in key)
    hashes = np.frombuffer(digests, ">u8").reshape(-1, 2).astype(np.uint64)
    is_test = hashes[:, 1] >= np.uint64(2**64 * 4 // 5)
    shards = np.where(is_test, 8 + hashes[:, 0] % np.uint64(2), hashes[:, 0] % np.uint64(8))
    rows = rows.with_columns(hash=hashes[:, 0], shard=shards, key=pl.col("id").cast(pl.String))
    for name, least in (("country", 1), ("device", 1), ("segment", 2)):
        train = rows.filter(pl.col("shard") < 8)
        words = (
            train.group_by(name)
            .len("count")
            .filter(pl.col("count") >= least)
            .sort(["count", name], descending=[True, False])
        )
        numbers = words.select(pl.col(name), pl.int_range(2, pl.len() + 2, dtype=pl.Int64).alias("number"))
        rows = (
            rows.join(numbers, on=name, how="left")
            .with_columns(pl.col("number").fill_null(1).alias(name))
            .drop("number")
        )
    out.mkdir()
    for (number,), part in sorted(rows.partition_by("shard", as_dict=True).items()):
        split, place, count = ("train", number, 8) if number < 8 else ("test", number - 8, 2)
        table = part.sort(["hash", "key"]).select([feature.name for feature in schema.features]).to_arrow()
        with open(out / f"{split}-{place:05d}-of-{count:05d}.tfrecord", "wb") as file:
            for batch in table.combine_chunks().to_batches():
                for piece in feature_columns.pieces(batch):
                    checked = feature_columns.checked(schema, piece, RowErrors(piece, "rows"))
                    file.write(serialize.contents(serialize.framed(serialize.records(schema, checked))))


def measured(command, environ):
    """Run a command; return its seconds, the peak of the memory of all its processes in MB, and their CPU seconds."""
    start, peak, before = time.monotonic(), 0.0, resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    while process.poll() is None:
        peak = max(peak, sum(map(pss, tree(process.pid))))
        time.sleep(0.1)
    taken = time.monotonic() - start
    assert process.returncode == 0, process.stderr.read().decode()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return taken, peak, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def tree(pid):
    """Return a process and all below it."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(each for child in children for each in tree(child))]


def pss(pid):
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1000


def sums(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.tfrecord")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--mem", default="1G")
    parser.add_argument("--beam", metavar="PYTHON", help="an interpreter with apache-beam, pyarrow and google-crc32c")
    parser.add_argument("--polars", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.polars:
        with_polars(Path(options.polars[0]), Path(options.polars[1]), os.environ["SHOP_URL"])
        return
    there = "installed" if importlib.util.find_spec("pyspark") else "not installed"
    print(f"Spark is {there}, and takes no part.")
    with tempfile.TemporaryDirectory(prefix="slurm-tf-bench-") as name:
        folder = Path(name)
        make_tables(folder, options.rows)
        with users_table(folder) as (users, url):
            rounds, rows, size = compare(options, folder, users, url)
    where = "MariaDB" if url else "CSV"
    print(f"Python {platform.python_version()}, {options.cpus} cpus, mem {options.mem}, users in {where}.")
    print(f"{options.rows} rows of CSV, {rows} records of {size} bytes, {options.rounds} alternating rounds.\n")
    print("| way | s | rows/s | CPU, s | peak, MB | times Polars |\n|---|---|---|---|---|---|")
    for way in rounds[0]:
        seconds, peaks, cpu = ([each[way][figure] for each in rounds] for figure in range(3))
        ratios = [each[way][0] / each["Polars, one process"][0] for each in rounds]
        rates = [options.rows / each for each in seconds]
        cells = cell(seconds, 1), cell(rates, 0), cell(cpu, 1), cell(peaks, 0), cell(ratios, 2)
        print(f"| {way} | {' | '.join(cells)} |")


def compare(options, folder, users, url):
    columns = "{ " + ", ".join(f'{name} = "{kind}"' for name, kind in COLUMNS.items()) + " }"
    (folder / "job.sql").write_text(SQL)
    text = RECIPE.format(mem=options.mem, cpus=options.cpus, columns=columns, users=users, out="ours")
    (folder / "job.toml").write_text(text)
    environ = {
        **os.environ, "PYTHONPATH": str(ROOT), "SHOP_PASSWORD": PASSWORD, "SHOP_URL": url,
        "POLARS_MAX_THREADS": str(options.cpus),
    }  # fmt: skip
    ways = {
        "slurm-tf prepare": ([sys.executable, "-m", "slurm_tf", "prepare", str(folder / "job.toml")], "ours"),
        "Polars, one process": (
            [sys.executable, __file__, "--polars", str(folder), str(folder / "theirs")], "theirs",
        ),
    }  # fmt: skip
    if options.beam:
        program = ROOT / "benchmarks" / "prepare_beam.py"
        words = [options.beam, str(program), str(folder), str(folder / "beam"), str(options.cpus)]
        ways["Apache Beam, DirectRunner"] = (words, "beam")
    rounds, expected = [], None
    for number in range(options.rounds):
        times = {}
        for way, (command, out) in list(ways.items())[:: 1 if number % 2 == 0 else -1]:
            shutil.rmtree(folder / out, ignore_errors=True)
            times[way] = measured(command, environ)
            expected = expected or sums(folder / out)
            assert sums(folder / out) == expected, f"{way} gives other shards"
        rounds.append({way: times[way] for way in ways})
    manifest = json.loads((folder / "ours" / "manifest.json").read_text())
    shards = [shard for split in manifest["splits"] for shard in split["shards"]]
    rows = sum(shard["rows"] for shard in shards)
    return rounds, rows, sum(shard["bytes"] for shard in shards) // rows


def cell(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
