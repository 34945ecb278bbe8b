"""Data sets from recipes: their records, one digest whatever the machine, and what a killed attempt leaves."""

import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pytest

from slurm_tf.dataset import assets, dataset_manifest
from slurm_tf.dataset.dataset_manifest import Manifest
from slurm_tf.errors import ConfigError, DatasetError, RunError
from slurm_tf.prepare import preparation, record_file, row_keys, verification
from slurm_tf.prepare.example_fields import feature, values
from slurm_tf.run import env
from slurm_tf.run import manifest as run_manifest
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.manifest import CodeOrigin
from slurm_tf.run.manifest import Manifest as RunManifest
from tests.conftest import ROOT
from tests.prepare import recipes

SHARES = {"train": 0.8, "test": 0.2}


def silent(_text: str) -> None:
    pass


def rows_of(folder: Path, manifest: Manifest, split: str, *names: str) -> list[tuple[Any, ...]]:
    """Return the values of features in all records of a split, in the order of the shards."""
    found: list[tuple[Any, ...]] = []
    for shard in manifest.split(split).shards:
        path = str(folder / shard.name)
        with open(path, "rb") as file:
            for record in record_file.records(path, file, False):
                parts = [values(feature(record, name.encode()) or b"") for name in names]
                found.append(tuple(part[0] if part else None for part in parts))
    return found


def prepared(
    folder: Path, text: str, others: Mapping[str, str] = MappingProxyType({}), resume: bool = False
) -> Manifest:
    return preparation.prepare(recipes.load(folder, text, others), resume, silent)


def test_rows_are_where_their_key_says_with_numbers_for_words(tmp_path: Path) -> None:
    rows = recipes.csv_rows(500)
    recipes.write_csv(tmp_path / "clicks.csv", rows)
    manifest = prepared(tmp_path, recipes.recipe_text())
    out = tmp_path / "out"
    assert not list(verification.damages(str(out), manifest))
    assert sorted(os.listdir(out / "assets")) == ["country.vocab.txt"] == list(manifest.assets)
    assert not [name for name in os.listdir(out) if name.startswith(".")]
    places = {number: row_keys.place(str(number).encode(), SHARES, {"train": 3, "test": 3}) for number in range(500)}
    counts = Counter(row.split(",")[1] for row in rows if places[int(row.split(",")[0])][0] == "train")
    words = sorted(counts, key=lambda word: (-counts[word], word))
    assert assets.read_vocabulary(str(out), "country") == tuple(words[:5])
    for split in SHARES:
        wanted = sorted((shard, hash_, number) for number, (name, shard, hash_) in places.items() if name == split)
        ids = [number for _, _, number in wanted]
        given = {int(row.split(",")[0]): row.split(",") for row in rows}
        numbers = {word: number + 2 for number, word in enumerate(words[:5])}
        expected = [
            (number, numbers.get(given[number][1], 1), float(given[number][2]), int(given[number][3])) for number in ids
        ]
        assert rows_of(out, manifest, split, "id", "country", "price", "clicked") == expected


def test_joins_aggregates_and_windows(tmp_path: Path) -> None:
    recipes.write_csv(tmp_path / "clicks.csv", recipes.csv_rows(60))
    features = '[features.id]\nkind = "int64"\n[features.total]\nkind = "int64"\n[features.mean]\nkind = "float"\n'
    sql = """
        WITH of_country AS (SELECT country, sum(clicked) AS total, avg(price) AS mean FROM clicks GROUP BY country)
        SELECT clicks.id, total, mean, row_number() OVER (ORDER BY id) AS place
        FROM clicks JOIN of_country USING (country); -- every row of clicks
    """
    manifest = prepared(tmp_path, recipes.recipe_text(features=features, transform='sql = "x.sql"'), {"x.sql": sql})
    assert manifest.unreproducible == ("mean",)
    rows = dict(rows_of(tmp_path / "out", manifest, "train", "id", "total"))
    given = [row.split(",") for row in recipes.csv_rows(60)]
    for number, total in rows.items():
        assert total == sum(int(row[3]) for row in given if row[1] == given[number][1])


@pytest.mark.slow
def test_one_digest_whatever_the_cpus_the_memory_and_the_order_of_files(tmp_path: Path) -> None:
    rows = recipes.csv_rows(6000)
    random.Random(1).shuffle(rows)
    features = recipes.FEATURES + "[features.spread]\nnormalized = true\n[features.part]\nbuckets = 4\n"
    sql = "SELECT *, price * price / 7 AS spread, price - id AS part FROM clicks"
    digests = set()
    for number, (top, parts) in enumerate((("cpus = 1", 1), ('cpus = 2\nmem = "128M"', 7))):
        folder = tmp_path / str(number)
        folder.mkdir()
        for part in range(parts):
            recipes.write_csv(folder / f"{(part * 5) % 7}.csv", rows[part::parts])
        text = recipes.recipe_text("*.csv", features, transform='sql = "x.sql"', top=top)
        manifest = prepared(folder, text, {"x.sql": sql})
        digests.add((manifest.digest, manifest.recipe, tuple(manifest.assets.items())))
    assert len(digests) == 1


