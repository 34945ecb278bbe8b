"""Measures a usage report: a million rows of sacct in 10,000 groups, added up by slurm-tf, by pandas and by polars.

    python benchmarks/usage.py [--rows 1000000] [--rounds 3]

Each runs in a process of its own, in each round, on the same table: user, account and partition; CPU-hours, GPU-hours,
distinct jobs, incarnations, median and 90th percentile of the wait times. The results must agree: sums to the second,
percentiles to 1%. A script prints the table for `slurm-tf usage` in place of sacct: the first run fills its ledger, the
second reads it. Prints a Markdown table: medians, with the smallest and largest; for wall times also the ratio to
pandas in the same round; memory is the largest resident set.
"""

import argparse
import compileall
import csv
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from slurm_tf.account.fields import ASKED

KEYS = ("user", "account", "partition")
SUMS = ("gpu_seconds", "cpu_seconds", "jobs", "incarnations")
WAITS = {"wait_p50": 50, "wait_p90": 90}
USERS, ACCOUNTS, PARTITIONS = 100, 10, 10
FIRST, DAYS, DAY = 1_790_000_000, 28, 86400
# The start of Python, the imports and the printing of the table are part of what is measured.
PANDAS = """
import sys, pandas as pd
rows = pd.read_csv(sys.argv[1], sep="|", usecols=["JobIDRaw", "User", "Account", "Partition", "Eligible", "Start",
                   "End", "AllocTRES"])
seconds = rows["End"] - rows["Start"]
for name, tres in (("cpu", "cpu"), ("gpu", "gres/gpu")):
    amount = rows["AllocTRES"].str.extract(rf"(?:^|,){tres}=(\\d+)", expand=False)
    rows[name] = amount.fillna("0").astype("int64") * seconds
rows["wait"] = rows["Start"] - rows["Eligible"]
groups = rows.groupby(["User", "Account", "Partition"])
table = groups.agg(gpu_seconds=("gpu", "sum"), cpu_seconds=("cpu", "sum"), jobs=("JobIDRaw", "nunique"),
                   incarnations=("wait", "size"))
table["wait_p50"] = groups["wait"].quantile(0.5, interpolation="lower")
table["wait_p90"] = groups["wait"].quantile(0.9, interpolation="lower")
table.index.names = ["user", "account", "partition"]
table.to_csv(sys.stdout)
"""
POLARS = """
import sys, polars as pl
amount = lambda tres: pl.col("AllocTRES").str.extract(rf"(?:^|,){tres}=(\\d+)").cast(pl.Int64).fill_null(0)
seconds, wait = pl.col("End") - pl.col("Start"), pl.col("Start") - pl.col("Eligible")
table = (
    pl.scan_csv(sys.argv[1], separator="|", quote_char=None)
    .group_by(pl.col("User").alias("user"), pl.col("Account").alias("account"), pl.col("Partition").alias("partition"))
    .agg(
        (amount("gres/gpu") * seconds).sum().alias("gpu_seconds"), (amount("cpu") * seconds).sum().alias("cpu_seconds"),
        pl.col("JobIDRaw").n_unique().alias("jobs"), pl.len().alias("incarnations"),
        wait.quantile(0.5, "lower").cast(pl.Int64).alias("wait_p50"),
        wait.quantile(0.9, "lower").cast(pl.Int64).alias("wait_p90"),
    )
    .collect(engine="streaming")
)
table.write_csv(sys.stdout)
"""
# Linux counts the memory of a process from before its exec too, so a small process must start it.
STARTER = """
import json, os, sys, time
start = time.perf_counter()
child = os.fork()
if not child:
    os.dup2(os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT, 0o600), 1)
    os.execvp(sys.argv[2], sys.argv[2:])
_, status, used = os.wait4(child, 0)
wall = time.perf_counter() - start
print(json.dumps({"wall": wall, "cpu": used.ru_utime + used.ru_stime, "memory": used.ru_maxrss / 1024}))
sys.exit(status != 0)
"""
# Prints at the speed of a pipe, as little of what is measured is to be its own.
SACCT = """\
#!{python} -IS
import sys
words = sys.argv[1:]
if "--helpformat" in words:
    print("{fields}")
elif {{"-V", "--version"}} & {{*words}}:
    print("slurm 24.11.0")
else:
    mark = next(word.partition("=")[2].encode() for word in words if word.startswith("--delimiter="))
    with open("{table}", "rb") as table:
        table.readline()
        while block := table.read(1 << 20):
            sys.stdout.buffer.write(block.replace(b"\\n", b"|\\n").replace(b"|", mark))
"""


