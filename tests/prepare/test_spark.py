"""Spark makes the data set that DuckDB makes: on this machine, and on workers that know the secret."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from slurm_tf.errors import DatasetError
from slurm_tf.prepare import preparation
from slurm_tf.run import env
from tests.conftest import ROOT
from tests.free_ports import free_range
from tests.prepare import recipes, spark_recipe

pytestmark = [pytest.mark.slow, pytest.mark.long, spark_recipe.needs("pyspark", "pandas", "java")]

_SECRET = "ab" * 32


def prepared(folder: Path, engine: str) -> str:
    recipe = recipes.load(folder, spark_recipe.text(engine, engine))
    return preparation.prepare(recipe, False, lambda _text: None).digest


def test_one_digest(tmp_path: Path) -> None:
    spark_recipe.write_sources(tmp_path, 200)
    assert prepared(tmp_path, "spark") == prepared(tmp_path, "duckdb")


def test_errors_are_those_of_one_node(tmp_path: Path) -> None:
    spark_recipe.write_sources(tmp_path, 10)
    with (tmp_path / "clicks1.csv").open("a") as file:
        file.write("99,a,cheap,1\n")
    with pytest.raises(DatasetError) as caught:
        prepared(tmp_path, "spark")
    assert caught.value.where == f"{tmp_path}/clicks1.csv: line 12, column price"
    assert not (tmp_path / "spark").exists()


@contextmanager
def task(folder: Path, name: str, secret: str, words: list[str], ports: int) -> Iterator[subprocess.Popen[str]]:
    """Run words as a task of a job with a scheduler, two workers and a driver."""
    addresses = {
        "scheduler": [f"127.0.0.1:{ports}"],
        "worker": [f"127.0.0.1:{ports + 1}", f"127.0.0.1:{ports + 2}"],
        "driver": [f"127.0.0.1:{ports + 3}"],
    }
    role, _, index = name.partition(":")
    variables = {
        env.CLUSTER: json.dumps(addresses), env.ADDRESS: addresses[role][int(index)], env.TASK: name,
        env.ENGINE_SECRET: secret, env.MEM: "1500", "PYTHONPATH": str(ROOT), "TMPDIR": str(folder),
    }  # fmt: skip
    with (folder / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "slurm_tf", *words], cwd=folder, env={**os.environ, **variables},
            stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True,
        )  # fmt: skip
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(30)


def test_a_job_with_two_workers(tmp_path: Path) -> None:
    """The command is the same in all roles; the secret is on no command line; who has another one is refused."""
    spark_recipe.write_sources(tmp_path, 200)
    (tmp_path / "spark.toml").write_text(
        spark_recipe.text("spark", "spark").replace("engine", 'mem = "512M"\nengine', 1)
    )
    ports, _ = free_range(4)
    words = ["prepare", "spark.toml", "--json"]
    with ExitStack() as stack:
        for name, secret in (("scheduler:0", _SECRET), ("worker:0", _SECRET), ("worker:1", "cd" * 32)):
            stack.enter_context(task(tmp_path, name, secret, words, ports))
        driver = stack.enter_context(task(tmp_path, "driver:0", _SECRET, words, ports))
        seen = set[str]()
        while driver.poll() is None:
            listed = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
            seen |= set(listed.splitlines())
            time.sleep(0.5)
        out, _ = driver.communicate(timeout=200)
    assert driver.returncode == 0, (tmp_path / "driver:0.log").read_text()
    assert json.loads(out)["digest"] == prepared(tmp_path, "duckdb")
    assert any("org.apache.spark.deploy.master.Master" in line for line in seen)
    assert not [line for line in seen if _SECRET in line]
    refused = (tmp_path / "worker:1.log").read_text()
    assert "Exception while bootstrapping client" in refused
    assert not list(tmp_path.glob("slurm-tf-spark-*"))
