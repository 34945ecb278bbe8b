"""Accounting over pyslurm's older API, `slurmdb_jobs`: the one with former incarnations, TRES and steps.

It gives a dict by job id, of a job's incarnations the newest that a question's time has, with or without
JOBCOND_FLAG_DUP (slurmdbd sends them by time of submission, oldest first). Former ones are asked for by the job's id
with a time that ends where the one just seen was submitted: slurmdbd then compares with the time of submission, and has
no two rows of one job id and one such time. Source: setup_job_cond_limits() and _cluster_get_jobs() in
as_mysql_jobacct_process.c, and the unique index (id_job, time_submit) of 22.05.8.

A process of its own asks: when slurmdbd goes away between two questions, a plugin of libslurm ends the process over a
symbol that it does not find (22.05.8).
"""

import json
import os
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from slurm_tf.errors import SchedulerError, UnreachableError
from slurm_tf.slurm import sacct
from slurm_tf.slurm.pyslurm_client import call, load
from slurm_tf.slurm.records import said

Job = Mapping[str, Any]
Time = tuple[int, int]  # half-open, seconds since the epoch
_T = TypeVar("_T")
# slurmdb.h, 22.05: DUP, also revoked siblings of a federation; NO_TRUNC, times as they are, not cut to those asked for
_FLAGS = 1 << 0 | 1 << 2
_NO_STEPS = 1 << 1
_WHOLE_HETEROGENEOUS, _NO_WHOLE_HETEROGENEOUS = 1 << 4, 1 << 5
# what slurm_parse_time() takes for "uts" and a number
_EARLIEST, _LATEST = 1_000_000, 2**32
_BATCH = 500  # jobs a question
_MOST_COMPONENTS = 128  # MAX_HET_JOB_COMPS, 22.05
# A time of questions without steps, in seconds; it grows and shrinks, so that an answer has some thousand jobs.
_DAY = 86400
_SHORTEST, _LONGEST = 3600, 32 * _DAY
_FEW, _MANY = 1000, 10_000
_AGAIN = 5


@dataclass(frozen=True)
class Incarnation:
    """What the older API says, and what it lacks: `component`, "12+1", of a heterogeneous job, else ""."""

    job: Job
    component: str = ""
    reason: str = ""
    admin_comment: str = ""


@dataclass(frozen=True)
class Names:
    """pyslurm's release, its cluster, and what ids mean: of TRES "gres/gpu:a100", of QOS also those that are gone."""

    version: str
    cluster: str
    tres: Mapping[int, str]
    qos: Mapping[int, str]


def ask(
    asked: Time, users: Sequence[int] = (), ids: Sequence[int] = (), seconds: float = sacct.SECONDS
) -> tuple[Names, Iterator[Incarnation]]:
    """Return names, and each incarnation once that sacct --duplicates tells of, of one job in its order.

    `users`: their numbers, none for all; `ids`: as sbatch printed them, none for all jobs that were eligible. Raises
    UnreachableError, SchedulerError, also after some incarnations: then they are not all.
    """
    question = json.dumps([asked, users, ids])
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    lines = _lines(sacct.output([sys.executable, "-P", "-m", __name__, question], seconds, environ, "pyslurm"))
    version, cluster, tres, qos = next(lines)
    names = Names(
        version, cluster, {int(key): name for key, name in tres.items()}, {int(key): name for key, name in qos.items()}
    )
    return names, (Incarnation(*line) for line in lines)


def _lines(chunks: Iterator[bytes]) -> Iterator[list[Any]]:
    """Yield what the process says, up to null. Raises what it raised there."""
    rest, is_over = b"", False
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in map(json.loads, lines):
            if isinstance(line, dict):
                kind = UnreachableError if line["unreachable"] else SchedulerError
                raise kind(line["found"], line["needed"], line["do"])
            if line is None:
                is_over = True
            else:
                yield line
    if not is_over:
        raise SchedulerError("pyslurm's answer is not whole", "all of it", "run it again")


