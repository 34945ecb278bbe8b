"""A shard that is killed goes on where it was: no row is lost, none is there twice, and the bytes are those of one."""

import os
import random
import signal
import subprocess
from pathlib import Path

import pytest

from slurm_tf.predict import batch_prediction, pieces, prediction_plan
from tests import forkserver
from tests.predict.test_predict import compute, request, vectors, write_csv

pytestmark = pytest.mark.tensorflow

# Kills itself just before a function of the package is called for the given time: MODULE NAME TIMES
_AT_CALL = """
import importlib, os, signal, sys
folder, module, name, times = sys.argv[1:]
sys.argv[1:] = [folder, "0"]
from slurm_tf.predict import shard_process
module = importlib.import_module("slurm_tf.predict." + module)
original, left = getattr(module, name), int(times)

def counted(*args, **keywords):
    global left
    left -= 1
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return original(*args, **keywords)

setattr(module, name, counted)
shard_process.main()
"""
# Sends itself a signal some moments after it has written so many rows: SIGNAL ROWS SECONDS
_AFTER_ROWS = """
import os, sys, threading, time
folder, number, rows, seconds = sys.argv[1:]
sys.argv[1:] = [folder, "0"]
from slurm_tf.predict import shard_process, shard_output
original, begun = shard_output.ShardOutput.add, threading.Event()

def add(self, batch):
    original(self, batch)
    if self.rows >= int(rows) and not begun.is_set():
        begun.set()
        threading.Thread(target=end, daemon=True).start()

def end():
    time.sleep(float(seconds))
    os.kill(os.getpid(), int(number))

shard_output.ShardOutput.add = add
shard_process.main()
"""


def interrupted(program: str, output: Path, *words: object) -> tuple[int, str]:
    """Run a program that ends itself; return its exit code, and what it said."""
    done = subprocess.run(
        [forkserver.python(), "-c", program, str(output), *map(str, words)], capture_output=True, text=True,
        timeout=300, env={**forkserver.VARIABLES, "PATH": os.environ["PATH"]}, cwd="/", check=False,
    )  # fmt: skip
    return done.returncode, done.stderr


def whole(model: Path, folder: Path, rows: int, batch_size: int) -> bytes:
    """Return the output of one process without an interruption, for rows in `folder`, which this writes."""
    write_csv(folder / "a.csv", vectors(rows))
    batch_prediction.prepare(request(model, folder / "a.csv", folder / "one", batch_size=batch_size))
    compute(folder / "one")
    return (folder / "one" / "part-00000-of-00001.jsonl").read_bytes()


def begin(model: Path, folder: Path, batch_size: int, save_every: float) -> Path:
    """Prepare the same rows; return the output folder."""
    output = folder / "out"
    values = {"batch_size": batch_size, "save_every": save_every}
    batch_prediction.prepare(request(model, folder / "a.csv", output, **values))
    return output


def check(output: Path, expected: bytes, rows: int) -> None:
    assert (output / "part-00000-of-00001.jsonl").read_bytes() == expected
    manifest = prediction_plan.read_manifest(str(output))
    assert manifest
    assert (manifest.rows, manifest.errors) == (rows, 0)
    assert sorted(os.listdir(output)) == [
        "manifest.json", "part-00000-of-00001.json", "part-00000-of-00001.jsonl", "plan.json",
    ]  # fmt: skip
    assert {path.stat().st_mode & 0o777 for path in output.iterdir()} == {0o600}


def kept(output: Path) -> int:
    """Return how many rows of the shard are kept for its next attempt."""
    plan = prediction_plan.read(str(output))
    assert plan
    found = pieces.written(str(output), plan, 0)
    return found[-1].end if found else 0


