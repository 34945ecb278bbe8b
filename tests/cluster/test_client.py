"""Both clients on a live cluster: the same questions, the same answers."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.conftest import ROOT
from tests.sandbox.cluster import Sandbox

pytestmark = pytest.mark.slurm

HOSTILE = "a\nb|c\"d'e\x1f99\x1f\n7"
ASK = """
import dataclasses, json, sys
from datetime import datetime
from slurm_tf.errors import SlurmError
from slurm_tf.slurm.client import connect

def plain(value):
    if dataclasses.is_dataclass(value):
        return dataclasses.asdict(value)
    return value.isoformat() if isinstance(value, datetime) else value.name

client, answers = connect(sys.argv[1]), []
for name, *arguments in json.loads(sys.argv[2]):
    try:
        answers.append(getattr(client, name)(*arguments))
    except SlurmError as error:
        answers.append({"error": type(error).__name__, "words": str(error)})
print(json.dumps(answers, default=plain))
"""
Ask = Callable[..., Any]


def number(record: Any) -> list[int]:
    """Return the numbers in a record's id, to sort by."""
    return [int(part) for part in record["id"].replace("+", "_").split("_")]


def asker(sandbox: Sandbox, kind: str) -> Ask:
    """Return a function that calls a method of that client, as alice on the login node."""

    def ask(method: str, *ids: str, user: str = "alice", **environ: str) -> Any:
        call = [method, list(ids)] if ids else [method]
        path = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
        done = sandbox.run(
            sys.executable, "-c", ASK, kind, json.dumps([call]), user=user, env={"PYTHONPATH": path, **environ}
        )
        (answer,) = json.loads(done.stdout)
        return sorted(answer, key=number) if method in ("jobs", "history") and isinstance(answer, list) else answer

    return ask


@pytest.fixture(scope="session")
def why_no_pyslurm(sandbox: Sandbox) -> str:
    """Return why pyslurm cannot be used there, "" if it can."""
    path = f"{ROOT}:{os.environ.get('PYTHONPATH', '')}"
    code = "from slurm_tf.slurm.client import connect; connect('pyslurm')"
    done = sandbox.run(sys.executable, "-c", code, env={"PYTHONPATH": path}, check=False)
    errors = [line for line in done.stderr.splitlines() if line.startswith("slurm_tf.errors.")]
    assert done.returncode == 0 or errors, done.stderr
    return errors[-1] if errors else ""


@pytest.fixture(params=["commands", "pyslurm"])
def ask(request: pytest.FixtureRequest, sandbox: Sandbox, why_no_pyslurm: str) -> Ask:
    if request.param == "pyslurm" and why_no_pyslurm:
        pytest.skip(why_no_pyslurm)
    return asker(sandbox, request.param)


@pytest.fixture
def submit(sandbox: Sandbox) -> Iterator[Callable[..., str]]:
    """Submit a script of these lines; all jobs are cancelled at the end."""
    jobs: list[tuple[str, str]] = []

    def run(lines: str, *options: str, user: str = "alice") -> str:
        path = sandbox.shared / f"job-{time.monotonic_ns()}.sh"
        path.write_text(f"#!/bin/bash\n{lines}\n")
        path.chmod(0o755)
        done = sandbox.run("sbatch", "--parsable", "--output=/dev/null", "--mem=20", *options, str(path), user=user)
        jobs.append((user, done.stdout.strip()))
        return jobs[-1][1]

    yield run
    for user, job in jobs:
        sandbox.run("scancel", job, user=user, check=False)


def eventually(question: Callable[[], Any], is_right: Callable[[Any], object], seconds: float = 40) -> Any:
    """Return the first answer that is right; fail with the last one."""
    end = time.monotonic() + seconds
    while not is_right(answer := question()):
        assert time.monotonic() < end, answer
        time.sleep(0.2)
    return answer


def states(records: Any) -> list[str]:
    return [record["state"] for record in records]


def all_ended(records: Any) -> bool:
    return bool(records) and all(record["ended"] and record["exit_code"] is not None for record in records)