def write(path, rows):
    """Write the table as `sacct -P` prints it, with the fields that slurm-tf requests; one row in ten is requeued."""
    rng = random.Random(6)
    with path.open("w") as file:
        file.write("|".join(ASKED) + "\n")
        job, start = 10_000_000, 0
        for number in range(rows):
            restarts = number % 10 == 9
            job += not restarts
            group = job % (USERS * ACCOUNTS * PARTITIONS)
            gpus = rng.choice((0, 1, 2, 4, 8))
            cpus = 8 * max(1, gpus)
            # a job that was requeued starts later: rows that are equal are one that was read twice
            start = max(FIRST + number * DAYS * DAY // rows, start + restarts)
            wait, length = int(rng.expovariate(1 / 3000)), int(rng.expovariate(1 / 9000)) + 1
            typed = f",gres/gpu:a100={gpus},gres/gpu={gpus}" if gpus else ""
            row = {
                "JobID": job, "JobIDRaw": job, "State": rng.choice(("COMPLETED", "FAILED", "TIMEOUT", "PREEMPTED")),
                "Cluster": "hpc", "Submit": start - wait, "Eligible": start - wait, "Start": start,
                "End": start + length, "ElapsedRaw": length, "User": f"user{group % USERS}",
                "Account": f"account{group // USERS % ACCOUNTS}", "Partition": f"partition{group // USERS // ACCOUNTS}",
                "QOS": "normal", "ExitCode": "0:0", "TimelimitRaw": 1440, "Restarts": int(restarts),
                "AllocTRES": f"billing={cpus + 10 * gpus},cpu={cpus},mem={4 * cpus}G,node=1{typed}",
                "TotalCPU": f"{cpus * length // 7200:02}:13:37", "NodeList": f"node{number % 500}", "Reason": "None",
                "JobName": "stf-flowers", "SubmitLine": "sbatch --account=vision --partition=gpu train.sbatch",
                "WorkDir": "/home/someone/project/flowers",
            }  # fmt: skip
            file.write("|".join(str(row.get(name, "")) for name in ASKED) + "\n")


def fake_sacct(folder, table):
    """Return an environment in which sacct prints the table, and the ledger is empty."""
    (folder / "bin").mkdir()
    sacct = folder / "bin" / "sacct"
    sacct.write_text(SACCT.format(python=sys.executable, fields=" ".join(ASKED), table=table))
    sacct.chmod(0o755)
    settings = {
        "PATH": f"{folder / 'bin'}:{os.environ['PATH']}", "XDG_CONFIG_HOME": str(folder / "config"),
        "XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": str(ROOT), "TZ": "UTC", "SLURM_CLUSTERS": "hpc",
    }  # fmt: skip
    return {**os.environ, **settings}


def measured(command, environ, output):
    """Run a command; return its wall time, CPU time and peak memory. Only the CPU time includes sacct."""
    starter = [sys.executable, "-S", "-c", STARTER, str(output), *command]
    done = subprocess.run(starter, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def read(path):
    with path.open(newline="") as file:
        return {tuple(row[key] for key in KEYS): row for row in csv.DictReader(file)}


def check(name, found, wanted):
    """Raise AssertionError unless two results agree."""
    assert found.keys() == wanted.keys(), name
    for key, row in found.items():
        for column in SUMS:
            assert int(float(row[column])) == int(float(wanted[key][column])), (name, key, column)
        number = int(row["incarnations"])
        for column, percent in WAITS.items():
            # libraries count ranks from 0 to n - 1, a nearest rank counts from 1 to n: mostly the same value
            if (number - 1) * percent // 100 == -(-number * percent // 100) - 1:
                value, other = float(row[column]), float(wanted[key][column])
                assert math.isclose(value, other, rel_tol=0.01), (name, key, column, value, other)


def rounds(folder, table, count):
    usage = [sys.executable, "-m", "slurm_tf", "usage", "--all-users", "--by", ",".join(KEYS), "--csv"]
    first, last = (time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(FIRST + days * DAY)) for days in (-30, DAYS + 30))
    window = ["--since", first, "--until", last]
    found = {}
    for number in range(count):
        inner = folder / str(number)
        inner.mkdir()
        environ = fake_sacct(inner, table)
        commands = {
            "slurm-tf usage, first run": [*usage, *window],
            "slurm-tf usage, from the ledger": [*usage, *window],
            "slurm-tf usage --from FILE": [*usage, *window, "--from", str(table)],
            "pandas": [sys.executable, "-c", PANDAS, str(table)],
            "polars": [sys.executable, "-c", POLARS, str(table)],
        }
        outputs = {}
        for name, command in commands.items():
            outputs[name] = inner / f"{len(outputs)}.csv"
            found.setdefault(name, []).append(measured(command, environ, outputs[name]))
            print(f"{name}: {json.dumps(found[name][-1])}", file=sys.stderr)
        tables = {name: read(path) for name, path in outputs.items()}
        for name, rows in tables.items():
            check(name, rows, tables["pandas"])
        groups = len(tables["pandas"])
    return found, groups


def spread(values, digits):
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def show(found):
    """Print medians; for wall times also the ratios to pandas in the same round."""
    print("| | wall, s | times pandas | CPU, s | peak memory, MiB |\n|---|---|---|---|---|")
    for name, runs in found.items():
        wall, cpu, memory = ([run[key] for run in runs] for key in ("wall", "cpu", "memory"))
        ratios = [seconds / other["wall"] for seconds, other in zip(wall, found["pandas"], strict=True)]
        print(f"| {name} | {spread(wall, 1)} | {spread(ratios, 2)} | {spread(cpu, 1)} | {spread(memory, 0)} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    compileall.compile_dir(ROOT / "slurm_tf", quiet=1)  # as pip does
    with tempfile.TemporaryDirectory(prefix="stf-bench-") as name:
        folder = Path(name)
        table = folder / "table.txt"
        write(table, options.rows)
        load, cores = os.getloadavg()[0], os.cpu_count()
        print(f"Python {platform.python_version()}, {cores} cores, load {load:.1f} at the start, ", end="")
        print(f"{options.rows} rows, {table.stat().st_size / 1e6:.0f} MB, ", end="")
        print(f"{options.rounds} alternating rounds, ", end="")
        found, groups = rounds(folder, table, options.rounds)
        print(f"{groups} groups.\n")
        show(found)


if __name__ == "__main__":
    main()