def test_a_python_function_changes_rows_one_by_one(tmp_path: Path) -> None:
    recipes.write_csv(tmp_path / "clicks.csv", recipes.csv_rows(40))
    function = (
        "import pyarrow as pa\nimport pyarrow.compute as pc\n\ndef twice(batch):\n"
        "    return batch.append_column('double', pc.multiply(batch.column('price'), 2))\n"
        "def sums(batch):\n    total = pc.sum(batch.column('price')).as_py()\n"
        "    return batch.append_column('double', pa.array([total] * batch.num_rows))\n"
        "def fails(batch):\n    return batch.column('prize')\n"
    )
    features = '[features.id]\nkind = "int64"\n[features.double]\nkind = "float"\n'
    text = recipes.recipe_text(features=features, transform='python = "change.py:twice"')
    manifest = prepared(tmp_path, text, {"change.py": function})
    found = rows_of(tmp_path / "out", manifest, "train", "id", "double")
    assert found and all(double == 2 * (number % 100 + 0.5) for number, double in found)
    for name, words in (("sums", "row by row"), ("fails", "KeyError")):
        with pytest.raises(DatasetError, match=words):
            prepared(tmp_path, text.replace("twice", name).replace('"out"', '"other"'))
    assert not (tmp_path / "other").exists()
    with pytest.raises(ConfigError, match="no function thrice"):
        prepared(tmp_path, text.replace("twice", "thrice"))


@pytest.mark.parametrize(
    ("first", "last"), [("0", "1000.5"), pytest.param("1000.5", "0", marks=pytest.mark.long)]
)  # fmt: skip
def test_a_python_function_is_checked_on_rows_of_the_whole_input(tmp_path: Path, first: str, last: str) -> None:
    count = 17 * (1 << 14)
    rows = [f"{row},a,{first if row < 20_000 else last},0" for row in range(count)]
    recipes.write_csv(tmp_path / "clicks.csv", rows)
    function = (
        "import pyarrow as pa\nimport pyarrow.compute as pc\n\ndef share(batch):\n"
        "    price = batch.column('price')\n    total = pc.sum(price).as_py() or 1.0\n"
        "    return batch.append_column('share', pc.divide(price, total))\n"
    )
    features = '[features.id]\nkind = "int64"\n[features.share]\nkind = "float"\n'
    text = recipes.recipe_text(features=features, transform='python = "change.py:share"')
    with pytest.raises(DatasetError, match="row by row"):
        prepared(tmp_path, text, {"change.py": function})


def test_a_python_function_may_return_nan(tmp_path: Path) -> None:
    recipes.write_csv(tmp_path / "clicks.csv", recipes.csv_rows(40))
    function = "def root(batch):\n    import pyarrow.compute as pc\n" + (
        "    return batch.append_column('root', pc.sqrt(pc.subtract(batch.column('price'), 20.0)))\n"
    )
    features = '[features.root]\nkind = "float"\nallow-nan = true\n'
    prepared(tmp_path, recipes.recipe_text(features=features, transform='python = "x.py:root"'), {"x.py": function})


def test_the_recipe_is_named_by_what_rows_depend_on(tmp_path: Path) -> None:
    recipes.write_csv(tmp_path / "clicks.csv", recipes.csv_rows(5))
    text = recipes.recipe_text(transform='sql = "x.sql"')
    hash_ = recipes.load(tmp_path, text, {"x.sql": "SELECT * FROM clicks"}).hash
    same = text.replace('"out"', '"elsewhere"').replace("cpus = 2", 'mem = "2G"').replace("clicks.csv", "./clicks.csv")
    assert recipes.load(tmp_path, same).hash == hash_
    assert recipes.load(tmp_path, text.replace("0.8", "0.9").replace("0.2", "0.1")).hash != hash_
    assert recipes.load(tmp_path, text, {"x.sql": "SELECT * FROM clicks WHERE id > 1"}).hash != hash_