def test_an_array_has_a_record_each_task(ask: Ask, submit: Callable[..., str]) -> None:
    job = submit("sleep 300", "--array=0-5%2")
    found = eventually(lambda: ask("jobs", job), lambda records: states(records).count("RUNNING") == 2)
    assert [record["id"] for record in found] == [f"{job}_{index}" for index in range(6)]
    assert [record["reason"] for record in found[2:]] == ["JobArrayTaskLimit"] * 4
    assert found[0]["nodes"].startswith("node")
    assert found[0]["started"] is not None
    assert found[5]["nodes"] == ""
    assert found[5]["started"] is None
    assert {record["user"] for record in found} == {"alice"}
    waiting = ask("jobs", f"{job}_4")
    assert [record["id"] for record in waiting] == [f"{job}_4"]
    # sacct knows a task that waits only as a part of its array
    eventually(lambda: ask("history", f"{job}_4", f"{job}_0"), lambda rows: states(rows) == ["RUNNING", "PENDING"])


def test_an_array_is_cancelled_in_parts_and_whole(ask: Ask, submit: Callable[..., str]) -> None:
    job = submit("sleep 300", "--array=0,2,4-40:2%2")
    eventually(lambda: ask("jobs", job), lambda records: states(records).count("RUNNING") == 2)
    assert ask("cancel", f"{job}_40", f"{job}_0") is None
    # of a task that is cancelled before it started, slurmctld keeps nothing
    assert [record["id"] for record in ask("jobs", f"{job}_38", f"{job}_40")] == [f"{job}_38"]
    eventually(lambda: ask("jobs", f"{job}_0"), lambda records: states(records) == ["CANCELLED"])
    assert ask("cancel", job) is None
    ended = eventually(lambda: ask("jobs", job), all_ended)
    assert len(ended) == 20
    assert set(states(ended)) == {"CANCELLED"}
    eventually(
        lambda: ask("history", job),
        lambda records: all_ended(records) and list(map(number, records)) == list(map(number, ended)),
    )


def test_a_heterogeneous_job_has_a_record_each_component(ask: Ask, submit: Callable[..., str]) -> None:
    job = submit("#SBATCH --mem=20\n#SBATCH hetjob\n#SBATCH --mem=20\nsleep 300")
    found = eventually(lambda: ask("jobs", job), lambda records: states(records) == ["RUNNING"] * 2)
    assert [record["id"] for record in found] == [f"{job}+0", f"{job}+1"]
    assert ask("jobs", f"{job}+1") == found[1:]
    recorded = eventually(lambda: ask("history", f"{job}+1"), lambda records: states(records) == ["RUNNING"])
    assert [record["id"] for record in recorded] == [f"{job}+1"]
    assert ask("cancel", job) is None
    ended = eventually(lambda: ask("jobs", job), all_ended)
    assert states(ended) == ["CANCELLED"] * 2


@pytest.mark.parametrize(
    ("lines", "state", "exit_code"),
    [("true", "COMPLETED", 0), ("exit 3", "FAILED", 3), ("kill -9 $$", "FAILED", 137)],
)
def test_how_a_job_ended(ask: Ask, submit: Callable[..., str], lines: str, state: str, exit_code: int) -> None:
    job = submit(lines)
    (record,) = eventually(lambda: ask("jobs", job), all_ended)
    assert (record["id"], record["state"], record["exit_code"]) == (job, state, exit_code)
    assert record["submitted"] <= record["started"] <= record["ended"]
    assert record["script"].endswith(".sh")
    assert (record["restarts"], record["account"], record["qos"]) == (0, "vision", "normal")
    # slurmctld tells slurmdbd of a job's end before the rest, if it was a short one
    (recorded,) = eventually(lambda: ask("history", job), lambda records: all_ended(records) and records[0]["qos"])
    same = {key: value for key, value in record.items() if key not in ("reason", "restarts", "script")}
    assert recorded | same == recorded


def test_requeued(ask: Ask, submit: Callable[..., str]) -> None:
    job = submit("sleep 300")
    eventually(lambda: ask("jobs", job), lambda records: states(records) == ["RUNNING"])
    assert ask("requeue", job) is None
    (record,) = eventually(lambda: ask("jobs", job), lambda records: states(records) == ["PENDING"])
    assert (record["restarts"], record["nodes"]) == (1, "")


