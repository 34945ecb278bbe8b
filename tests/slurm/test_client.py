"""The command-line client, on what a live Slurm 22.05.8 printed (tests/recorded/record_jobs.py)."""

import json
import os
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from pathlib import Path

import pytest

from slurm_tf.errors import SlurmError, UnreachableError
from slurm_tf.slurm import client
from slurm_tf.slurm.client import Client, CommandLineClient
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord
from tests.conftest import ROOT
from tests.slurm.conftest import TABLE

pytestmark = pytest.mark.slow

Job = Callable[[str], str]
Program = Callable[[str, str], None]


def named(records: Sequence[JobRecord]) -> dict[str, JobRecord]:
    """Return the records by the recorded name of their job, of tasks and components with what sets them apart."""
    names = {number: name for name, number in TABLE["jobs"].items()}
    found = {names[record.job] + record.id[len(record.job) :]: record for record in records}
    assert len(found) == len(records)
    return found


@pytest.fixture
def jobs(recorded: None) -> dict[str, JobRecord]:  # noqa: ARG001
    return named(CommandLineClient().jobs(list(TABLE["jobs"].values())))


@pytest.fixture
def history(recorded: None) -> dict[str, JobRecord]:  # noqa: ARG001
    return named(CommandLineClient().history(list(TABLE["jobs"].values())))


STATES = {
    "timeout": ("TIMEOUT", "TimeLimit"),
    "array_0": ("CANCELLED", ""),
    "array_2": ("RUNNING", ""),
    "array_8": ("PENDING", "JobArrayTaskLimit"),
    "array_40": ("PENDING", "JobArrayTaskLimit"),
    "het+0": ("RUNNING", ""),
    "het+1": ("RUNNING", ""),
    "completed": ("COMPLETED", ""),
    "failed": ("FAILED", "NonZeroExitCode"),
    "killed": ("FAILED", "JobLaunchFailure"),
    "out-of-memory": ("OUT_OF_MEMORY", "OutOfMemory"),
    "held": ("PENDING", "JobHeldUser"),
    "later": ("PENDING", "BeginTime"),
    "requeued": ("PENDING", "BeginTime"),
    "cancelled": ("CANCELLED", "JobHeldUser"),
    "node-fail": ("NODE_FAIL", "NodeDown"),
    "node-fail-requeued": ("PENDING", "BeginTime"),
}


@pytest.mark.parametrize("name", STATES)
def test_state_and_reason(jobs: dict[str, JobRecord], name: str) -> None:
    assert (jobs[name].state.name, jobs[name].reason) == STATES[name]


@pytest.mark.parametrize("name", [name for name in STATES if name not in ("requeued", "node-fail-requeued")])
def test_slurmdbd_has_the_same_state(history: dict[str, JobRecord], name: str) -> None:
    assert history[name].state.name == STATES[name][0]


def test_each_array_task_and_each_component_is_a_record(
    jobs: dict[str, JobRecord], history: dict[str, JobRecord]
) -> None:
    tasks = {f"array_{index}" for index in range(0, 41, 2)}
    for found in (jobs, history):
        assert {name for name in found if name.startswith("array")} == tasks
        assert {name for name in found if name.startswith("het")} == {"het+0", "het+1"}
    assert jobs["array_8"].job == TABLE["jobs"]["array"]
    assert jobs["het+1"].job == TABLE["jobs"]["het"]


@pytest.mark.parametrize(
    ("name", "exit_code"),
    [
        ("completed", 0),
        ("failed", 3),
        ("failed-130", 130),
        ("killed", 128 + 9),
        ("running", None),
        ("later", None),
        ("held", None),
    ],
)
def test_exit_code(jobs: dict[str, JobRecord], history: dict[str, JobRecord], name: str, exit_code: int | None) -> None:
    assert jobs[name].exit_code == exit_code
    # sacct takes 128 off
    assert history[name].exit_code == (2 if name == "failed-130" else exit_code)


def test_times_have_a_zone_and_an_order(jobs: dict[str, JobRecord], history: dict[str, JobRecord]) -> None:
    for records in (jobs, history):
        record = records["timeout"]
        assert record.submitted is not None
        assert record.started is not None
        assert record.ended is not None
        assert record.submitted.utcoffset() is not None
        assert record.submitted <= record.started
        assert timedelta(minutes=1) <= record.ended - record.started < timedelta(minutes=3)
        assert (records["held"].started, records["held"].ended) == (None, None)
    running = jobs["running"]
    assert running.started is not None
    assert running.ended is not None
    assert running.ended - running.started == timedelta(days=1)  # the time limit
    assert history["running"].ended is None


