"""What Slurm printed: 22.05.8 live and saved, and other releases' and sites' formats, each from a public source."""

import time
from pathlib import Path

import pytest

from slurm_tf.account.diagnostics import Diagnostics
from slurm_tf.account.saved import FileSource
from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.account.window import Window
from slurm_tf.slurm import sacct
from slurm_tf.slurm.job_states import JobState
from tests.account import stored
from tests.cluster.mix import HOSTILE
from tests.conftest import RECORDED
from tests.recorded.record_usage import LIVE, SEPARATOR

FOLDER = RECORDED / "slurm-22.05.8" / "usage"
ALL = Window(0, 2**32)


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def read(path: Path, form: str = "", delimiter: str = "") -> tuple[list[UsageRecord], Diagnostics]:
    source = FileSource(str(path), form, delimiter)
    return list(source.records(ALL)), source.diagnostics


def live(name: str = "live") -> list[UsageRecord]:
    names = [name for name in LIVE if name in (FOLDER / "fields").read_text().split()]
    rows = sacct.parse(iter([(FOLDER / name).read_bytes()]), SEPARATOR, len(names))
    records, diagnostics = stored.read(rows, names)
    assert (diagnostics.orphans.total, diagnostics.unreadable.total) == (0, 0)
    return records


def common(record: UsageRecord) -> tuple[object, ...]:
    """Return what live and saved rows both have, but for what sacct rounds in a saved table and for when it ran."""
    return (
        record.id, record.raw_id, record.name, record.user, record.account, record.partition, record.qos,
        record.state_text, record.status, record.signal, record.submitted, record.eligible, record.started,
        record.ended, record.suspended, record.limit, record.cpus, record.node_count, record.gpus, record.gpu_type,
        record.memory, record.billing, record.used_cpu, record.out_of_memory, record.nodes,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["saved", "saved-closed"])
def test_live_and_saved_rows_of_22_05_say_the_same(name: str) -> None:
    records, diagnostics = read(FOLDER / name)
    wanted = [record for record in live() if record.started is not None or record.ended is not None]
    assert sorted(map(common, records), key=repr) == sorted(map(common, wanted), key=repr)
    assert (diagnostics.orphans.total, diagnostics.unreadable.total, diagnostics.repeated) == (0, 0, 0)
    assert diagnostics.resized.total == 1


def test_what_22_05_printed() -> None:
    records = live()
    by_name: dict[str, list[UsageRecord]] = {}
    for record in records:
        by_name.setdefault(record.name.removesuffix(".sh"), []).append(record)
    states = {name: [record.state_text.partition(" ")[0] for record in each] for name, each in by_name.items()}
    assert states["preempted"] == ["PREEMPTED", "CANCELLED"]
    assert states["requeued"] == ["REQUEUED", "CANCELLED"]
    assert states["node-fail-requeued"] == ["NODE_FAIL", "CANCELLED"]
    assert states["shrunk"] == ["RESIZING", "CANCELLED"]
    assert states["timeout"] == ["TIMEOUT"]
    (killed,) = by_name["out-of-memory"]
    assert (killed.state, killed.signal, killed.out_of_memory) == (JobState.OUT_OF_MEMORY, 125, True)
    assert [record.cancelled_by for record in by_name["cancelled-by-root"]] == [0]
    (hostile,) = by_name[HOSTILE]
    assert (hostile.comment, hostile.user, hostile.status) == (HOSTILE, "alice", 3)
    (completed,) = by_name["completed"]
    assert (completed.cpus, completed.gpus, completed.gpu_type, completed.memory) == (2, 2, "a100", 20)
    assert completed.used_memory is not None
    assert 2**20 < completed.used_memory < 2**26
    assert completed.used_cpu == pytest.approx(0.03, abs=0.03)
    (suspended,) = by_name["suspended"]
    assert 3 <= suspended.suspended <= 6
    assert [record.id.partition("+")[2] for record in by_name["het"]] == ["0", "1"]
    assert [record.gpus for record in by_name["het"]] == [1, 0]
    waiting = {record.id.partition("_")[2]: record for record in live("waiting")}
    assert {task: record.state for task, record in waiting.items()} == {
        "0": JobState.RUNNING,
        "[1-5%1]": JobState.PENDING,
    }
    assert (waiting["[1-5%1]"].started, waiting["[1-5%1]"].eligible, waiting["[1-5%1]"].gpus) == (None, None, 0)
    (running,) = by_name["running"]
    assert (running.ended, running.limit) == (None, 1440)
    assert running.counted_until is not None
    assert 0 < running.elapsed(0, 2**32, 0) < 120


# github.com/troycomi/reportseff, tests/conftest.py: jobs of a site with Slurm of before 21.08, as ReqMem's suffixes say
# (sacct(1) of 21.08: it is the total from then on); the times are added here.
SUFFIXED = RECORDED / "sacct" / "before-21.08"


