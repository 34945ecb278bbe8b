"""The data of tests/programs/prepared.py, and what it says of its training: which samples each step had."""

import json
import os
import re
import struct
import subprocess
import sys
import zlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from slurm_tf.dataset import dataset_manifest
from slurm_tf.prepare import preparation, recipe_file
from tests import forkserver
from tests.conftest import PYTHONPATH, ROOT

IMAGES = """\
cpus = 1
[sources.photos]
format = "images"
path = "photos"
[transform]
sql = "photos.sql"
[features.id]
kind = "int64"
[features.label]
kind = "int64"
[features.image]
kind = "bytes"
[split]
key = ["id"]
shares = { train = 0.9, test = 0.1 }
[output]
folder = "cnn"
shards = 2
"""
TABLE = """\
cpus = 1
[sources.clicks]
format = "csv"
path = "clicks.csv"
columns = { id = "BIGINT", user_id = "BIGINT", country = "VARCHAR", price = "DECIMAL(10,2)", clicked = "BIGINT" }
[sources.users]
format = "csv"
path = "users.csv"
columns = { user_id = "BIGINT", age = "BIGINT" }
[transform]
sql = "clicks.sql"
[features.id]
kind = "int64"
[features.country]
vocabulary = {}
[features.age]
buckets = [20, 35, 50, 65]
[features.price]
normalized = true
[features.spent]
normalized = true
[features.clicked]
kind = "int64"
[split]
key = ["id"]
shares = { train = 0.9, test = 0.1 }
[output]
folder = "wide_and_deep"
shards = 2
"""
CLICKS = """\
SELECT clicks.*, users.age, sum(price) OVER (PARTITION BY user_id ORDER BY id) AS spent
FROM clicks JOIN users USING (user_id)
"""
COUNT = 130  # of the samples, before the split
PROGRAM = ROOT / "tests" / "programs" / "prepared.py"
JOB = """\
name = "a"
strategy = "{strategy}"
command = {command}
snapshot = false
exclusive = true
{roles}
[env]
TF_CPP_MIN_LOG_LEVEL = "2"
TF_ENABLE_ONEDNN_OPTS = "0"
"""
ROLES = {
    "multi_worker": "[roles.worker]\ncount = 2\nntasks-per-node = 1",
    "ps": '[roles.chief]\nmem = "4G"\n[roles.worker]\ncount = 2\nmem = "4G"\n[roles.ps]\nmem = "4G"',
}


def job(strategy: str, model: str, loop: str, epochs: int, *options: str) -> str:
    """Return a job file that trains a model on its data set, which is beside it."""
    words = ["python3", str(PROGRAM), model, model, f"--loop={loop}", f"--epochs={epochs}", *options]
    return JOB.format(strategy=strategy, command=json.dumps(words), roles=ROLES[strategy])


def write_sources(folder: Path) -> None:
    """Write a folder of images, a table of clicks and one of users, and the recipes cnn.toml and wide_and_deep.toml."""
    for number in range(COUNT):
        photo = folder / "photos" / str(number % 10) / f"{number}.png"
        photo.parent.mkdir(parents=True, exist_ok=True)
        photo.write_bytes(png(bytes((number % 10 * 20 + number * place) % 256 for place in range(64))))
    # the names of the files are the ids
    (folder / "photos.sql").write_text(
        "SELECT CAST(regexp_extract(file, '(\\d+)\\.png', 1) AS BIGINT) AS id, * FROM photos"
    )
    clicks = [f"{row},{row % 11},{'abcdefg'[row * row % 7]},{row % 100}.25,{row % 2}" for row in range(COUNT)]
    (folder / "clicks.csv").write_text("\n".join(["id,user_id,country,price,clicked", *clicks]) + "\n")
    users = [f"{user},{15 + 6 * user}" for user in range(11)]
    (folder / "users.csv").write_text("\n".join(["user_id,age", *users]) + "\n")
    (folder / "clicks.sql").write_text(CLICKS)
    (folder / "cnn.toml").write_text(IMAGES)
    (folder / "wide_and_deep.toml").write_text(TABLE)


def prepare(folder: Path, model: str) -> Path:
    """Prepare the data set of a model from its sources in `folder`; return its folder."""
    preparation.prepare(recipe_file.load(folder / f"{model}.toml"), False, lambda _text: None)
    return folder / model


def whole(folder: Path, data: Path, loop: str, epochs: int) -> set[tuple[str, str]]:
    """Return the bits of each worker of a training that is left alone, on this machine."""
    (folder / data.name).symlink_to(data)
    (folder / "a.toml").write_text(job("multi_worker", data.name, loop, epochs))
    done = subprocess.run(
        [sys.executable, "-m", "slurm_tf", "run", "a.toml"], cwd=folder, capture_output=True, text=True, check=False,
        timeout=240, env={**os.environ, **forkserver.environ(), "PYTHONPATH": PYTHONPATH},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return set(re.findall(r"^\[worker:(\d)\] bits (\w+)", done.stdout + done.stderr, re.MULTILINE))


def png(pixels: bytes, width: int = 8) -> bytes:
    """Return a PNG file of grey pixels."""
    rows = b"".join(b"\0" + pixels[start : start + width] for start in range(0, len(pixels), width))
    head = struct.pack(">2I5B", width, len(pixels) // width, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", zlib.compress(rows)) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@dataclass(frozen=True)
class Life:
    """One process of a task, until it ended: its first step, and the ids of each step that it ran."""

    rank: int
    first: int
    steps: list[list[int]]


def lives(run: Path) -> list[Life]:
    """Return the processes of a run, the oldest first."""
    found = []
    for path in sorted((run / "ids").glob("*.begin")):
        begin, record = json.loads(path.read_text()), path.with_suffix(".steps")
        lines = record.read_text().splitlines() if record.exists() else []
        found.append(Life(begin["rank"], begin["first"], [[int(each) for each in line.split()] for line in lines]))
    return found


def check_once_an_epoch(run: Path, data: Path, epochs: int, batch_size: int = 24) -> None:
    """Check that workers in lockstep trained on each record of the data set once in each epoch.

    What a process did after the step at which the next one went on was undone by that, and does not count.
    """
    ranks: dict[int, list[list[int]]] = {}
    for life in lives(run):
        ranks[life.rank] = [*ranks.get(life.rank, [])[: life.first], *life.steps]
    rows = dataset_manifest.read(str(data)).split("train").rows
    length = -(-rows // batch_size)
    assert {len(steps) for steps in ranks.values()} == {epochs * length}
    ids = set[int]()
    for epoch in range(epochs):
        parts = [steps[epoch * length : (epoch + 1) * length] for steps in ranks.values()]
        seen = Counter(number for part in parts for step in part for number in step)
        ids = ids or set(seen)
        assert len(ids) == rows
        assert seen == dict.fromkeys(ids, 1), f"epoch {epoch}: {seen}"


def check_as_often_as_epochs(run: Path, data: Path, epochs: int) -> None:
    """Check that workers of a chief trained on each record as often as there are epochs."""
    seen = Counter(number for life in lives(run) for step in life.steps for number in step)
    assert len(seen) == dataset_manifest.read(str(data)).split("train").rows
    assert seen == dict.fromkeys(seen, epochs)
