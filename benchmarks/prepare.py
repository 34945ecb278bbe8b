"""Measures how long a table takes to become a data set: `slurm-tf prepare` against a hand-written script in Polars.

    python benchmarks/prepare.py [--rows 3000000] [--rounds 3] [--cpus 2] [--mem 1G] [--beam PYTHON] [--spark PYTHON]

The job: clicks in CSV, joined with a table of users in MariaDB (in CSV without `mariadbd`, or if not root), a sum for
each user, three vocabularies, a split, 10 shards of tf.Example. Prints a Markdown table of seconds, rows a second,
seconds of CPU and the peak of memory, which is the sum of the processes' PSS. A round is one run of each way, and the
next round runs them in reverse order; cells are medians, with the smallest and largest. Each way must write the same
shards, byte for byte. Apache Beam and Spark take part where --beam and --spark name interpreters that have them: Beam
needs other releases of some packages than TensorFlow, and has a table of its own with fewer rows. Both read the users
as CSV, as neither has a driver for MariaDB without a download.
"""

import argparse
import contextlib
import hashlib
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

from slurm_tf.prepare import recipe_file
from tests.prepare import clicks_job, database_servers

USERS, PASSWORD = 200_000, database_servers.PASSWORD
OURS, POLARS = "slurm-tf prepare", "Polars, one process"


@contextlib.contextmanager
def users_table():
    """Give the keys of the source users, and the URL of the database, "" for CSV."""
    if os.getuid() or not shutil.which("mariadbd"):
        yield clicks_job.USERS_IN_CSV, ""
        return
    with database_servers.mariadb() as server:
        for statement in clicks_job.statements(USERS):
            server.run(statement)
        keys = f'format = "mysql"\nurl = "{server.url}"\npassword-variable = "SHOP_PASSWORD"'
        url = server.url.replace("reader@", f"reader:{quote(PASSWORD, safe='')}@")
        yield f'{keys}\nquery = "{clicks_job.QUERY}"', url


def with_polars(folder, out, url):
    """Do the job as somebody who knows Polars and this serialiser would, in one process."""
    import numpy as np
    import polars as pl

    from slurm_tf.prepare import feature_columns, serialize
    from slurm_tf.prepare.row_errors import RowErrors

    schema = recipe_file.load(folder / "duckdb.toml").schema
    types = {"VARCHAR": pl.String, "DOUBLE": pl.Float64, "BIGINT": pl.Int64}
    kinds = {name: types[kind] for name, kind in clicks_job.COLUMNS.items()}
    clicks = pl.scan_csv(folder / "clicks*.csv", schema=kinds)
    table = (
        pl.read_database_uri(clicks_job.QUERY, url, engine="connectorx") if url else pl.read_csv(folder / "users.csv")
    )
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
    seen = {}
    while process.poll() is None:
        pids = tree(process.pid)
        peak = max(peak, sum(map(pss, pids)))
        seen |= {pid: max(cpu_seconds(pid), seen.get(pid, 0.0)) for pid in pids}
        time.sleep(0.1)
    taken = time.monotonic() - start
    assert process.returncode == 0, process.stderr.read().decode()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    waited = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    # nobody waits for Spark's JVM: what it took is what it had taken at the last look
    return taken, peak, max(waited, sum(seen.values()))


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


def cpu_seconds(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sums(folder):
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.glob("*.tfrecord")}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=3_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--cpus", type=int, default=2)
    parser.add_argument("--mem", default="1G")
    parser.add_argument("--beam", metavar="PYTHON", help="an interpreter with apache-beam, and what shards need")
    parser.add_argument("--beam-rows", type=int, default=100_000, help="of a job of Apache Beam, which is slow")
    parser.add_argument("--spark", metavar="PYTHON", help="an interpreter with slurm-tf[prepare,spark]; a JDK 17")
    parser.add_argument("--polars", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.polars:
        with_polars(Path(options.polars[0]), Path(options.polars[1]), os.environ["SHOP_URL"])
        return
    print(f"Python {platform.python_version()}, {options.cpus} cpus, mem {options.mem}.")
    compare(options, options.rows, own_ways() | (spark_ways(options) if options.spark else {}))
    if options.beam:
        compare(options, options.beam_rows, own_ways() | beam_ways(options))


def own_ways():
    """Return the commands of each way by its name; {folder} is that of the sources, {out} that of the shards."""
    return {
        OURS: [sys.executable, "-m", "slurm_tf", "prepare", "{folder}/duckdb.toml"],
        POLARS: [sys.executable, __file__, "--polars", "{folder}", "{out}"],
    }


def spark_ways(options):
    program = str(ROOT / "benchmarks" / "prepare_spark.py")
    return {
        'slurm-tf prepare, engine = "spark"': [options.spark, "-m", "slurm_tf", "prepare", "{folder}/spark.toml"],
        "Spark, local": [options.spark, program, "{folder}", "{out}", str(options.cpus), options.mem],
    }


def beam_ways(options):
    program = str(ROOT / "benchmarks" / "prepare_beam.py")
    return {"Apache Beam, DirectRunner": [options.beam, program, "{folder}", "{out}", str(options.cpus)]}


def compare(options, rows, ways):
    """Run the ways on so many rows and print the table."""
    with tempfile.TemporaryDirectory(prefix="slurm-tf-bench-") as name, users_table() as (users, url):
        folder = Path(name)
        clicks_job.write_sources(folder, rows, USERS)
        clicks_job.write_users(folder, USERS)
        for engine in ("duckdb", "spark"):
            text = clicks_job.recipe(engine, options.mem, users, "out", options.cpus)
            (folder / f"{engine}.toml").write_text(text)
        rounds, records, size = measured_rounds(options, folder, ways, url)
    where = "MariaDB" if url else "CSV"
    print(f"\n{rows} rows of CSV, users in {where}; {records} records of {size} bytes; {options.rounds} rounds.\n")
    print("| way | s | rows/s | CPU, s | peak, MB | times Polars |\n|---|---|---|---|---|---|")
    for way in ways:
        seconds, peaks, cpu = ([each[way][figure] for each in rounds] for figure in range(3))
        ratios = [each[way][0] / each[POLARS][0] for each in rounds]
        rates = [rows / each for each in seconds]
        cells = cell(seconds, 1), cell(rates, 0), cell(cpu, 1), cell(peaks, 0), cell(ratios, 2)
        print(f"| {way} | {' | '.join(cells)} |")


def measured_rounds(options, folder, ways, url):
    """Return the figures of each way in each round, the number of records, and their mean size."""
    environ = {
        **os.environ, "PYTHONPATH": str(ROOT), "SHOP_PASSWORD": PASSWORD, "SHOP_URL": url,
        "POLARS_MAX_THREADS": str(options.cpus),
    }  # fmt: skip
    out, rounds, expected = folder / "out", [], None
    for number in range(options.rounds):
        times = {}
        for way, command in list(ways.items())[:: 1 if number % 2 == 0 else -1]:
            shutil.rmtree(out, ignore_errors=True)
            times[way] = measured([word.format(folder=folder, out=out) for word in command], environ)
            expected = expected or sums(out)
            assert sums(out) == expected, f"{way} gives other shards"
            if way == OURS:
                manifest = json.loads((out / "manifest.json").read_text())
        rounds.append(times)
    shards = [shard for split in manifest["splits"] for shard in split["shards"]]
    records = sum(shard["rows"] for shard in shards)
    return rounds, records, sum(shard["bytes"] for shard in shards) // records


def cell(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


if __name__ == "__main__":
    main()
