"""Submits the job that examines nodes, waits for it, and reads its report, on the login node."""

import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from slurm_tf import files
from slurm_tf.doctor import examination_job
from slurm_tf.doctor.examination_job import Examination
from slurm_tf.errors import RunError
from slurm_tf.jobspec import container_runtimes
from slurm_tf.jobspec.plan import Plan
from slurm_tf.jobspec.sites import SiteContainer
from slurm_tf.run import examination, json_file
from slurm_tf.run.container_settings import Runtime
from slurm_tf.run.examination import (
    Clock,
    ExaminationReport,
    ExaminationSettings,
    Ping,
    Pong,
    RoleContainer,
    RuntimeSettings,
)
from slurm_tf.run.folder import FOLDER_OF_RUNS
from slurm_tf.slurm import client, in_job, pending_reasons
from slurm_tf.slurm.client import Client
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import JobRecord
from slurm_tf.submit import packed_modules, render, setup_checks

_FOLDER = ".doctor-"
_PAUSE_SECONDS = 0.1
# How often Slurm is asked.
_ASK_SECONDS = 1.0
# After the end of the job its files are to be seen here within this time.
_LOOK_SECONDS = 10.0
_LAST_LINES = 5
_PINGS = 3


@dataclass(frozen=True, slots=True)
class Examined:
    """What came of the job. `report`: None where none was seen; `record`: Slurm's last word of the job.

    `unseen`: nodes whose files this machine does not see; `seconds`: until it saw the others'. `clock`: of the batch
    host, against this machine's. `output`: the last lines of the job. `waited`: it did not start in time.
    """

    job: str
    settings: ExaminationSettings
    report: ExaminationReport | None
    record: JobRecord | None
    unseen: tuple[str, ...]
    seconds: float
    clock: Clock | None
    output: tuple[str, ...]
    waited: bool = False


def run(asked: Examination, slurm: Client, timeout: float, say: Callable[[str], None]) -> Examined:
    """Examine nodes; return what came of it.

    The job is cancelled if it has not started in `timeout` seconds, or at an exception such as KeyboardInterrupt.
    `say`: is told what the job waits for. Raises SlurmError if Slurm refuses the job, ConfigError, StorageError.
    """
    job = asked.job
    with files.explained("examine the nodes", job.runs, FOLDER_OF_RUNS), _folder(job.runs) as folder:
        fitted = examination_job.plan_of(job, folder.name)
        settings = _settings(fitted, asked.containers)
        _write(fitted, settings)
        answer = client.submit(fitted.submission.script, [], [], in_job.environ_for_sbatch(os.environ))
        if answer.messages:  # those of job_submit and cli_filter plugins
            say(answer.messages.rstrip())
        say(f"Submitted batch job {answer.job}")
        try:
            return _Watch(slurm, answer.job, fitted, settings, say).until_over(timeout)
        except BaseException:
            slurm.cancel([answer.job])
            raise


@contextlib.contextmanager
def _folder(runs: str) -> Iterator[Path]:
    """Make a folder for one examination in the folder of runs; it is removed at the end."""
    os.makedirs(runs, exist_ok=True)
    path = tempfile.mkdtemp(prefix=_FOLDER, dir=runs)
    try:
        yield Path(path)
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _settings(fitted: Plan, containers: tuple[RoleContainer, ...]) -> ExaminationSettings:
    settings, site = fitted.settings, fitted.job.site
    (role,) = settings.roles
    is_launchers = role.command == examination_job.NO_PYTHON
    return ExaminationSettings(
        token=secrets.token_hex(16),
        identity=os.stat(fitted.run.path).st_ino,
        ports=settings.ports,
        coordinator_ports=settings.coordinator_ports,
        interface=settings.interface,
        host_suffix=settings.host_suffix,
        python=site.node_python if is_launchers else role.command[0],
        is_launcher_python=is_launchers,
        gpus=role.gpus or 0,
        gpus_are_gres=not role.node_gpus,
        scratch=site.scratch,
        runtime=_runtime(site.container),
        containers=containers,
    )


def _runtime(container: SiteContainer) -> RuntimeSettings | None:
    """Return what runs containers at a site."""
    if not container.runtime:
        return None
    runtime = Runtime(container.runtime)
    return RuntimeSettings(runtime, container.command or container_runtimes.PROGRAMS[runtime])


def _write(fitted: Plan, settings: ExaminationSettings) -> None:
    """Write all that the job needs."""
    submission, folder = fitted.submission, fitted.run.path
    for each in (fitted.run.logs, submission.path):
        files.own_folder(each)
    files.write_whole(submission.launcher, packed_modules.launcher())
    files.write_whole(submission.setup_checks, setup_checks.SHELL.encode())
    files.write_whole(submission.script, render.script(fitted, examination=True).encode())
    json_file.write(os.path.join(folder, examination.SETTINGS), settings)
    files.write_whole(examination.own_file(folder, examination.LOGIN), settings.token.encode())


