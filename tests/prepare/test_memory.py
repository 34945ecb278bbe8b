"""Preparations of more rows than memory holds: every shape of SQL, few and many threads, long texts, large shards."""

import os
from pathlib import Path

import pytest

from slurm_tf.errors import ConfigError, MemoryLimitError
from slurm_tf.prepare import engine, memory, preparation, recipe_file
from slurm_tf.prepare.recipe_file import LoadedRecipe

RECIPE = """\
mem = "{mem}"
cpus = {cpus}
scratch = "{scratch}"
[sources.texts]
format = "csv"
path = "{texts}/texts*.csv"
columns = {{ id = "BIGINT", k = "BIGINT", text = "VARCHAR" }}
[transform]
sql = "rows.sql"
[features.v]
kind = "{kind}"
[split]
key = ["id"]
shares = {{ train = 0.9, test = 0.1 }}
[output]
folder = "{folder}"
shards = {shards}
"""
# What a value of the rows is, by the shape of the query.
SHAPES = {
    "sort": "SELECT id, text AS v FROM texts",
    "join": "SELECT a.id, b.text AS v FROM texts a JOIN texts b ON b.id = a.id + 1",
    "aggregate": "SELECT id, min(text) AS v FROM texts GROUP BY id",
    "window": "SELECT id, sum(k) OVER (PARTITION BY k ORDER BY id) AS v FROM texts",
    "window over all": "SELECT id, lag(k, 1, 0) OVER (ORDER BY text, id) AS v FROM texts",
}


def write_texts(folder: Path, rows: int, length: int) -> None:
    """Write four files of rows with texts of about `length` characters."""
    filling = "abcdefghij" * (length // 10)
    for number in range(4):
        own = range(rows * number // 4, rows * (number + 1) // 4)
        lines = (f"{row},{row * 7919 % 1000},{row * 7919}{filling[row % 7 :]}\n" for row in own)
        (folder / f"texts{number}.csv").write_text("id,k,text\n" + "".join(lines))


def loaded(folder: Path, name: str, mem: str, cpus: int, shape: str = "sort", shards: int = 1) -> LoadedRecipe:
    """Return a recipe over the texts in `folder`."""
    (folder / "rows.sql").write_text(SHAPES[shape])
    kind = "bytes" if "text AS v" in SHAPES[shape] or "min(text)" in SHAPES[shape] else "int64"
    path = folder / f"{name}.toml"
    path.write_text(
        RECIPE.format(
            mem=mem, cpus=cpus, texts=folder, folder=folder / name, kind=kind, shards=shards, scratch=folder / "scratch"
        )
    )
    return recipe_file.load(path)


def digest(recipe: LoadedRecipe) -> str:
    return preparation.prepare(recipe, resume=False, say=print).digest


def test_more_rows_than_memory_on_many_threads(tmp_path: Path) -> None:
    write_texts(tmp_path, 60_000, 2_000)
    small = digest(loaded(tmp_path, "small", "160M", 16))
    assert small == digest(loaded(tmp_path, "large", "2G", 2))


def test_a_step_that_needs_more_memory_is_done_with_fewer_threads(tmp_path: Path) -> None:
    said: list[str] = []

    def make(threads: int) -> int:
        rows = engine.opened(str(tmp_path / "rows.duckdb"), str(tmp_path), 64 // threads, threads)
        with rows as connection, engine.explained("rows"):
            connection.execute("SELECT list(i) FROM range(2000000) AS t(i)").fetchone()
        return threads

    assert memory.fitted(8, said.append, make) == 1
    assert [each.rpartition(": ")[2] for each in said] == [f"once more with {n} of 8 threads" for n in (4, 2, 1)]
    with pytest.raises(MemoryLimitError, match=r"^rows: .* MiB used"):
        memory.fitted(64, said.append, lambda _: make(64))


def test_rows_that_are_too_long_are_refused_before_they_are_read(tmp_path: Path) -> None:
    write_texts(tmp_path, 4_000, 20_000)
    recipe = loaded(tmp_path, "long", "256M", 2)
    with pytest.raises(ConfigError, match=r"found 256M, and rows of 20 kB in the source texts; needed 3\d\dM or more"):
        digest(recipe)
    assert not os.path.exists(recipe.folder)
    write_texts(tmp_path, 40, 200_000)
    assert digest(loaded(tmp_path, "few", "128M", 2, shards=1))


def test_threads_have_128_mib_each() -> None:
    assert [memory.threads(*each) for each in ((128, 16), (512, 16), (1024, 2), (64, 4))] == [1, 4, 2, 1]


@pytest.mark.long
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("mem", "cpus"), [("512M", 1), ("512M", 16), ("1G", 4), ("2G", 16)])
def test_every_shape_of_sql_in_any_memory(shape: str, mem: str, cpus: int, tmp_path: Path) -> None:
    write_texts(tmp_path, 400_000, 2_000)
    assert digest(loaded(tmp_path, "data", mem, cpus, shape, shards=20))


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_many_shards_and_many_narrow_rows(tmp_path: Path) -> None:
    write_texts(tmp_path, 3_000_000, 20)
    assert digest(loaded(tmp_path, "data", "512M", 16, shards=500))
