"""Spark on two nodes of a real Slurm makes the data set that it makes on one, and that DuckDB makes."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from slurm_tf.dataset import dataset_manifest
from tests.cluster.group import SLURM_TF, Member
from tests.conftest import PYTHONPATH, ROOT
from tests.prepare import database_servers, spark_recipe

pytestmark = [pytest.mark.slurm, pytest.mark.long, spark_recipe.needs("pyspark", "pandas", "java", "mariadbd")]

USERS = 20_000
RECIPE = """\
engine = "{engine}"
mem = "{mem}"
cpus = 2
[sources.clicks]
format = "csv"
path = "clicks*.csv"
[sources.clicks.columns]
id = "BIGINT"
user_id = "BIGINT"
country = "VARCHAR"
query = "VARCHAR"
cents = "BIGINT"
score = "DOUBLE"
[sources.users]
format = "mysql"
url = "{url}"
query = "SELECT user_id, age, segment FROM users"
password-file = "password"
columns = {{ user_id = "BIGINT", age = "BIGINT", segment = "VARCHAR" }}
[transform]
sql = "clicks.sql"
[features.id]
kind = "int64"
[features.country]
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
folder = "{name}"
shards = {{ train = 8, test = 2 }}
"""
SQL = """\
SELECT clicks.*, age, segment, spent FROM clicks JOIN users USING (user_id)
JOIN (SELECT user_id, sum(cents) AS spent FROM clicks GROUP BY user_id) USING (user_id)
"""
# the driver, on the second node, alone reads the database
NODES = ("node1", "node2")
SERVER = ROOT / "tests" / "prepare" / "programs" / "serves_users.py"


CLICKS = """\
SELECT i AS id, hash(i) % $users AS user_id, 'c' || hash(i + 2) % 200 AS country,
    'what somebody looked for ' || repeat('w', (hash(i + 4) % 60)::INT) || hash(i + 5) % 1000 AS query,
    hash(i + 6) % 10000 AS cents, (hash(i + 7) % 1000000) / 7 AS score
FROM range($first, $end) AS t(i)
"""


def write_sources(folder: Path, rows: int) -> None:
    """Write the clicks, in four files; one in fifty is of a user that is not in the table."""
    with duckdb.connect() as connection:
        for number in range(4):
            part = {"first": rows * number // 4, "end": rows * (number + 1) // 4, "users": USERS * 51 // 50}
            connection.sql(CLICKS, params=part).write_csv(str(folder / f"clicks{number}.csv"))
    (folder / "clicks.sql").write_text(SQL)


@contextlib.contextmanager
def database(alice: Member) -> Iterator[str]:
    """Give the URL of a MariaDB with the users on the second node."""
    alice.write("password", database_servers.PASSWORD + "\n")
    (alice.folder / "password").chmod(0o600)
    server = alice.sandbox.popen(
        sys.executable, str(SERVER), str(USERS), user="root", node=NODES[1], env={"PYTHONPATH": PYTHONPATH},
        stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert server.stdout
        yield server.stdout.readline().decode().strip()
    finally:
        server.terminate()
        server.wait(60)


def prepared(alice: Member, name: str) -> str:
    """Prepare on the second node alone; return the digest."""
    variables = alice.environ()
    argv = [*SLURM_TF, "prepare", f"{name}.toml", "--json"]
    began = time.monotonic()
    done = alice.sandbox.run(*argv, user="alice", node=NODES[1], cwd=alice.folder, env=variables, timeout=900)
    print(f"{name}: {time.monotonic() - began:.1f} s")
    digest: str = json.loads(done.stdout)["digest"]
    return digest


@pytest.mark.parametrize("rows", [3_000, 3_000_000])
@pytest.mark.timeout(3600)
def test_one_digest(rows: int, alice: Member) -> None:
    write_sources(alice.folder, rows)
    alice.take_jobs()
    is_large = rows > 1_000_000
    with database(alice) as url:
        for name, engine in {"duckdb": "duckdb", "one": "spark", "two": "spark"}.items():
            mem = "2G" if is_large else "512M"
            alice.write(f"{name}.toml", RECIPE.format(engine=engine, mem=mem, url=url, name=name))
        digests = {prepared(alice, name) for name in ("duckdb", "one")}
        command = json.dumps([sys.executable, "-m", "slurm_tf", "prepare", "--resume", "{recipe}"])
        sets = (f"command={command}", "roles.worker.ntasks-per-node=1")
        words = [word for each in sets for word in ("--set", each)]
        began = time.monotonic()
        alice.submit("prepare_spark.toml", "recipe=two.toml", f"--nodelist={','.join(NODES)}", "--name=two-1", *words)
        done = alice.type("wait", "two-1", timeout=1800)
        assert done.returncode == 0, alice.ok("logs", "two-1")
        print(f"two nodes: {time.monotonic() - began:.1f} s")
    found = dataset_manifest.read(str(alice.folder / "two"))
    assert digests == {found.digest}
    assert sum(split.rows for split in found.splits) in range(rows * 49 // 51, rows)
    (status,) = alice.status("two-1")
    assert {task["node"] for name, task in status["tasks"].items() if name.startswith("worker:")} == set(NODES)
