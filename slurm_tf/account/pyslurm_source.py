"""pyslurm as a source: what it says of a job becomes the rows that sacct prints, and those become records.

What sacct prints for which value: print_fields() in sacct's print.c, 22.05.8.
"""

import os
import pwd
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence

from slurm_tf.account.diagnostics import Notes
from slurm_tf.account.rows import ASKED, Rows, lacked
from slurm_tf.account.source import noted, present, selected
from slurm_tf.account.usage_record import UsageRecord, Window
from slurm_tf.errors import SchedulerError
from slurm_tf.slurm import array_indexes, sacct
from slurm_tf.slurm.pyslurm_accounting import Incarnation, Job, Names, ask
from slurm_tf.slurm.pyslurm_client import waiting
from slurm_tf.slurm.records import whole

# no API of pyslurm has them
_LACKING = ("SLUID", "Restarts", "Extra")
_NAMES = tuple(name for name in ASKED if name not in _LACKING)
_SLUID_SINCE = (24, 11)
_NO_VALUE, _INFINITE = 2**32 - 2, 2**32 - 1
_NO_COUNT = 2**64 - 2  # and one more is for infinite
_CANCELLED, _COMPLETE = 4, 3
_STEPS = {_INFINITE - 3: "extern", _INFINITE - 4: "batch", _INFINITE - 5: "interactive"}
_MEMORY, _CPU, _ENERGY = 2, 1, 3


class PyslurmSource:
    """Asks slurmdbd over pyslurm; without `all_users` and without users, for one's own jobs (root: for all)."""

    def __init__(self, all_users: bool = False, seconds: float = sacct.SECONDS) -> None:
        self.all_users, self.seconds = all_users, seconds
        self.notes = Notes()

    def records(
        self, window: Window, users: Sequence[str] = (), accounts: Sequence[str] = (), jobs: Sequence[str] = ()
    ) -> Iterator[UsageRecord]:
        """Yield the records that sacct's rows would give. Raises SchedulerError."""
        notes = self.notes = Notes()
        notes.missing_fields = lacked(_NAMES)
        now = present(window)
        numbers = self._numbers(users, jobs)
        ids = [int(each) for each in dict.fromkeys(map(whole, jobs))]
        names, incarnations = ask(window, numbers, ids, self.seconds)
        _check(names)
        records = Rows(_NAMES, notes, now).records(_Table(names).rows(incarnations))
        yield from noted(selected(records, window, now, (), accounts, jobs), notes, window, now)

    def _numbers(self, users: Sequence[str], jobs: Sequence[str]) -> list[int]:
        """Return the users to ask for, none for all: as sacct does, which asks for a job whoever has it."""
        if users:
            return [_number(user) for user in users]
        return [] if self.all_users or jobs or not os.getuid() else [os.getuid()]