def test_before_21_08() -> None:
    records, diagnostics = read(SUFFIXED)
    found = {record.id: record for record in records}
    first, task = found["25569410"], found["24220929_421"]
    assert (first.cpus, first.memory, first.limit, first.used_memory) == (1, 4000, 1440, 62328 * 1024)
    assert first.used_cpu == (19 * 60 + 28) * 60 + 36
    assert (task.raw_id, task.memory, task.limit, task.used_cpu) == ("24221219", 16000, None, 568.051)
    never = found["23000233"]
    assert (never.cpus, never.memory, never.cancelled_by, never.elapsed(0, 2**32, 0)) == (0, 0, 129319, 0)
    large = found["6196869"]
    assert (large.cpus, large.node_count, large.memory, large.limit) == (720, 20, 20 * 191846, None)
    assert large.used_cpu == ((451 * 24 + 6) * 60 * 60) + 24
    assert diagnostics.missing_fields[:2] == ["Cluster", "SLUID"]
    assert "AllocTRES" in diagnostics.missing_fields


# The header is 20.11's (its fields[] in src/sacct/sacct.c, tests/vectors); the row is that of a waiting job which a
# public test of a batch library has (github, "TEST_CASE(\"Slurm\")" with sacctOutput, of 2022-04-21).
WAITING = (
    "Account|AllocCPUS|AllocNodes|AllocTRES|Cluster|ElapsedRaw|Eligible|End|JobID|JobIDRaw|JobName|NCPUS|NNodes|NodeList|"
    "Reason|ReqMem|ReqTRES|Reserved|Start|State|Submit|Timelimit|TimelimitRaw|TotalCPU|User\n"
    "|1|0||cluster|0|2022-04-21T14:31:02|Unknown|4|4|jobscript.sh|1|1|None assigned|"
    "ReqNodeNotAvail|0n|billing=1,cpu=1,node=1|6-23:16:06|Unknown|PENDING|2022-04-21T14:31:02|Partition_Limit|"
    "Partition_Limit|00:00:00|kevth\n"
)


def test_20_11(tmp_path: Path) -> None:
    (tmp_path / "saved").write_text(WAITING)
    source = FileSource(str(tmp_path / "saved"))
    (job,) = source.records(Window(0, int((tmp_path / "saved").stat().st_mtime)))
    assert (job.state, job.started, job.ended, job.cpus, job.limit, job.nodes) == (
        JobState.PENDING, None, None, 0, None, "",
    )  # fmt: skip
    assert (job.submitted, job.reason, job.user) == (1650551462, "ReqNodeNotAvail", "kevth")


# github.com/ProjectSidewalk/RampNet, docs/data/compute/sacct_tillicum_2026-09-21.txt (MIT): rows without a header, of
# the University of Washington's tillicum in 2026; its release is not said.
BARE = RECORDED / "sacct" / "tillicum-without-header"
FORM = "jobid,jobname%50,Account,Partition,QOS,State,Submit,Start,End,ElapsedRaw,AllocTRES%80,NNodes,ExitCode"


def test_a_sites_rows_without_a_header() -> None:
    records, diagnostics = read(BARE, FORM)
    assert [record.elapsed(0, 2**32, 0) for record in records] == [120, 251, 86432]
    assert {(record.gpus, record.gpu_type, record.memory, record.node_count) for record in records} == {
        (1, "h200", 200 * 1024, 1)
    }
    assert [record.name for record in records[:1]] == ["tillicum_smoke"]
    assert "User" in diagnostics.missing_fields


# github.com/rug-cit-hpc/hb-jobinfo, test/data (MIT): rows of the University of Groningen's Habrok of 2023 and 2024 with
# names made up there; ReqMem and gres/gpuutil are those of 21.08 to 23.11, the release itself is not said.
HABROK = RECORDED / "sacct" / "habrok-2023-2024"
THEIRS = (
    "JobID,JobName,User,Partition,NodeList,NNodes,NCPUs,NTasks,State,Submit,Start,End,Timelimit,Elapsed,TotalCPU,"
    "CPUTime,UserCPU,SystemCPU,ReqMem,MaxRSS,MaxVMSize,ReqTRES,AllocTRES,TRESUsageInMax,TRESUsageInTot,"
    "TRESUsageOutTot,MaxDiskRead,MaxDiskWrite,MaxRSSNode,MaxRSSTask,MaxVMSizeNode,MaxVMSizeTask,MaxDiskReadNode,"
    "MaxDiskReadTask,MaxDiskWriteNode,MaxDiskWriteTask,Comment"
)


