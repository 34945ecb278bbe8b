"""Hours: what sacct's rows sum up to is what slurmdbd's own tables do, and what sreport says, to the second."""

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.cluster.conftest import require
from tests.cluster.mix import SHAPE, Mix, iso, move
from tests.conftest import ROOT
from tests.sandbox.cluster import Sandbox

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(600)]

DAYS = 5  # so many back, days are closed for the ledger
Sums = dict[tuple[str, str], tuple[int, int]]  # CPU seconds and GPU seconds by user and account

ASK = """
import json, sys
from pathlib import Path
import msgspec
from slurm_tf.account.ledger import LedgerSource
from slurm_tf.account.window import Window
from slurm_tf.account.source import SacctSource
from slurm_tf.slurm import sacct

start, end, mutation = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
if mutation == "last incarnations alone":
    popen = sacct.subprocess.Popen
    sacct.subprocess.Popen = lambda argv, **more: popen([word for word in argv if word != "--duplicates"], **more)
elif mutation == "no sacct":
    sacct.subprocess.Popen = None
source = SacctSource(all_users=True)
if sys.argv[4]:
    source = LedgerSource(Path(sys.argv[4]), source, all_users=True)
window, everything = Window(start, end), Window(0, 2**33)
sums, records = {}, []
for record in source.records(window):
    counted = everything if mutation == "whole lengths" else window
    cpu = record.running(*counted, end) * record.cpus
    gpu = record.elapsed(*counted, end) * record.gpus
    before = sums.get(f"{record.user} {record.account}", (0, 0))
    sums[f"{record.user} {record.account}"] = before[0] + cpu, before[1] + gpu
    records.append(msgspec.structs.asdict(record))
print(json.dumps({"sums": sums, "records": records, "resized": source.diagnostics.resized.first}))
"""
# 1 is the CPU in tres_table. A job that is suspended has no CPUs, and all else.
SECONDS = """
select a.user, a.acct,
  sum((length - suspended) * regexp_substr(tres_alloc, '(^|,)1=\\\\K[0-9]+')),
  sum(length * coalesce(nullif(regexp_substr(tres_alloc, '(^|,){gpu}=\\\\K[0-9]+'), ''), 0))
from (
  select j.id_assoc, j.tres_alloc,
    greatest(0, cast(least(j.time_end, {end}) as signed) - cast(greatest(j.time_start, {start}) as signed)) as length,
    coalesce((
      select sum(greatest(0,
        cast(least(s.time_end, {end}) as signed) - cast(greatest(s.time_start, {start}) as signed)))
      from sandbox_suspend_table s where s.job_db_inx = j.job_db_inx), 0) as suspended
  from sandbox_job_table j where j.time_start > 0 and j.time_end > 0
) each_row join sandbox_assoc_table a using (id_assoc) group by a.user, a.acct
"""