def test_data_of_a_recipe_in_a_copy_of_the_code_is_where_the_code_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine, run = tmp_path / "mine", RunFolder(str(tmp_path / "runs" / "a-1"))
    copy = Path(run.submission(1).code, "mine", "recipes")
    (mine / "recipes").mkdir(parents=True)
    copy.mkdir(parents=True)
    code = CodeOrigin(str(mine), "", None, 1, 1, (), ())
    origin = RunManifest("a-1", "", "job.toml", {"name": "a"}, "x", None, code, "", {})
    run_manifest.write(run.submission(1).manifest, origin)
    recipes.write_csv(mine / "recipes" / "clicks.csv", recipes.csv_rows(50))
    text = recipes.recipe_text(transform='sql = "x.sql"')
    others = {"x.sql": "SELECT * FROM clicks WHERE id < 40"}
    monkeypatch.setenv(env.RUN_FOLDER, run.path)
    prepared(copy, text, others)
    assert sorted(os.listdir(copy)) == ["recipe.toml", "x.sql"]
    found = dataset_manifest.read(str(mine / "recipes" / "out"))
    assert sum(split.rows for split in found.splits) == 40
    prepared(mine, text.replace("clicks.csv", "recipes/clicks.csv"), others)
    assert (mine / "out" / "manifest.json").exists()


def test_a_data_set_is_not_changed(tmp_path: Path) -> None:
    recipes.write_csv(tmp_path / "clicks.csv", recipes.csv_rows(20))
    text = recipes.recipe_text()
    manifest = prepared(tmp_path, text)
    assert prepared(tmp_path, text, resume=True) == manifest
    with pytest.raises(DatasetError, match="there is a data set"):
        prepared(tmp_path, text)
    with pytest.raises(DatasetError, match="another recipe"):
        prepared(tmp_path, text.replace("0.8", "0.7").replace("0.2", "0.3"), resume=True)
    recipes.write_csv(tmp_path / "clicks.csv", recipes.csv_rows(21))
    with pytest.raises(DatasetError, match="another clicks"):
        prepared(tmp_path, text, resume=True)


def test_check_and_dry_run_write_nothing(tmp_path: Path) -> None:
    recipes.write_csv(tmp_path / "clicks.csv", recipes.csv_rows(50))
    recipe = recipes.load(tmp_path, recipes.recipe_text())
    assert sum(preparation.check(recipe, silent).values()) == 50
    assert preparation.outline(recipe).columns["price"] == "DOUBLE"
    assert sorted(os.listdir(tmp_path)) == ["clicks.csv", "recipe.toml"]


def start(recipe: Path, *options: str) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "slurm_tf", "prepare", str(recipe), *options], cwd=ROOT, stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in found]


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def killed_until_whole(folder: Path, kills: int, seed: int, sig: int) -> Manifest:
    """Prepare with a signal to the main process at random moments; check what is there after each."""
    recipe = recipes.write(folder, recipes.recipe_text(output='folder = "out"\nshards = 6', top="cpus = 2"))
    chance = random.Random(seed)
    started = time.monotonic()
    assert start(recipe).wait(120) == 0
    length = time.monotonic() - started
    expected = dataset_manifest.read(str(folder / "out"))
    (folder / "out").rename(folder / "whole")
    for _ in range(kills):
        process = start(recipe, "--resume")
        time.sleep(chance.uniform(0.3, length))
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            workers = children(process.pid)
            process.send_signal(sig)
            process.wait(30)
            deadline = time.monotonic() + 20
            while any(map(is_alive, workers)):
                assert time.monotonic() < deadline, "a process that writes shards outlives the one that started it"
                time.sleep(0.05)
        if (folder / "out" / "manifest.json").exists():
            assert not list(verification.damages(str(folder / "out"), dataset_manifest.read(str(folder / "out"))))
            (folder / "out").rename(folder / f"done-{time.monotonic_ns()}")
    assert start(recipe, "--resume").wait(120) == 0
    found = dataset_manifest.read(str(folder / "out"))
    assert not list(verification.damages(str(folder / "out"), found))
    assert sorted(os.listdir(folder / "out")) == sorted(os.listdir(folder / "whole"))
    for name in os.listdir(folder / "whole"):
        if (folder / "whole" / name).is_file():
            assert (folder / "out" / name).read_bytes() == (folder / "whole" / name).read_bytes(), name
    assert found == expected
    return found


