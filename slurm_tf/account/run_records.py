"""Finds the run, the template and the attempt of a record, in the files of slurm-tf's runs.

A record's template is taken from the first of these that has one: the job's comment, the run that its job id belongs
to, the job's name. What reads the files of a run is imported once there is one: many who ask have none.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from slurm_tf.account.database import Tables
from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.errors import RunError
from slurm_tf.run import job_chain, job_comment
from slurm_tf.run.folder import RunFolder
from slurm_tf.watch import find_run

if TYPE_CHECKING:
    from slurm_tf.run.attempts import Attempt
    from slurm_tf.run.gpu_record import GpuRecord

# The coordinator starts at most this long after its job, because of prologues, modules and setup; clocks of hosts may
# differ by at most the second number.
_START_SECONDS, _SKEW_SECONDS = 3600, 60


class RunRecord(NamedTuple):
    """The run, template and attempt of a record, and its GPUs' mean use in percent; "" and None: unknown."""

    template: str = ""
    run: str = ""
    attempt: "Attempt | None" = None
    gpu_busy: float | None = None

    def completed(self, record: UsageRecord) -> UsageRecord:
        """Return the record with the use of the GPUs that the run sampled."""
        return record if self.gpu_busy is None else msgspec.structs.replace(record, gpu_use=self.gpu_busy)


_NO_RUN = RunRecord()


def row_of(record: UsageRecord, own: RunRecord) -> tuple[object, ...]:
    """Return what its run recorded of one incarnation, as the table of jobs_sql.RUNS has it."""
    made = own.attempt if own.attempt and own.attempt.speaks else None
    is_good = made is not None and made.ended is not None and made.code == 0
    return (
        record.id, record.cluster or None, record.started, record.submitted, own.template or None, own.run or None,
        made is not None, made and made.began, made and made.saved, is_good, own.gpu_busy,
    )  # fmt: skip


class RunRecords:
    """The user's runs, by the ids of their jobs."""

    def __init__(self, root: str) -> None:
        """`root`: the folder of runs; it need not exist."""
        self.problems: list[str] = []
        # job id: the run, and the sweep point if the job is for a single one
        self.jobs: dict[str, tuple[RunFolder, int | None]] = {}
        self._clusters: dict[str, str] = {}
        self._templates: dict[RunFolder, str] = {}
        self._attempts: dict[str, list[Attempt]] = {}
        self._gpus: dict[str, list[GpuRecord]] = {}
        known = find_run.all_runs(root)
        self._labels = {each.run: label for each, label in zip(known, find_run.labels(known), strict=True)}
        # job ids of several clusters may be the same: the folder of runs comes before others
        for selected in known[::-1]:
            try:
                self._read(selected.run)
            except (RunError, OSError, ValueError, KeyError, TypeError) as error:
                self.problems.append(f"run {selected.run.name} is left out: {error}")

    def find(self, record: UsageRecord) -> RunRecord:
        """Return the run, template and attempt of a record."""
        named = record.name[len(job_comment.JOB_NAME) :] if record.name.startswith(job_comment.JOB_NAME) else ""
        run, template = "", ""
        if record.comment.startswith(job_comment.COMMENT):
            run, template = job_comment.read_comment(record.comment)
        known = self.jobs.get(record.job) if self.jobs else None
        if known is None or self._clusters.get(record.job) not in ("", None, record.cluster):
            template = template or named
            return RunRecord(template, run) if template or run else _NO_RUN
        run_folder, point = known
        folder = run_folder
        if "_" in record.id:
            task = record.id.partition("_")[2]
            folder = folder.point(int(task)) if task.isdecimal() else folder
        elif point is not None:
            folder = folder.point(point)
        if run in ("", run_folder.name):
            run = self.label(run_folder)
        attempt = self._attempt(folder, record)
        busy = self._gpu_busy(folder, attempt) if attempt and record.gpus and record.gpu_use is None else None
        return RunRecord(template or self._templates[run_folder], run, attempt, busy)

    def with_gpu_use(self, record: UsageRecord) -> UsageRecord:
        """Return a record with what its run sampled of its GPUs, where Slurm recorded no use of them."""
        return self.find(record).completed(record)

    def add_to(self, found: "Tables") -> None:
        """Add what the runs recorded to the rows of `jobs`: template, run, and when training began and was saved."""
        if self.jobs:
            found.add_runs([row_of(record, self.find(record)) for record in found.records(self.jobs)])

    def label(self, run: RunFolder) -> str:
        """Return the name that tells a run from the others: its own, or its path."""
        return self._labels.get(run, run.name)

    def jobs_of(self, run: RunFolder) -> list[str]:
        """Return the ids of all jobs that were submitted for a run."""
        return [job for job, (each, _) in self.jobs.items() if each == run]

    def _read(self, run: RunFolder) -> None:
        """Add the jobs of one run: those that the user submitted, and those that followed them."""
        from slurm_tf.run import manifest

        rows = job_chain.read(run)
        for point in sorted({point for each in rows for point in each.points}):
            rows += job_chain.read(run.point(point))
        self._templates[run] = manifest.read(run.manifest).template_name
        for each in rows:
            only = each.points[0] if len(each.points) == 1 and not each.array else None
            self.jobs[each.job] = (run, only)
            self._clusters[each.job] = each.cluster

    def _gpu_busy(self, folder: RunFolder, attempt: "Attempt") -> float | None:
        """Return the mean of what the tasks of an attempt sampled of their GPUs; None where they did not."""
        from slurm_tf.run import gpu_record

        if folder.path not in self._gpus:
            self._gpus[folder.path] = list(gpu_record.read(folder).values())
        uses = (use for each in self._gpus[folder.path] for use in each.attempts)
        return gpu_record.mean_busy(use for use in uses if use.attempt == attempt.id)

    def _attempt(self, folder: RunFolder, record: UsageRecord) -> "Attempt | None":
        """Return the attempt of this incarnation: by its restart count if Slurm has that, and by its start time."""
        from slurm_tf.run import attempts

        if record.started is None:
            return None
        if folder.path not in self._attempts:
            try:
                self._attempts[folder.path] = attempts.read(folder) if Path(folder.attempts).exists() else []
            except (RunError, OSError) as error:
                self.problems.append(str(error))
                self._attempts[folder.path] = []
        job = record.id if "_" in record.id else record.job
        own = [each for each in self._attempts[folder.path] if each.job == job]
        return next(_fitting(own, record), None)


def _fitting(own: "list[Attempt]", record: UsageRecord) -> "Iterator[Attempt]":
    start = record.started or 0
    latest = start + _START_SECONDS if record.ended is None else record.ended
    for each in own:
        restart = each.id.rpartition(".")[2]
        if record.restarts is not None and restart.isdecimal() and int(restart) != record.restarts:
            continue
        if start - _SKEW_SECONDS <= each.started <= latest + _SKEW_SECONDS:
            yield each