def test_a_site_that_records_how_busy_gpus_are() -> None:
    records, diagnostics = read(HABROK, THEIRS, "☃")
    found = {record.id: record for record in records}
    assert len(found) == len(records) == 8
    one, two = found["7965768"], found["8150389"]
    assert (one.gpus, one.gpu_type, one.cancelled_by, one.used_memory) == (1, "v100", 10314909, 1294440 * 1024)
    assert one.gpu_use == pytest.approx(90, abs=0.01)
    assert one.used_cpu == (15 * 60 + 33) * 60 + 59
    # 100 % is one of its two
    assert (two.gpus, two.gpu_type, two.memory) == (2, "a100", 32 * 1024)
    assert two.gpu_use == pytest.approx(50, abs=0.01)
    late = found["6708912"]
    assert (late.state, late.cpus, late.node_count, late.nodes) == (JobState.TIMEOUT, 256, 2, "omni[11-12]")
    assert late.used_cpu == pytest.approx((762 * 24 + 8) * 3600 + 12 * 60 + 51, abs=2)
    died = found["7336818"]
    assert (died.state, died.started, died.cpus, died.elapsed(0, 2**32, 0)) == (JobState.NODE_FAIL, None, 0, 0)
    assert (found["4047445"].cancelled_by, found["4047445"].started) == (10290820, None)
    assert (found["8323312"].state, found["8323312"].ended) == (JobState.PENDING, None)
    runs = found["8202099"]
    assert (runs.ended, runs.gpus, runs.gpu_use) == (None, 1, None)
    assert runs.counted_until is not None
    assert runs.elapsed(0, 2**32, 0) == (38 * 60 + 17) * 60 + 59
    assert (diagnostics.orphans.total, diagnostics.unreadable.total, diagnostics.repeated) == (0, 0, 0)
    assert "Account" in diagnostics.missing_fields


# 24.11 has Restarts and SLUID, 26.05 OriginalSLUID and Exclusive (fields[] of those branches), 25.11 the state
# EXPEDITING (job_state_string() of slurm_protocol_defs.c). No rows of theirs were found in public: these are written
# after the documentation, with a column and a state that slurm-tf does not know, and a step without its job.
NEWER = RECORDED / "sacct" / "since-24.11"


def test_newer_releases_and_what_is_not_known() -> None:
    records, diagnostics = read(NEWER)
    first, second, third = sorted(records, key=lambda record: record.id)
    assert (first.gpus, first.gpu_type, first.memory, first.name) == (3, "a100+v100", 64000, "a|b")
    assert (first.sluid, first.restarts, second.restarts) == ("s8VQ01", 0, 1)
    assert first.key != second.key
    assert (second.state, second.state_text) == (JobState.UNKNOWN, "EXPEDITING")
    assert (third.gpus, third.memory, third.elapsed(0, 2**32, 0)) == (0, 128, 157852800)
    assert diagnostics.unknown_states == {"EXPEDITING": 1}
    assert diagnostics.unknown_fields == ["Spin"]
    assert (diagnostics.orphans.total, diagnostics.orphans.first) == (1, ["14.0"])
    assert (diagnostics.runaways.total, diagnostics.runaways.first) == (1, ["13"])
    assert diagnostics.until == third.counted_until


def test_steps_of_heterogeneous_jobs_and_bytes_that_are_no_utf_8(tmp_path: Path) -> None:
    header = "JobID|JobIDRaw|State|Start|End|TotalCPU|MaxRSS|NTasks|JobName\n"
    rows = (
        "12+0|12|FAILED|1700000000|1700000100|00:30.000||||\n12+0.batch|12.batch|FAILED|1700000000|1700000100|00:10.000|1K|1|batch\n"
        "12+1|13|FAILED|1700000000|1700000100|00:30.000|||caf\xe9\n12+1.0|13.0|OUT_OF_MEMORY|1700000000|1700000100|00:20.500|2K|3|x\n"
    )
    path = tmp_path / "saved"
    path.write_bytes((header + rows).encode("latin-1"))
    (first, second), diagnostics = read(path)
    assert (first.used_cpu, first.used_memory, first.out_of_memory) == (10.0, 1024, False)
    assert (second.used_cpu, second.used_memory, second.out_of_memory) == (20.5, 3 * 2048, True)
    assert second.name == "caf\\xe9"
    assert diagnostics.orphans.total == 0


def test_cpu_time_of_children_that_a_signal_ended_is_not_lost(tmp_path: Path) -> None:
    header = "JobID|State|Start|End|TotalCPU|TRESUsageInTot|JobName\n"
    rows = (
        "12|TIMEOUT|1700000000|1700000600|00:00.010||x\n"
        "12.batch|CANCELLED|1700000000|1700000600|00:00.004|cpu=00:05:00,energy=0,mem=1024,vmem=2048|batch\n"
        "12.0|CANCELLED|1700000000|1700000600|00:20.500|cpu=00:00:20,mem=0|python3\n"
    )
    path = tmp_path / "saved"
    path.write_text(header + rows)
    (job,), _ = read(path)
    assert (job.used_cpu, job.used_memory) == (320.5, 1024)