class _Table:
    """Makes sacct's rows."""

    def __init__(self, names: Names) -> None:
        self._tres, self._qos = names.tres, names.qos

    def rows(self, incarnations: Iterable[Incarnation]) -> Iterator[list[str]]:
        """Yield the row of each incarnation and those of its steps."""
        for each in incarnations:
            row = self._job(each)
            yield [row[name] for name in _NAMES]
            for step in each.job["steps"].values():
                cells = self._step(step, row)
                yield [cells.get(name, "") for name in _NAMES]

    def _job(self, incarnation: Incarnation) -> dict[str, str]:
        job = incarnation.job
        done = [step for step in job["steps"].values() if step["state"] >= _COMPLETE]
        return {
            "JobID": incarnation.component or _id(job),
            "JobIDRaw": str(job["jobid"]),
            "State": _state(job),
            "Cluster": _text(job["cluster"]),
            "Submit": str(job["submit"]),
            "Eligible": str(job["eligible"]),
            "Start": str(job["start"]),
            "End": str(job["end"]),
            "ElapsedRaw": str(job["elapsed"]),
            "Suspended": _clock(job["suspended"]),
            "User": job["user"] or _name(job["uid"]),
            "Account": _text(job["account"]),
            "Partition": _text(job["partition"]),
            "QOS": self._qos.get(job["qosid"], "Unknown"),
            "WCKey": _text(job["wckey"]),
            "ExitCode": _exit(job["exitcode"]),
            "TimelimitRaw": _limit(job["timelimit"]),
            "AllocTRES": self._amounts(job["tres_alloc_str"]),
            "TotalCPU": _used(sum(each["tot_cpu_sec"] for each in done), sum(each["tot_cpu_usec"] for each in done)),
            "MaxRSS": "",
            "NTasks": "",
            "TRESUsageInTot": "",
            "ConsumedEnergyRaw": str(_counts(job["tres_alloc_str"]).get(_ENERGY, 0)),
            "NodeList": _text(job["nodes"]),
            "Reason": incarnation.reason,
            "JobName": _text(job["jobname"]),
            "Comment": _text(job["derived_es"]),
            "AdminComment": incarnation.admin_comment,
            "SubmitLine": _text(job["submit_line"]),
            "WorkDir": _text(job["work_dir"]),
        }

    def _step(self, step: Job, job: Mapping[str, str]) -> dict[str, str]:
        """Return the cells that rows.py reads of a step."""
        name = _STEPS.get(step["stepid"], str(step["stepid"]))
        stats = step["stats"]
        return {
            "JobID": f"{job['JobID']}.{name}",
            "JobIDRaw": f"{job['JobIDRaw']}.{name}",
            "State": _state(step),
            "ElapsedRaw": str(step["elapsed"]),
            "TotalCPU": _used(step["tot_cpu_sec"], step["tot_cpu_usec"]),
            "MaxRSS": str(_counts(stats["tres_usage_in_max"]).get(_MEMORY, "")),
            "NTasks": str(step["ntasks"]),
            "TRESUsageInTot": self._usage(stats["tres_usage_in_tot"]),
        }

    def _amounts(self, text: str | None) -> str:
        """Return what an allocation holds, by name: slurmdb_make_tres_string_from_simple()."""
        return self._named(
            (number, f"{count}M" if number == _MEMORY else str(count)) for number, count in _counts(text).items()
        )

    def _usage(self, text: str | None) -> str:
        """Return what a step used, by name; of CPUs, milliseconds."""
        return self._named(
            (number, _clock(count // 1000) if number == _CPU else str(count)) for number, count in _counts(text).items()
        )

    def _named(self, pairs: Iterable[tuple[int, str]]) -> str:
        return ",".join(f"{self._tres[number]}={count}" for number, count in pairs if number in self._tres)


def _counts(text: str | None) -> dict[int, int]:
    """Return the amounts in "1=4,2=8000" by id, but for Slurm's numbers that mean none."""
    pairs = (part.partition("=") for part in (text or "").split(",") if part)
    return {int(number): int(count) for number, _, count in pairs if int(count) < _NO_COUNT}


def _check(names: Names) -> None:
    """Raise SchedulerError where sacct would tell of another cluster, or tell incarnations by their SLUID."""
    do = 'client = "commands", or SLURM_TF_CLIENT=commands'
    elsewhere = os.environ.get("SLURM_CLUSTERS") or names.cluster
    if elsewhere != names.cluster:
        raise SchedulerError(f"found SLURM_CLUSTERS={elsewhere}", f"with pyslurm, {names.cluster} alone", do)
    if tuple(map(int, re.findall(r"\d+", names.version)[:2])) >= _SLUID_SINCE:
        raise SchedulerError(f"pyslurm {names.version} has no SLUID", "it, as accounting since Slurm 24.11 has", do)


def _number(user: str) -> int:
    """Return a user's number. Raises SchedulerError, as sacct says it."""
    try:
        return int(user) if user.isdecimal() else pwd.getpwnam(user).pw_uid
    except KeyError:
        raise SchedulerError(f"Invalid user id: {user}", "a user of this machine") from None


def _name(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return ""


def _text(value: str | None) -> str:
    return value or ""


def _id(job: Job) -> str:
    """Return "12", "12_3", or "12_[1-5%2]" of tasks that wait: slurmdb_get_job_id_str()."""
    if job["array_task_str"]:
        return f"{job['array_job_id']}_[{_indexes(job['array_task_str'], job['array_max_tasks'])}]"
    return str(job["jobid"]) if job["array_task_id"] == _NO_VALUE else f"{job['array_job_id']}_{job['array_task_id']}"


def _indexes(text: str, at_once: int) -> str:
    """Return "1-5%2" for the bit map "0x3E": xlate_array_task_str(), with SLURM_BITSTR_LEN=0."""
    if not text.startswith("0x"):
        return text
    found = waiting(text)
    steps = {later - former for former, later in zip(found, found[1:], strict=False)}
    if found[-1] - found[0] > 10 and len(found) > 5 and len(steps) == 1 and steps != {1}:
        return f"{found[0]}-{found[-1]}:{steps.pop()}" + (f"%{at_once}" if at_once else "")
    return array_indexes.render(found, at_once)


def _state(row: Job) -> str:
    is_by = row["state"] & 0xFF == _CANCELLED and row["requid"] != _INFINITE
    return f"{row['state_str']} by {row['requid']}" if is_by else str(row["state_str"])


def _exit(status: int) -> str:
    """Return "status:signal" of what wait() gave; of 128 and more, 128 is taken."""
    if status == _NO_VALUE:
        return ""
    if os.WIFSIGNALED(status):
        return f"0:{os.WTERMSIG(status)}"
    code = os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0
    return f"{code - 128 if code >= 128 else code}:0"


def _limit(minutes: int) -> str:
    return {_INFINITE: "UNLIMITED", _NO_VALUE: "Partition_Limit", 0: ""}.get(minutes, str(minutes))


def _clock(seconds: int) -> str:
    """Return "[D-]HH:MM:SS"."""
    days, rest = divmod(seconds, 86400)
    return f"{days}-" * bool(days) + f"{rest // 3600:02}:{rest // 60 % 60:02}:{rest % 60:02}"


def _used(seconds: int, microseconds: int) -> str:
    """Return a time of use to the millisecond, and without them from an hour on: _elapsed_time()."""
    seconds, thousandths = seconds + microseconds // 10**6, microseconds % 10**6 // 1000
    if thousandths and seconds < 3600:
        return f"{seconds // 60:02}:{seconds % 60:02}.{thousandths:03}"
    return _clock(seconds)
