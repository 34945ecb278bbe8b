"""A batch prediction as a job array: shards are killed and preempted, and the result is that of one process."""

import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from slurm_tf.predict import prediction_plan
from tests.cluster.group import Member
from tests.cluster.test_interruptions import preempt
from tests.predict import models
from tests.predict.test_predict import lines, write_csv

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]


def take_model(member: Member, folder: Path) -> None:
    """Write a model into the member's folder."""
    target = member.folder / "numbers"
    shutil.copytree(models.write(folder), target)
    owner = member.folder.stat()
    for path in [target, *target.rglob("*")]:
        os.chown(path, owner.st_uid, owner.st_gid)


def one_process(member: Member, *words: str) -> None:
    member.ok("predict", "numbers", "--input", "*.csv", "--output", "one", "--site", "local", *words, timeout=1500)


def kept(output: Path, shard: int) -> bool:
    """Whether a shard that is not done has kept rows for its next attempt."""
    return any(name.startswith(f".part-{shard:05}-") and "rows-" in name for name in os.listdir(output))


def hold(member: Member, output: Path, shards: tuple[int, ...], seconds: float = 600.0) -> None:
    """Stop the program of each shard as soon as it has kept rows: none may be done before the others are there."""
    deadline = time.monotonic() + seconds
    waiting = set(shards)
    while waiting:
        assert time.monotonic() < deadline, [member.ok("logs", f"p-1/{shard}") for shard in waiting]
        for shard in [each for each in waiting if kept(output, each)]:
            send(member, output, shard, "STOP")
            waiting.remove(shard)
        time.sleep(0.02)


def send(member: Member, output: Path, shard: int, number: str) -> None:
    """Send a signal to the program of a shard, on whichever node it is."""
    for node in member.sandbox.shape.names:
        argv = ("pkill", f"-{number}", "-f", f"shard_process {output} {shard}$")
        if member.sandbox.run(*argv, user=member.user, node=node, check=False).returncode == 0:
            return
    raise AssertionError(f"no node runs shard {shard}")


def submit(member: Member, folder: Path, rows: int, shards: int, batch: int) -> Path:
    """Submit a prediction of that many rows as a job array; return its output folder."""
    take_model(member, folder)
    write_csv(member.folder / "a.csv", np.random.default_rng(0).normal(size=(rows, 3)).astype("float32"))
    os.chown(member.folder / "a.csv", member.folder.stat().st_uid, member.folder.stat().st_gid)
    member.ok(
        "predict", "numbers", "--input", "*.csv", "--output", "out", "--shards", str(shards), "--batch", str(batch),
        "--save-every", "1", "--name=p-1", "--qos=scavenge", "--set", "roles.worker.mem=1G",
        "--set", "roles.worker.cpus-per-task=1", timeout=120,
    )  # fmt: skip
    return member.folder / "out"


def check(member: Member, output: Path, rows: int, shards: int, batch: int) -> None:
    """Check that the output is that of one process."""
    one_process(member, "--batch", str(batch))
    assert lines(output) == lines(member.folder / "one")
    manifest = prediction_plan.read_manifest(str(output))
    assert manifest
    assert (manifest.rows, manifest.errors, len(manifest.shards)) == (rows, 0, shards)
    assert not [name for name in os.listdir(output) if name.startswith(".")]


def check_interrupted(
    member: Member, folder: Path, rows: int, shards: int, batch: int, killed: tuple[int, ...], preempted: int
) -> None:
    """Kill shards and preempt one, each while it computes and has kept some rows."""
    output = submit(member, folder, rows, shards, batch)
    hold(member, output, (*killed, preempted))
    for shard in killed:
        send(member, output, shard, "KILL")
    for shard in killed:  # else the preemption takes those whose end is not known yet
        member.wait_for(f"p-1/{shard}", "state", "FAILED", 240)
    preempt(member.sandbox)
    member.type("wait", "p-1", timeout=900)
    states = {point["run"]: point["state"] for point in member.status("p-1")}
    assert [states[f"p-1/{shard}"] for shard in killed] == ["FAILED"] * len(killed), states
    assert prediction_plan.read_manifest(str(output)) is None
    member.ok("resubmit", "p-1", "--failed", "--yes")
    assert member.type("wait", "p-1", timeout=900).returncode == 0, member.ok("logs", "p-1")
    for shard in (*killed, preempted):
        assert f"shard {shard} goes on: " in member.ok("logs", f"p-1/{shard}")
    check(member, output, rows, shards, batch)


@pytest.mark.timeout(600)
def test_the_shards_of_an_array_are_the_output_of_one_process(alice: Member, tmp_path: Path) -> None:
    output = submit(alice, tmp_path, rows=3000, shards=2, batch=32)
    assert alice.type("wait", "p-1", timeout=500).returncode == 0, alice.ok("logs", "p-1")
    check(alice, output, rows=3000, shards=2, batch=32)


@pytest.mark.long
@pytest.mark.timeout(900)
def test_shards_that_were_killed_or_preempted_are_done_again(alice: Member, tmp_path: Path) -> None:
    check_interrupted(alice, tmp_path, rows=90_000, shards=3, batch=4, killed=(0,), preempted=1)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_million_rows_as_an_array_of_twenty(alice: Member, tmp_path: Path) -> None:
    check_interrupted(alice, tmp_path, rows=1_000_000, shards=20, batch=8, killed=(0, 1), preempted=3)