def answer(question: str, write: Callable[[str], object]) -> None:
    """Write lines of JSON: names, incarnations and null; or what went wrong."""
    asked, users, ids = json.loads(question)
    try:
        accounting = Accounting()
        names = [accounting.version, accounting.cluster, accounting.tres(), accounting.qos()]
        write(f"{json.dumps(names)}\n")
        for each in accounting.incarnations(asked, users, ids):
            write(f"{json.dumps([each.job, each.component, each.reason, each.admin_comment])}\n")
        write("null\n")
    except SchedulerError as error:
        words = {"found": error.found, "needed": error.needed, "do": error.do}
        write(f"{json.dumps({'unreachable': isinstance(error, UnreachableError), **words})}\n")


class Accounting:
    """slurmdbd through pyslurm, which is not interrupted by anything. Raises SchedulerError as pyslurm_client.load."""

    def __init__(self) -> None:
        self._slurm = load()
        self.version: str = self._slurm.__version__
        self.cluster: str = self._slurm.settings.LOCAL_CLUSTER
        self._askers: dict[tuple[bool, ...], Any] = {}

    def tres(self) -> dict[int, str]:
        """Return the names of trackable resources by id."""
        loaded = self._call(lambda: self._slurm.db.TrackableResources.load(name_is_key=False))
        return {number: each.type_and_name for number, each in loaded.items()}

    def qos(self) -> dict[int, str]:
        """Return the names of QOS by id, also of those that were deleted."""
        database = self._slurm.db
        every = database.QualityOfServiceFilter(with_deleted=True)
        loaded = self._call(lambda: database.QualitiesOfService.load(every, name_is_key=False))
        return {number: each.name for number, each in loaded.items()}

    def incarnations(self, asked: Time, users: Collection[int], ids: Collection[int] = ()) -> Iterator[Incarnation]:
        """Yield what `ask` returns, as it does."""
        start, end = asked = max(asked[0], _EARLIEST), max(asked[1], _EARLIEST)
        if ids:
            found = self._newest(ids, asked, users, _NO_STEPS)
            yield from self._chains(found, asked, users)
            return
        seen: set[int] = set()
        for listed in self._portions(start, end, users):
            new = {number: job for number, job in listed.items() if number not in seen}
            seen.update(new)
            for each in self._chains(new, asked, users):
                if 0 < each.job["eligible"] < end:  # asked for jobs by id, slurmdbd does not look at it
                    yield each

    def _portions(self, start: int, end: int, users: Collection[int]) -> Iterator[Mapping[int, Job]]:
        """Yield, by id, the jobs of one part of a time after the other; a job may be in several."""
        length, now = _DAY, int(time.time())
        while start < end:
            stop = min(start + length, end)
            if stop > now:
                stop = end
            listed = self._newest((), (start, stop), users, _NO_STEPS)
            yield listed
            if len(listed) < _FEW:
                length = min(length * 2, _LONGEST)
            elif len(listed) > _MANY:
                length = max(length // 2, _SHORTEST)
            start = stop

    def _chains(self, listed: Mapping[int, Job], asked: Time, users: Collection[int]) -> Iterator[Incarnation]:
        """Yield all incarnations of the jobs that are listed, with their steps in the whole time that is asked for.

        Those that were submitted in the same second share a question, as array tasks do. Of a job, the first one
        comes first, as in sacct: a row of a job that was made smaller has the start of the one before.
        """
        components = self._components([number for number, job in listed.items() if not job["array_job_id"]])
        for batch in _batches(sorted(listed, key=lambda number: listed[number]["submit"]), _BATCH):
            found = list(self._complete(batch, asked, users, components))
            last = found
            while last:
                bounds: dict[int, list[int]] = {}
                for each in last:
                    bounds.setdefault(each.job["submit"], []).append(each.job["jobid"])
                last = []
                for submitted, numbers in bounds.items():
                    former = min(asked[0], submitted - 1), submitted  # a time of no length would be a second long
                    last += self._complete(numbers, former, users, components)
                found += last
            yield from sorted(found, key=lambda each: each.job["submit"])

    def _complete(
        self, numbers: Collection[int], asked: Time, users: Collection[int], components: Mapping[int, str]
    ) -> Iterator[Incarnation]:
        """Yield the newest incarnation that a time has of each job."""
        found = self._newest(numbers, asked, users, _NO_WHOLE_HETEROGENEOUS)
        own = {number: found[number] for number in numbers if number in found}  # slurmdbd sends whole arrays
        remarks = self._remarks(own, asked)
        for number, job in own.items():
            reason, admin_comment = remarks.get((number, job["submit"]), ("", ""))
            yield Incarnation(job, components.get(number, ""), reason, admin_comment)

    def _newest(
        self, ids: Iterable[int | str], asked: Time, users: Collection[int], flags: int = 0
    ) -> Mapping[int, Job]:
        """Return by Slurm's number the newest incarnation that a time has of each job."""
        start, end = (b"uts%d" % each for each in asked)
        words = [str(each) for each in ids]
        for _ in range(_AGAIN):
            found: dict[int, Job] = self._call(
                lambda: self._asker(bool(words), bool(users)).get(
                    jobids=words,
                    userids=list(users),
                    starttime=start,
                    endtime=end,
                    flags=_FLAGS | flags,
                    clusters=[self.cluster],
                )
            )
            # an end that is now means the whole second (slurmdb_job_cond_def_start_end())
            if not words or all(job["submit"] < asked[1] for job in found.values()):
                return found
            time.sleep(1)
        raise SchedulerError(f"slurmdbd's clock is {_AGAIN} s behind this one's or more", "one time")

    def _asker(self, *given: bool) -> Any:
        """Return an object for questions with these lists: it is a connection, and keeps lists that it is not given."""
        if given not in self._askers:
            self._askers[given] = self._slurm.slurmdb_jobs()
        return self._askers[given]

    def _components(self, numbers: Collection[int]) -> dict[int, str]:
        """Return what sacct calls those of the jobs that are components of heterogeneous ones, leaders as well.

        The older API gives no number of the whole, but takes "12+1".
        """
        ever = (_EARLIEST, _LATEST)
        around: set[int] = set()
        for batch in _batches(numbers, _BATCH):
            around.update(self._newest(batch, ever, (), _NO_STEPS | _WHOLE_HETEROGENEOUS))
        by_offset = self._of_offset(around, 0)
        leaders = sorted(by_offset)
        wholes = {leader: self._newest([leader], ever, (), _NO_STEPS) for leader in leaders}
        offsets = dict.fromkeys(leaders, 0)
        for offset in range(1, _MOST_COMPONENTS):
            found = self._of_offset(leaders, offset)
            if not found:
                break
            offsets.update(dict.fromkeys(found, offset))
        return {number: f"{leader}+{offsets[number]}" for leader, whole in wholes.items() for number in whole}

    def _of_offset(self, leaders: Iterable[int], offset: int) -> set[int]:
        found: set[int] = set()
        for batch in _batches(list(leaders), _BATCH):
            words = [f"{leader}+{offset}" for leader in batch]
            found.update(self._newest(words, (_EARLIEST, _LATEST), (), _NO_STEPS))
        return found

    def _remarks(self, own: Mapping[int, Job], asked: Time) -> dict[tuple[int, int], tuple[str, str]]:
        """Return reason and comment of the administrator by job and submission, from the newer API."""
        found = self._remarked(list(own), asked) if own else {}
        for number, job in own.items():
            if (number, job["submit"]) not in found:  # requeued between the two questions
                found |= self._remarked([number], (asked[0], job["submit"] + 1))
        return found

    def _remarked(self, numbers: Sequence[int], asked: Time) -> dict[tuple[int, int], tuple[str, str]]:
        database = self._slurm.db
        only = database.JobFilter(ids=numbers, start_time=asked[0], end_time=asked[1], clusters=[self.cluster])
        loaded = self._call(lambda: list(database.Jobs.load(only).values()))
        return {(job.id, job.submit_time): (said(job.state_reason), job.admin_comment or "") for job in loaded}

    def _call(self, ask: Callable[[], _T]) -> _T:
        try:
            return call(self._slurm, ask)
        except ValueError as error:
            raise UnreachableError(f"{error} (pyslurm, of slurmdbd)") from error


def _batches(numbers: Collection[int], size: int) -> Iterator[list[int]]:
    every = list(numbers)
    for at in range(0, len(every), size):
        yield every[at : at + size]


if __name__ == "__main__":
    answer(sys.argv[1], sys.stdout.write)
