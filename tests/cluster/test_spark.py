"""Spark on two nodes of a real Slurm makes the data set that it makes on one, and that DuckDB makes."""

import contextlib
import json
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from slurm_tf.dataset import dataset_manifest
from tests.cluster.group import SLURM_TF, Member
from tests.conftest import PYTHONPATH, ROOT
from tests.prepare import clicks_job, database_servers, spark_recipe

pytestmark = [pytest.mark.slurm, pytest.mark.long, spark_recipe.needs("pyspark", "pandas", "java", "mariadbd")]

USERS = 20_000
# the driver, on the second node, alone reads the database
NODES = ("node1", "node2")
SERVER = ROOT / "tests" / "prepare" / "programs" / "serves_users.py"


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
    clicks_job.write_sources(alice.folder, rows, USERS)
    alice.take_jobs()
    is_large = rows > 1_000_000
    with database(alice) as url:
        for name, engine in {"duckdb": "duckdb", "one": "spark", "two": "spark"}.items():
            mem = "2G" if is_large else "512M"
            users = f'format = "mysql"\nurl = "{url}"\nquery = "{clicks_job.QUERY}"\npassword-file = "password"'
            alice.write(f"{name}.toml", clicks_job.recipe(engine, mem, users, name))
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