def test_a_shard_that_is_killed_goes_on_whatever_it_did_at_the_moment(model: Path, tmp_path: Path) -> None:
    expected = whole(model, tmp_path, rows=203, batch_size=4)
    output = begin(model, tmp_path, batch_size=4, save_every=0.0)  # each batch is a piece, and then all are joined
    before = 0
    for module, name, times in (
        ("pieces", "begin", 3), ("pieces", "end", 3), ("pieces", "begin", 48),
        ("prediction_plan", "write_shard_manifest", 1), ("prediction_plan", "finish", 1),
    ):  # fmt: skip
        code, said = interrupted(_AT_CALL, output, module, name, times)
        assert code == -signal.SIGKILL, said
        assert f"goes on: {before} of 203 rows" in said if before else "goes on" not in said
        assert prediction_plan.read_manifest(str(output)) is None
        before = kept(output)
    assert "is done already" in compute(output)
    check(output, expected, 203)


def test_a_shard_that_is_ended_keeps_each_row_that_it_has_computed(model: Path, tmp_path: Path) -> None:
    expected = whole(model, tmp_path, rows=4000, batch_size=1)
    output = begin(model, tmp_path, batch_size=1, save_every=60.0)
    code, said = interrupted(_AFTER_ROWS, output, int(signal.SIGTERM), 100, 0.0)
    assert code == -signal.SIGTERM, said
    rows = kept(output)
    assert rows >= 100
    assert f"shard 0 ends by SIGTERM: {rows} of 4000 rows are kept" in said
    assert f"shard 0 goes on: {rows} of 4000 rows were computed before" in compute(output)
    check(output, expected, 4000)


def test_rows_that_failed_before_a_kill_count_after_it(model: Path, tmp_path: Path) -> None:
    lines = ["[1, 2, 3]"] * 20
    lines[1] = lines[9] = "no json"
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    for name, most in (("fails", 1), ("passes", 2)):
        output = tmp_path / name
        batch_prediction.prepare(
            request(model, tmp_path / "a.jsonl", output, batch_size=4, save_every=0.0, max_errors=most)
        )
        assert interrupted(_AT_CALL, output, "pieces", "begin", 2)[0] == -signal.SIGKILL
        assert kept(output) == 4
    code, said = interrupted(_AT_CALL, tmp_path / "fails", "pieces", "begin", 99)
    assert code == 65
    assert "2 of the first 12 rows of shard 0 failed, the last: " in said
    assert "shard 0 is done: 16 rows" in compute(tmp_path / "passes")
    manifest = prediction_plan.read_manifest(str(tmp_path / "passes"))
    assert manifest
    assert (manifest.rows, manifest.errors) == (20, 2)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_shard_that_is_killed_at_ten_random_moments_has_the_bytes_of_one_that_is_not(
    model: Path, tmp_path: Path
) -> None:
    rows, seed = 40_000, random.randrange(1 << 32)
    randomness = random.Random(seed)
    expected = whole(model, tmp_path, rows=rows, batch_size=1)
    output = begin(model, tmp_path, batch_size=1, save_every=0.1)
    for number in range(10):
        wanted = number * rows // 12 + randomness.randrange(rows // 12)
        code, said = interrupted(_AFTER_ROWS, output, int(signal.SIGKILL), wanted, randomness.random() / 20)
        assert code == -signal.SIGKILL, (seed, said)
    assert "goes on" in compute(output)
    check(output, expected, rows)


def test_of_pieces_that_overlap_each_row_is_taken_once(model: Path, tmp_path: Path) -> None:
    write_csv(tmp_path / "a.csv", vectors(40))
    output = begin(model, tmp_path, batch_size=4, save_every=60.0)
    plan = prediction_plan.read(str(output))
    assert plan
    prefix = plan.temporary(0)
    for name in (
        "0-8-errors-0",
        "0-12-errors-2",
        "8-20-errors-0",
        "12-16-errors-1",
        "24-28-errors-0",
        "16-20-errors-x",
    ):
        (output / f"{prefix}rows-{name}").touch()
    (output / ".part-00001-of-00001.jsonl-rows-16-20-errors-0").touch()
    found = [(piece.first, piece.end, piece.errors) for piece in pieces.written(str(output), plan, 0)]
    assert found == [(0, 12, 2), (12, 16, 1)]
