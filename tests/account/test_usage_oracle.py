"""Random tables and windows: the report agrees with an oracle in plain Python."""

import random
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from slurm_tf.account import connection, database, row_store
from slurm_tf.account.amounts import Amounts
from slurm_tf.account.saved import FileSource
from slurm_tf.account.usage import Aggregate
from slurm_tf.account.window import Window
from tests.account.usage_oracle import Job, Row, groups_of

NAMES = (
    "JobID", "JobIDRaw", "State", "Cluster", "Submit", "Eligible", "Start", "End", "ElapsedRaw", "Suspended", "User",
    "Account", "Partition", "TimelimitRaw", "Restarts", "AllocTRES", "TotalCPU", "MaxRSS", "NTasks", "NodeList",
    "JobName",
)  # fmt: skip
ENDS = ("COMPLETED", "FAILED", "TIMEOUT", "OUT_OF_MEMORY", "CANCELLED by 1000", "PREEMPTED", "NODE_FAIL", "ODD")
HOSTILE = ("train", "a|b", "a\nb", "x y", "'; drop table jobs; --", "é", "", '"q"', "a,b")
# with the hours that a change of the clock repeats and leaves out in Berlin
FIRST, DAYS = 1_711_750_000, 260
BY = ("user", "account", "partition")


class Tables:
    """Random tables of sacct."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.zone = self.rng.choice(("UTC", "Europe/Berlin"))
        self.hostile = self.rng.random() < 0.5
        self.now = FIRST + DAYS * 86400
        self.groups: list[tuple[Row, list[Row]]] = []
        for number in range(self.rng.randrange(1, 40)):
            self.add(str(1000 + number))

    def local(self, moment: int) -> str:
        """Return a time as sacct prints it; in the hour that is repeated as a number, as text does not tell it."""
        here = datetime.fromtimestamp(moment, ZoneInfo(self.zone))
        text = here.strftime("%Y-%m-%dT%H:%M:%S")
        told = {int(here.replace(fold=fold, tzinfo=here.tzinfo).timestamp()) for fold in (0, 1)}
        return text if len(told) == 1 and self.rng.random() < 0.8 else str(moment)

    def add(self, job: str) -> None:
        rng = self.rng
        shape = rng.choice(("plain", "plain", "array", "requeued", "running", "pending", "never"))
        ids = [(f"{job}_{task}", f"{job}{task}") for task in range(3)] if shape == "array" else [(job, job)]
        owner = {"User": rng.choice("abc"), "Account": rng.choice(("x", "y", "")), "Partition": rng.choice("pq")}
        submit = FIRST + rng.randrange(DAYS * 86400 - 400_000)
        for printed, raw in ids:
            for restart in range(rng.randrange(1, 4) if shape == "requeued" else 1):
                submit = self.row(printed, raw, owner, submit, shape, restart)

    def row(self, job: str, raw: str, owner: Row, submit: int, shape: str, restart: int) -> int:
        """Add an incarnation and its steps; return when it ended."""
        rng = self.rng
        eligible = submit + rng.choice((0, 0, 120))
        start = eligible + rng.randrange(5000)
        pause = rng.choice((0, 0, 0, 300))
        length = rng.choice((0, 1, 59, 3600, rng.randrange(90_000)))
        end = start + length + pause
        gpus, cpus = rng.choice((0, 0, 1, 4)), rng.randrange(1, 64)
        typed = f",gres/gpu:a100={gpus},gres/gpu={gpus}" if gpus else ""
        row = dict.fromkeys(NAMES, "") | owner | {
            "JobID": job, "JobIDRaw": raw, "State": rng.choice(ENDS), "Cluster": "c", "Submit": self.local(submit),
            "Eligible": self.local(eligible), "Start": self.local(start), "End": self.local(end),
            "ElapsedRaw": str(length), "Suspended": f"00:{pause // 60:02}:{pause % 60:02}",
            "TimelimitRaw": rng.choice(("1440", "2880", "UNLIMITED")), "Restarts": rng.choice((str(restart), "")),
            "AllocTRES": f"billing=7,cpu={cpus},mem={rng.randrange(1, 64)}G,node={rng.randrange(1, 5)}{typed}",
            "TotalCPU": rng.choice(("", "00:13:37", "1-02:03:04", "07:08.125")), "NodeList": "n[1-4]",
            "JobName": rng.choice(HOSTILE) if self.hostile else "train",
        }  # fmt: skip
        if shape == "running":
            row |= {"State": "RUNNING", "End": "Unknown"}
        if shape == "pending":
            row |= {"State": "PENDING", "Start": "Unknown", "End": "Unknown", "ElapsedRaw": "0", "AllocTRES": "",
                    "NodeList": "None assigned"}  # fmt: skip
        if shape == "never":
            row |= {"State": "CANCELLED by 1000", "Start": row["End"], "ElapsedRaw": "0", "Suspended": "00:00:00",
                    "AllocTRES": "", "NodeList": "None assigned"}  # fmt: skip
        self.groups.append((row, self.steps(row) if shape in ("plain", "array", "requeued") else []))
        return end + rng.randrange(1000)

    def steps(self, job: Row) -> list[Row]:
        rng, found = self.rng, []
        # one second of time has no order between steps: only one of them is numbered
        for name in rng.sample(("batch", "0", "extern"), rng.randrange(4)):
            more = {"JobID": f"{job['JobID']}.{name}", "JobIDRaw": f"{job['JobIDRaw']}.{name}", "User": "",
                    "JobName": name, "MaxRSS": rng.choice(("", "123K", "5G", "1.5M")), "State": "COMPLETED",
                    "NTasks": rng.choice(("", "1", "3")), "TotalCPU": rng.choice(("00:01:00", "02:00:00"))}  # fmt: skip
            found.append(job | more)
        return found

    @property
    def text(self) -> str:
        rows = [dict(zip(NAMES, NAMES, strict=True)), *(each for row, steps in self.groups for each in (row, *steps))]
        return "".join("|".join(row[name] for name in NAMES) + "\n" for row in rows)


def check(amounts: Amounts, values: Mapping[str, float | None]) -> None:
    for name, value in values.items():
        shown = amounts.waited(int(name[-2:])) if name.startswith("wait_p") else getattr(amounts, name)
        assert shown == (None if value is None else pytest.approx(value, rel=1e-9)), name


def compare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeds: range) -> None:
    for seed in seeds:
        made = Tables(seed)
        monkeypatch.setenv("TZ", made.zone)
        time.tzset()
        path = tmp_path / "saved"
        path.write_text(made.text)
        monkeypatch.setattr(row_store, "FEW", seed % 2 * 50_000)  # in files as in memory
        monkeypatch.setattr(connection, "VERY_FEW", seed % 3 * 2000)  # with an optimizer as without
        jobs = [Job(row, steps, made.zone, int(path.stat().st_mtime)) for row, steps in made.groups]
        with database.opened() as found:
            FileSource(str(path)).fill(found, Window(0, 2**32))
            assert not found.diagnostics.unreadable.total, (seed, found.diagnostics.unreadable.first)
            found.complete()
            for _ in range(3):
                low, high = sorted(FIRST + made.rng.randrange(DAYS * 86400) for _ in range(2))
                window = Window(*((low, high + 1) if made.rng.random() < 0.8 else (0, 2**32)))
                found.select(window)
                are_few = made.rng.random() < 0.5 and found.are_few
                report = Aggregate(found.database, window, BY, now=found.now, are_few=are_few)
                wanted = groups_of(jobs, ("User", "Account", "Partition"), *window)
                groups = {row.key: row.amounts for row in report.rows()}
                assert groups.keys() == wanted.keys(), seed
                for key, values in wanted.items():
                    check(groups[key], values)
                check(report.total(), groups_of(jobs, (), *window).get((), {}))


@pytest.mark.slow
def test_ten_random_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(tmp_path, monkeypatch, range(10))


@pytest.mark.long
def test_two_hundred_random_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compare(tmp_path, monkeypatch, range(10, 210))