@pytest.mark.slow
@pytest.mark.parametrize("sig", [signal.SIGKILL, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_a_killed_preparation_goes_on(tmp_path: Path, sig: int) -> None:
    recipes.write_csv(tmp_path / "clicks.csv", recipes.csv_rows(5000))
    killed_until_whole(tmp_path, 1, 3, sig)


@pytest.mark.long
def test_killed_at_twenty_random_moments(tmp_path: Path) -> None:
    recipes.write_csv(tmp_path / "clicks.csv", recipes.csv_rows(50_000))
    killed_until_whole(tmp_path, 20, 7, signal.SIGKILL)


def test_an_attempt_that_was_ended_is_taken_up_by_shards(tmp_path: Path) -> None:
    recipes.write_csv(tmp_path / "clicks.csv", recipes.csv_rows(200))
    recipe = recipes.load(tmp_path, recipes.recipe_text())
    manifest = preparation.prepare(recipe, False, silent)
    out = tmp_path / "out"
    (out / "manifest.json").unlink()
    (out / preparation.UNFINISHED).mkdir(mode=0o700)
    with pytest.raises(DatasetError, match="--resume"):
        preparation.prepare(recipe, False, silent)
    (out / "test-00001-of-00003.tfrecord").write_bytes(b"half")
    said: list[str] = []
    assert preparation.prepare(recipe, True, said.append) == manifest
    assert "5 of 6 shards are there" in said
    assert sum("test-00001" in line for line in said) == 1


def test_two_preparations_do_not_write_one_folder(tmp_path: Path) -> None:
    recipes.write_csv(tmp_path / "clicks.csv", recipes.csv_rows(20))
    recipe = recipes.load(tmp_path, recipes.recipe_text())
    (tmp_path / "out" / preparation.UNFINISHED).mkdir(parents=True, mode=0o700)
    os.chmod(tmp_path / "out", 0o700)
    with preparation.locked(recipe.folder), pytest.raises(DatasetError, match="another preparation"):
        preparation.prepare(recipe, True, silent)
    assert preparation.prepare(recipe, True, silent).split("train").rows


def test_parquet_json_images_and_lists(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    words = [["a", "b"][: number % 3] for number in range(30)]
    table = pa.table({"id": pa.array(range(30), pa.int64()), "words": words})
    pq.write_table(table, tmp_path / "words.parquet")
    lines = [json.dumps({"id": number, "price": number / 4, "more": [number, number + 1]}) for number in range(30)]
    (tmp_path / "prices.jsonl").write_text("\n".join(lines))
    text = """
        [sources.words]
        format = "parquet"
        path = "words.parquet"
        columns = { id = "BIGINT", words = "VARCHAR[]" }
        [sources.prices]
        format = "jsonl"
        path = "prices.jsonl"
        columns = { id = "BIGINT", price = "DOUBLE", more = "BIGINT[]" }
        [transform]
        sql = "x.sql"
        [features.id]
        kind = "int64"
        [features.words]
        vocabulary = {}
        shape = [-1]
        [features.price]
        kind = "float"
        [features.more]
        kind = "int64"
        shape = [2]
        [split]
        key = ["id"]
        [output]
        folder = "out"
        form = "jsonl"
    """
    manifest = prepared(tmp_path, text, {"x.sql": "SELECT * FROM words JOIN prices USING (id)"})
    rows = [json.loads(line) for line in (tmp_path / "out" / manifest.split("train").shards[0].name).open()]
    assert sorted(rows, key=lambda row: row["id"]) == [
        {"id": number, "words": [2, 3][: number % 3], "price": number / 4, "more": [number, number + 1]}
        for number in range(30)
    ]


def test_hostile_names_are_names(tmp_path: Path) -> None:
    folder, column = tmp_path / "it's; DROP TABLE x --", "a\"b'; --"
    folder.mkdir()
    words = [f"'; DROP TABLE clicks; --{row % 2}" for row in range(30)]
    recipes.write_csv(folder / "a'b.csv", [f"{row},{word}" for row, word in enumerate(words)], 'id,"a""b\'; --"')
    quoted = json.dumps(column)
    text = recipes.recipe_text(
        "a'b.csv", f'[features.id]\nkind = "int64"\n[features.{quoted}]\nkind = "bytes"\n',
        columns=f'{{ id = "BIGINT", {quoted} = "VARCHAR" }}',
    )  # fmt: skip
    manifest = prepared(folder, text)
    found = dict(rows_of(folder / "out", manifest, "train", "id", column))
    assert found and all(word.decode() == words[number] for number, word in found.items())
    path = json.dumps("../../x")
    with pytest.raises(ConfigError, match="names a file"):
        recipes.load(folder, text + f"[features.{path}]\nvocabulary = {{}}\n")


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_a_scratch_folder_of_another_user_is_refused_and_ours_is_removed(tmp_path: Path) -> None:
    recipes.write_csv(tmp_path / "clicks.csv", recipes.csv_rows(20))
    (tmp_path / "scratch").mkdir(mode=0o777)
    name = hashlib.sha256(str(tmp_path / "out").encode()).hexdigest()[:16]
    spill = tmp_path / "scratch" / f"slurm-tf-prepare-0-{name}"
    spill.mkdir()
    os.chown(spill, 12345, 12345)
    text = recipes.recipe_text(top='cpus = 1\nscratch = "scratch"')
    with pytest.raises(RunError, match="belongs to user id 12345"):
        prepared(tmp_path, text)
    spill.rmdir()
    prepared(tmp_path, text, resume=True)
    assert os.listdir(tmp_path / "scratch") == []