def test_who_where_and_from_what(jobs: dict[str, JobRecord], history: dict[str, JobRecord]) -> None:
    for records in (jobs, history):
        record = records["running"]
        assert (record.user, record.account, record.partition, record.qos) == ("alice", "vision", "main", "normal")
        assert record.nodes == "node[1-2]"
        assert (records["held"].nodes, records["held"].restarts in (0, None)) == ("", True)
    assert jobs["running"].script.endswith("/running.sh")
    assert [jobs[name].restarts for name in ("running", "requeued", "node-fail-requeued")] == [0, 1, 1]


def test_a_name_with_every_delimiter_breaks_nothing(jobs: dict[str, JobRecord], history: dict[str, JobRecord]) -> None:
    for records in (jobs, history):
        assert (records["hostile"].user, records["hostile"].state) == ("bob", JobState.RUNNING)


@pytest.mark.usefixtures("recorded")
def test_a_task_a_component_or_nothing(job: Job) -> None:
    asked = CommandLineClient()
    for each in (f"{job('array')}_2", f"{job('array')}_8", f"{job('het')}+1"):
        assert [record.id for record in asked.jobs([each])] == [each]
        assert [record.id for record in asked.history([each])] == [each]
    assert asked.jobs(["999999"]) == asked.history(["999999"]) == ()
    assert asked.jobs([]) == asked.history([]) == ()


@pytest.mark.usefixtures("recorded")
def test_nodes_and_partitions() -> None:
    asked = CommandLineClient()
    nodes = {node.name: node for node in asked.nodes()}
    assert [nodes[name].state for name in ("node1", "node2", "node3")] == ["mixed", "mixed", "drained"]
    assert (nodes["node1"].cpus, nodes["node1"].memory, nodes["node1"].gpus) == (8, 8192, 4)
    assert nodes["node1"].partitions == ("cpu", "main")
    assert [(each.name, each.is_up, each.is_default, each.nodes, each.max_time) for each in asked.partitions()] == [
        ("main", True, True, 3, 1440),
        ("cpu", True, False, 3, 1440),
    ]


@pytest.mark.usefixtures("recorded")
def test_an_unknown_job_is_refused_with_slurms_words() -> None:
    asked = CommandLineClient()
    asked.cancel(["999999"])
    with pytest.raises(SlurmError, match=r"Invalid job id specified.*\(scontrol ended with exit code 1\)") as error:
        asked.requeue(["999999"])
    assert not isinstance(error.value, UnreachableError)


@pytest.mark.usefixtures("recorded")
def test_version() -> None:
    assert client.version() == TABLE["slurm"] == "22.05.8"


@pytest.mark.usefixtures("lost")
def test_daemons_that_do_not_answer(job: Job) -> None:
    asked = CommandLineClient()
    for verb in (asked.jobs, asked.cancel, asked.requeue):
        with pytest.raises(UnreachableError):
            verb([job("array")])
    with pytest.raises(UnreachableError, match="Unable to contact slurm controller"):
        asked.nodes()