@dataclass(frozen=True)
class Closed:
    """A mix whose records lie in closed hours; `border` is where an hour ends in the middle of them."""

    mix: Mix
    border: int

    @property
    def windows(self) -> list[tuple[int, int]]:
        """The hour before, the hour after, and both."""
        return [
            (self.border - 3600, self.border),
            (self.border, self.border + 3600),
            (self.border - 3600, self.border + 3600),
        ]


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Closed]:
    """Return the mix, moved back by hours and rolled up by slurmdbd."""
    require(SHAPE)
    sandbox = Sandbox.up(tmp_path_factory.mktemp("usage"), SHAPE, bound=True)
    mix = Mix(sandbox)
    mix.arrange()
    ((start, end),) = mix.sql("select time_start, time_end from sandbox_job_table where state & 255 = 6")
    middle = (int(start) + int(end)) // 2
    border = (middle // 3600 - DAYS * 24) * 3600
    move(mix, middle - border)
    hours = (iso(border - 2 * 3600), iso(border + 2 * 3600))
    sandbox.run("sacctmgr", "--immediate", "roll", *hours, user="root", env={"TZ": "UTC"})
    yield Closed(mix, border)
    sandbox.down()


def ask(closed: Closed, window: tuple[int, int], mutation: str = "", ledger: str = "") -> dict[str, Any]:
    """Return what slurm-tf says, asked on the login node by root."""
    argv = (sys.executable, "-c", ASK, *map(str, window), mutation, ledger)
    done = closed.mix.sandbox.run(*argv, user="root", env={"PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def ours(closed: Closed, window: tuple[int, int], mutation: str = "", ledger: str = "") -> Sums:
    """Return slurm-tf's sums."""
    sums = ask(closed, window, mutation, ledger)["sums"]
    return nonzero({(user, account): tuple(both) for name, both in sums.items() for user, account in [name.split(" ")]})


def from_tables(closed: Closed, window: tuple[int, int]) -> Sums:
    """Return the sums over slurmdbd's job table."""
    ((gpu,),) = closed.mix.sql("select id from tres_table where type = 'gres' and name = 'gpu'")
    rows = closed.mix.sql(SECONDS.format(gpu=gpu, start=window[0], end=window[1]))
    return nonzero({(user, account): (int(float(cpu)), int(float(gpus))) for user, account, cpu, gpus in rows})


def from_sreport(closed: Closed, window: tuple[int, int]) -> Sums:
    """Return what sreport says of users in accounts."""
    argv = ("sreport", "--noheader", "--parsable2", "-t", "Seconds", "--tres=cpu,gres/gpu", "cluster")
    hours = (f"start={iso(window[0])}", f"end={iso(window[1])}")
    out = closed.mix.sandbox.run(*argv, "AccountUtilizationByUser", *hours, user="root", env={"TZ": "UTC"}).stdout
    found: dict[tuple[str, str], dict[str, int]] = {}
    for _, account, user, _, tres, used in (line.split("|") for line in out.splitlines()):
        if user:
            found.setdefault((user, account), {})[tres] = int(used)
    return nonzero({key: (tres.get("cpu", 0), tres.get("gres/gpu", 0)) for key, tres in found.items()})


def nonzero(sums: Any) -> Sums:
    return {key: both for key, both in sums.items() if any(both)}


def test_the_mix_is_one(closed: Closed) -> None:
    answer = ask(closed, closed.windows[2])
    states = {record["state_text"].partition(" ")[0] for record in answer["records"]}
    wanted = {"COMPLETED", "FAILED", "TIMEOUT", "CANCELLED", "PREEMPTED", "REQUEUED", "NODE_FAIL", "RESIZING"}
    assert states >= wanted
    assert ("OUT_OF_MEMORY" in states) == (closed.mix.sandbox.shape.proctrack == "cgroup")
    assert any(record["state_text"] == "CANCELLED by 0" for record in answer["records"])
    ids = [record["id"] for record in answer["records"]]
    assert {f"{closed.mix.jobs['het']}+{component}" for component in (0, 1)} <= set(ids)
    assert {f"{closed.mix.jobs['array']}_{task}" for task in range(5)} <= set(ids)
    assert ids.count(closed.mix.jobs["preempted"]) == 2
    assert answer["resized"] == [closed.mix.jobs["shrunk"]]


@pytest.mark.parametrize("which", [0, 1, 2], ids=["before", "after", "both"])
def test_sums_are_those_of_the_tables_and_of_sreport(closed: Closed, which: int) -> None:
    window = closed.windows[which]
    found = ours(closed, window)
    assert found == from_tables(closed, window)
    assert found == from_sreport(closed, window)
    # whose jobs are all over before the border is not in the hour after it
    assert len(found) >= (3 if which == 2 else 1)


def test_without_former_incarnations_it_would_be_less(closed: Closed) -> None:
    window = closed.windows[2]
    assert ours(closed, window, mutation="last incarnations alone") != from_tables(closed, window)


@pytest.mark.parametrize("which", [0, 1])
def test_without_clipping_it_would_be_more(closed: Closed, which: int) -> None:
    window = closed.windows[which]
    assert ours(closed, window, mutation="whole lengths") != from_tables(closed, window)


def test_a_ledger_has_the_same_sums_without_asking_again(closed: Closed) -> None:
    ledger = str(closed.mix.sandbox.shared / "state" / "ledger")
    assert ours(closed, closed.windows[2], ledger=ledger) == from_tables(closed, closed.windows[2])
    for window in closed.windows:
        assert ours(closed, window, "no sacct", ledger) == from_tables(closed, window)


@pytest.mark.parametrize("which", [0, 1, 2], ids=["before", "after", "both"])
def test_the_report_says_the_same(closed: Closed, which: int) -> None:
    start, end = closed.windows[which]
    words = ["--all-users", "--json", "--by=user,account", f"--since={iso(start)}", f"--until={iso(end)}"]
    done = closed.mix.sandbox.run(
        sys.executable, "-m", "slurm_tf", "usage", *words, user="root",
        env={"PYTHONPATH": str(ROOT), "TZ": "UTC", "XDG_STATE_HOME": str(closed.mix.sandbox.shared / "state")},
    )  # fmt: skip
    report = json.loads(done.stdout)
    rows = {(row["user"], row["account"]): (row["cpu_seconds"], row["gpu_seconds"]) for row in report["groups"]}
    assert nonzero(rows) == from_tables(closed, (start, end))
    assert report["total"]["cpu_seconds"] == sum(cpu for cpu, _ in rows.values())
    ends = report["total"]["ends"]
    if which == 2:
        assert set(ends) >= {
            "completed", "failed", "timeout", "cancelled", "cancelled by site", "preempted", "requeued", "node fail",
        }  # fmt: skip
        assert ("out of memory" in ends) == (closed.mix.sandbox.shape.proctrack == "cgroup")