class _Watch:
    """Follows one job until it is over."""

    def __init__(
        self, slurm: Client, number: str, fitted: Plan, settings: ExaminationSettings, say: Callable[[str], None]
    ) -> None:
        self._slurm, self._number, self._settings, self._say = slurm, number, settings, say
        self._folder, self._log = fitted.run.path, os.path.join(fitted.run.logs, f"slurm-{number}.out")
        self._said = ""
        self._asked: float | None = None
        self._number_of_ping = 0
        self._clock: Clock | None = None

    def until_over(self, timeout: float) -> Examined:
        end, ask_at = time.monotonic() + timeout, 0.0
        record: JobRecord | None = None
        while record is None or not record.state.ended:
            now = time.monotonic()
            if now >= ask_at:
                record, ask_at = self._record() or record, now + _ASK_SECONDS
                if record and record.state is JobState.PENDING:
                    self._say_why(record)
            if record and record.state is JobState.PENDING and now > end:
                self._slurm.cancel([self._number])
                return Examined(self._number, self._settings, None, record, (), 0.0, None, (), waited=True)
            if record and record.state is JobState.RUNNING:
                self._tell_time()
            time.sleep(_PAUSE_SECONDS)
        return self._read(record)

    def _record(self) -> JobRecord | None:
        return next(iter(self._slurm.jobs([self._number])), None)

    def _say_why(self, record: JobRecord) -> None:
        """Say why the job is pending, and when Slurm expects to start it, once for each reason."""
        if not pending_reasons.is_settled(record.reason):
            return
        when = f"; Slurm expects to start it at {record.expected_start:%H:%M}" if record.expected_start else ""
        line = f"job {self._number} is pending: {pending_reasons.explain(record.reason)}{when}"
        if line != self._said:
            self._say(line)
            self._said = line

    def _tell_time(self) -> None:
        """Ask the batch host through a file what time it is, and read the answer once it is there, some times.

        The first answer may come late, as the job has only just started.
        """
        if self._asked is None and self._number_of_ping < _PINGS:
            self._asked = time.time()
            ping = Ping(self._settings.token, self._number_of_ping)
            json_file.write(os.path.join(self._folder, examination.PING), ping)
        with contextlib.suppress(OSError, RunError):
            pong = json_file.read(os.path.join(self._folder, examination.PONG), Pong)
            if self._asked is not None and pong.number == self._number_of_ping:
                clock = clock_of(pong, self._asked, time.time())
                self._clock = min(filter(None, (self._clock, clock)), key=lambda each: each.uncertainty)
                self._number_of_ping, self._asked = self._number_of_ping + 1, None

    def _read(self, record: JobRecord) -> Examined:
        """Return what the job has left: the report first, which names the nodes whose files are to be seen."""
        start = time.monotonic()
        report = None
        while report is None and time.monotonic() < start + _LOOK_SECONDS:
            with contextlib.suppress(FileNotFoundError):
                report = json_file.read(os.path.join(self._folder, examination.REPORT), ExaminationReport)
            if report or record.exit_code or not record.state.succeeded:
                break
            time.sleep(_PAUSE_SECONDS)
        unseen = self._unseen([each.node for each in report.nodes] if report else [], start + _LOOK_SECONDS)
        seconds = time.monotonic() - start
        return Examined(self._number, self._settings, report, record, unseen, seconds, self._clock, self._last_lines())

    def _unseen(self, nodes: list[str], until: float) -> tuple[str, ...]:
        left = nodes
        while True:
            left = [node for node in left if not self._sees(examination.own_file(self._folder, node))]
            if not left or time.monotonic() > until:
                return tuple(left)
            time.sleep(_PAUSE_SECONDS)

    def _sees(self, path: str) -> bool:
        with contextlib.suppress(OSError):
            return Path(path).read_text() == self._settings.token
        return False

    def _last_lines(self) -> tuple[str, ...]:
        with contextlib.suppress(OSError):
            return tuple(Path(self._log).read_text(errors="replace").strip().splitlines()[-_LAST_LINES:])
        return ()


def clock_of(pong: Pong, asked: float, answered: float) -> Clock:
    """Return how far the clock of an answer is ahead: the question was seen after `asked`, the answer came before."""
    earliest, latest = pong.written - answered, pong.seen - asked
    return Clock((earliest + latest) / 2, (latest - earliest) / 2)