@pytest.mark.usefixtures("lost")
def test_slurmdbd_does_not_answer(job: Job, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = CommandLineClient()
    monkeypatch.setenv("PART", "commands")
    assert asked.history(["999999"]) == ()
    monkeypatch.setenv("PART", "lost")
    with pytest.raises(UnreachableError, match="Problem talking to the database"):
        asked.history([job("array")])


def test_no_slurm_here(program: Program) -> None:
    program("else", "")
    with pytest.raises(UnreachableError, match="found no squeue in PATH; needed Slurm's commands"):
        CommandLineClient().jobs(["1"])
    assert client.version() == ""


def test_a_command_that_hangs_is_ended(program: Program, tmp_path: Path) -> None:
    program("squeue", f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec /bin/sleep 600\n")
    start = time.monotonic()
    with pytest.raises(UnreachableError, match="squeue did not answer in 1 s"):
        CommandLineClient(seconds=1).jobs(["1"])
    assert time.monotonic() - start < 30
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.mark.parametrize("job_id", ["", "1 2", "1,2", "-1", "--me", "1;2", "1_", "1_[2-3]", "1+", "1\n", "²", "1_2_3"])
@pytest.mark.usefixtures("recorded")
def test_what_is_no_id_reaches_no_command(job_id: str) -> None:
    asked: Client = CommandLineClient()
    for verb in (asked.jobs, asked.history, asked.cancel, asked.requeue):
        with pytest.raises(SlurmError, match="found the job id") as error:
            verb(["1", job_id])
        assert repr(job_id) in str(error.value)


def test_fields_that_a_release_lacks_are_not_asked_for(program: Program, tmp_path: Path) -> None:
    by_release = json.loads((ROOT / "tests" / "vectors" / "sacct-fields-by-version.json").read_text())
    for release, listed in by_release.items():
        fields = set(listed.split())
        program(
            "sacct",
            f'#!/bin/sh\ncase "$*" in --helpformat) echo "{listed}";; *) echo "$*" >> {tmp_path}/{release};; esac\n',
        )
        assert CommandLineClient().history(["1"]) == ()
        asked = (tmp_path / release).read_text().partition("--format=")[2].strip().split(",")
        assert set(asked) <= fields, release
        for newer in ("Reason", "Restarts"):
            assert (newer in asked) == (newer in fields)
        assert {"JobID", "State", "ExitCode", "End"} <= set(asked)


def test_many_ids_go_on_several_command_lines(program: Program, tmp_path: Path) -> None:
    program("squeue", f'#!/bin/sh\necho "$*" >> {tmp_path}/lines\n')
    assert CommandLineClient().jobs([str(number) for number in range(1, 5001)] * 2) == ()
    lines = (tmp_path / "lines").read_text().splitlines()
    ids = [number for line in lines for number in line.partition("--jobs=")[2].partition(" ")[0].split(",")]
    assert ids == [str(number) for number in range(1, 5001)]
    assert len(lines) == 3


def test_text_that_is_no_table_is_an_error(program: Program) -> None:
    program("squeue", "#!/bin/sh\necho 'Warning: maintenance on Monday'\n")
    with pytest.raises(SlurmError, match=r"Slurm printed .*Monday"):
        CommandLineClient().jobs(["1"])


def test_a_script_path_with_newlines_and_separators(program: Program) -> None:
    row = "\x1f".join(
        ["7", "7", "N/A", "N/A", "N/A", "RUNNING", "0", "0", "None", "eve", "nlp", "main", "normal", "node1"]
        + ["2026-11-21T15:00:00"] * 3
        + ["/home/eve/a\nb\x1fc.sh\x1f\n"]
    )
    program("squeue", f"#!/bin/sh\n/bin/cat <<'END'\n{row}{row}END\n")
    first, second = CommandLineClient().jobs(["7"])
    assert first == second
    assert first.script == "/home/eve/a\nb\x1fc.sh"


def test_no_format_or_filter_of_the_users_own(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQUEUE_USERS", "somebody")
    monkeypatch.setenv("SACCT_FORMAT", "user")
    monkeypatch.setenv("SLURM_TIME_FORMAT", "%s")
    program("squeue", f"#!/bin/sh\n/usr/bin/env > {tmp_path}/environ\n")
    CommandLineClient().jobs(["1"])
    variables = (tmp_path / "environ").read_text().splitlines()
    assert "SLURM_TIME_FORMAT=standard" in variables
    assert not [line for line in variables if line.startswith(("SQUEUE_", "SACCT_"))]


def test_submit_keeps_what_sbatch_says(program: Program, tmp_path: Path) -> None:
    program("sbatch", f'#!/bin/sh\necho "$*" > {tmp_path}/asked\necho hello >&2\necho "a banner"\necho "17;tiger"\n')
    assert client.submit("job.sh", ["--hold"], ["3"], os.environ) == client.SbatchAnswer("17", "tiger", "hello\n")
    assert (tmp_path / "asked").read_text() == "--parsable --hold job.sh 3\n"
    program("sbatch", "#!/bin/sh\necho 'sbatch: error: Invalid qos specification' >&2\nexit 1\n")
    with pytest.raises(SlurmError, match=r"Invalid qos specification \(sbatch ended with exit code 1\)"):
        client.submit("job.sh", [], [], os.environ)
    program("sbatch", "#!/bin/sh\necho Submitted\n")
    with pytest.raises(SlurmError, match="needed a job id"):
        client.submit("job.sh", [], [], os.environ)


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("gpu:a100:4(S:0-1)", 4),
        ("gpu:2", 2),
        ("gpu:a100:4(S:0,1),gpu:t4:2,shard:8", 6),
        ("(null)", 0),
        ("craynetwork:4", 0),
        ("xgpu:3", 0),
    ],
)
def test_gpus_in_gres(text: str, count: int) -> None:
    assert client.gpus_in_gres(text) == count