def test_names_that_hold_any_delimiter(ask: Ask, submit: Callable[..., str]) -> None:
    other = submit("sleep 300", f"--job-name={HOSTILE}", f"--comment={HOSTILE}", user="bob")
    own = submit("sleep 300")
    found = eventually(lambda: ask("jobs", other, own), lambda records: states(records) == ["RUNNING"] * 2)
    assert {record["id"]: record["user"] for record in found} == {other: "bob", own: "alice"}
    refused = ask("cancel", other)
    assert refused["error"] == "SlurmError"
    assert "denied" in refused["words"]
    # accounting shows its own jobs to everybody here; what it shows, it shows in one row each
    recorded = eventually(lambda: ask("history", own, other), lambda records: len(records) == 2)
    assert [record["id"] for record in recorded] == sorted([other, own], key=int)


def test_a_job_that_nobody_knows(ask: Ask) -> None:
    assert ask("jobs", "999999999") == ask("jobs", "999999999", "999999998_3") == []
    assert ask("history", "999999999") == []
    assert ask("cancel", "999999999") is None
    refused = ask("requeue", "999999999")
    assert refused["error"] == "SlurmError"
    assert "Invalid job id specified" in refused["words"]
    assert "needed a number" in ask("jobs", "1; true")["words"]


def test_nodes_and_partitions(ask: Ask, sandbox: Sandbox) -> None:
    sandbox.run("scontrol", "update", "nodename=node2", "state=drain", "reason=test", user="root")
    try:
        nodes = {node["name"]: node for node in ask("nodes")}
    finally:
        sandbox.run("scontrol", "update", "nodename=node2", "state=resume", user="root")
    assert nodes["node2"]["state"] in ("drained", "draining")
    assert nodes["node1"]["state"] in ("idle", "mixed", "allocated", "completing", "planned")
    assert (nodes["node1"]["cpus"], nodes["node1"]["memory"], nodes["node1"]["gpus"]) == (8, 8192, 4)
    assert {"main", "cpu"} <= set(nodes["node1"]["partitions"])
    (main,) = [each for each in ask("partitions") if each["name"] == "main"]
    assert main == {"name": "main", "is_up": True, "is_default": True, "nodes": len(nodes), "max_time": 1440}


def test_daemons_that_do_not_answer(ask: Ask, sandbox: Sandbox) -> None:
    conf = sandbox.shared / "nobody-listens.conf"
    lines = sandbox.run("cat", "/etc/slurm/slurm.conf").stdout.splitlines()
    kept = [line for line in lines if not line.startswith("MessageTimeout=")]
    conf.write_text("\n".join([*kept, "MessageTimeout=2", "SlurmctldPort=1", "AccountingStoragePort=2", ""]))
    conf.chmod(0o644)
    for method in ("jobs", "history", "requeue"):
        answer = ask(method, "1", SLURM_CONF=str(conf))
        assert answer["error"] == "UnreachableError", (method, answer)


def test_both_clients_say_the_same(sandbox: Sandbox, submit: Callable[..., str], why_no_pyslurm: str) -> None:
    if why_no_pyslurm:
        pytest.skip(why_no_pyslurm)
    ids = [
        submit("sleep 300", "--array=0-40:2%3"),
        submit("#SBATCH --mem=20\n#SBATCH hetjob\n#SBATCH --mem=20\nsleep 300"),
        submit("sleep 300", "--hold"),
        submit("sleep 300", "--begin=now+1hour"),
        submit("sleep 300", "--nodes=2"),
        submit("sleep 300", "--dependency=singleton", "--job-name=one"),
        submit("exit 3"),
        submit("kill -TERM $$"),
        submit("true", "--array=0-1"),
    ]
    first, second = asker(sandbox, "commands"), asker(sandbox, "pyslurm")
    eventually(lambda: first("jobs", *ids[6:]), all_ended)
    for question in (["jobs", *ids], ["history", *ids], ["nodes"], ["partitions"]):
        # both are asked until nothing has changed between
        eventually(
            lambda question=question: (first(*question), second(*question), first(*question)),  # type: ignore[misc]
            lambda answers: answers[0] == answers[1] == answers[2],
        )
