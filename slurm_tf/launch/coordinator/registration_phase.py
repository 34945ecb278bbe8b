"""The first phase of a step: its tasks register, a preflight may check their nodes, then they form the cluster."""

import os
import time
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Type

from slurm_tf.errors import ContainerError, RegistrationError, StepError
from slurm_tf.launch.coordinator import assignments, stage_copies
from slurm_tf.launch.coordinator.container_trials import ContainerTrials
from slurm_tf.launch.coordinator.registration import Registration
from slurm_tf.launch.coordinator.stage_copies import StageCopies
from slurm_tf.launch.coordinator.status_writer import StatusWriter
from slurm_tf.launch.coordinator.task_connections import TaskConnections
from slurm_tf.launch.job_context import JobContext
from slurm_tf.launch.log import say
from slurm_tf.launch.mapping.cluster import Cluster
from slurm_tf.launch.nodes import preflight
from slurm_tf.launch.nodes.preflight import Preflight
from slurm_tf.launch.staging import stage_links
from slurm_tf.launch.transport import connections, messages
from slurm_tf.launch.transport.connections import Connection
from slurm_tf.launch.transport.messages import (
    PROBE_ANSWERS,
    ContainerTried,
    Hello,
    Report,
    Unable,
)
from slurm_tf.launch.transport.stage_messages import (
    STAGE_ANSWERS,
    StageAnswer,
    Unstage,
)
from slurm_tf.run import cluster_record
from slurm_tf.run.cluster_record import ClusterRecord, ClusterTask
from slurm_tf.run.settings import LaunchSettings
from slurm_tf.run.status import TaskState
from slurm_tf.slurm import container_refusal, step_refusal

Handler = Callable[[Connection, Any], None]


class RegistrationPhase:
    """One step, until its programs start."""

    def __init__(
        self,
        context: JobContext,
        settings: LaunchSettings,
        server: connections.Server,
        tasks: TaskConnections,
        status: StatusWriter,
        *,
        printed: Callable[[], str],
        with_preflight: bool,
        with_staging: bool,
        goes_on: bool,
        cause: str,
        steps: int = 1,
    ) -> None:
        """`goes_on`: whether the run may be put back into the queue.

        `printed` returns what the step's launchers printed; `steps`: how many there are. `cause`: why this is not the
        first step, in words.
        """
        self._context, self._settings = context, settings
        self._server, self._tasks, self._status = server, tasks, status
        self._printed, self._is_first_step, self._has_several = printed, not cause, steps > 1
        self._with_preflight, self._with_staging, self._goes_on = with_preflight, with_staging, goes_on
        self._planned = [f"{role}:{index}" for role, index in settings.tasks]
        self._names = dict(enumerate(self._planned))
        self._registration = Registration(settings, os.environ, time.monotonic(), cause)
        self._preflight: Optional[Preflight] = None
        self._trials: Optional[ContainerTrials] = None
        self._staging: Optional[StageCopies] = None
        self._stage_folders: Mapping[str, str] = {}
        self.handlers: Dict[Type[Any], Handler] = {
            Hello: self._on_hello,
            Report: self._on_report,
            Unable: self._on_unable,
            ContainerTried: self._on_container_tried,
            **dict.fromkeys(PROBE_ANSWERS, self._on_probe_answer),
            **dict.fromkeys(STAGE_ANSWERS, self._on_stage_answer),
        }

    @property
    def is_complete(self) -> bool:
        """Whether all tasks have registered."""
        return self._registration.complete

    @property
    def is_staging(self) -> bool:
        """Whether files are being staged, and no program of this attempt has started."""
        return self._staging is not None and self._is_first_step

    @property
    def tensorflow(self) -> Mapping[str, str]:
        """The TensorFlow of each role, where the trial of its container has shown it."""
        return self._trials.versions if self._trials else {}

    @property
    def hosts(self) -> List[str]:
        """The addresses that the tasks reported."""
        return [report.host for report in self._registration.reports.values()]

    def tick(self, now: float, launcher_end: str, is_terminating: bool) -> bool:
        """Return whether all tasks have registered and are fit, so that the programs can start.

        `launcher_end`: how the step's launcher ended, "" while it runs. `is_terminating`: a signal has come, and
        nothing begins before its cause is known. Raises RegistrationError, ContainerError, StepError, PreflightError,
        StageError or OSError.
        """
        if self._staging:
            return self._is_staged(self._staging, now, is_terminating)
        if self._preflight is None and self.is_complete and not is_terminating:
            if not self._containers_start(now):
                return False
            if not self._with_preflight:
                return self._begin_staging(now)
            say("all tasks registered; preflight")
            self._preflight = Preflight(self._context.folder, self._settings, self._registration.reports)
            self._send_requests(self._preflight.begin(now))
        if self._preflight is None:
            self._check(now, launcher_end)
            if line := self._registration.progress(now):
                say(line)
            return False
        return self._is_fit(self._preflight, now, is_terminating) and self._begin_staging(now)

    @property
    def wakes_at(self) -> float:
        """When `tick` has something to do."""
        if self._staging:
            return self._staging.wakes_at
        if self._trials and not self._preflight:
            return self._trials.wakes_at
        return (self._preflight or self._registration).wakes_at

    def lost(self, connection: Connection, reason: str, now: float) -> None:
        """Record that a registered task's agent is gone. Raises RegistrationError where that ends the job."""
        if not self._preflight or self._staging:
            raise RegistrationError(
                f"{connection.name} left before the programs started: {reason}", "", "", [connection.name]
            )
        node = self._registration.reports[self._planned.index(connection.name)].node
        self._send_requests(self._preflight.lost(node, now))

    def assign(self) -> Cluster:
        """Write the cluster that all form into the run's folder, send each task its assignment; return the cluster.

        Raises TopologyError, RunError or OSError.
        """
        cluster = self._registration.form()
        shared = messages.encode(assignments.shared(self._settings, self._context.folder, cluster))
        tasks = tuple(ClusterTask(name=task.name, **vars(task)) for task in cluster.tasks)
        cluster_record.write(self._context.folder, ClusterRecord(tasks))
        nodes = len({task.node for task in cluster.tasks})
        said = "the only task is registered" if len(tasks) == 1 else f"all {len(tasks)} tasks registered"
        say(f"{said}, on {nodes} node{'s' * (nodes != 1)}")
        if self._is_first_step and (line := self._registration.unused_gpus(cluster)):
            say(line)
        self._names = {task.rank: task.name for task in cluster.tasks}
        self._tasks.rename({self._planned[rank]: name for rank, name in self._names.items()})
        memory = {report.node: report.memory for report in self._registration.reports.values()}
        of_tasks = assignments.of_tasks(self._settings, cluster, memory, self._stage_folders)
        for task, assignment in zip(cluster.tasks, of_tasks):
            self._status.task(task.name, TaskState.REGISTERED, task.node)
            self._tasks.send(task.name, assignment)
            self._tasks.send_encoded(task.name, shared)
        return cluster

    def close(self) -> None:
        """End a preflight that is under way."""
        if self._preflight:
            self._preflight.close()

    def _check(self, now: float, launcher_end: str) -> None:
        """Raise RegistrationError if tasks did not come, StepError if none of a step did because srun refuses it."""
        try:
            self._registration.check(now, launcher_end)
        except RegistrationError as error:
            self._check_containers(launcher_end, error)
            refusal = None
            if self._registration.lacks_all(self._has_several):
                refusal = step_refusal.find(self._printed(), os.environ, self._is_first_step)
            if refusal is None:
                raise
            found, needed = f"srun refused the step: {refusal.text}", "a step that the job's own resources can hold"
            raise StepError(found, needed, _hint(refusal.variables)) from error

    def _containers_start(self, now: float) -> bool:
        """Return whether the containers have been tried, which begins here; once a job. Raises ContainerError."""
        if self._trials is None and self._is_first_step:
            self._trials = ContainerTrials(self._settings, self._registration.reports, now)
            for rank, request in self._trials.requests:
                self._tasks.send(self._planned[rank], request)
        return self._trials is None or self._trials.over(now)

    def _check_containers(self, launcher_end: str, error: RegistrationError) -> None:
        """Raise ContainerError if srun ended as a container did not start: it would not in another attempt."""
        if not launcher_end or not self._settings.step_containers:
            return
        if failure := container_refusal.find(self._printed()):
            needed = "an image that has Python 3.9 and all mount points"
            raise ContainerError(f"a container did not start on {failure}", needed) from error

    def _begin_staging(self, now: float) -> bool:
        """Begin to stage, if the job asks for it; return whether programs can start.

        Raises TopologyError, StageError or OSError.
        """
        stage, reports = self._settings.stage, self._registration.reports
        if stage and self._with_staging and self._settings.local:
            say("[stage] copies nothing without Slurm: the tasks run where the files are")
            links = stage_links.make(self._context.folder, stage)
            self._stage_folders = {report.node: links for report in reports.values()}
        elif stage and self._with_staging:
            # before the copies: a cluster that cannot be formed ends the job
            roles = {task.rank: task.role for task in self._registration.form().tasks}
            self._staging = StageCopies(stage, self._context.folder, reports, roles, now, say)
        return self._staging is None

    def _is_staged(self, staging: StageCopies, now: float, is_terminating: bool) -> bool:
        for rank, message in staging.tick(now):
            self._tasks.send(self._planned[rank], message)
        self._status.staging(None if staging.over else staging.status)
        self._stage_folders = staging.folders
        return staging.over and not is_terminating

    def unstage(self) -> None:
        """Have each node remove what this or an earlier attempt has staged there: the run is over."""
        for rank in stage_copies.one_a_node(self._registration.reports).values():
            self._tasks.send(self._names[rank], Unstage(self._context.folder.path))

    def _is_fit(self, running: Preflight, now: float, is_terminating: bool) -> bool:
        self._send_requests(running.tick(now))
        if running.all_are_lost:
            raise RegistrationError("every task left during the preflight", "", "see what its agent printed", ())
        if not running.over or is_terminating:
            return False
        running.finish(say)
        return True

    def _on_hello(self, connection: Connection, _message: Hello) -> None:
        self._server.send(connection, assignments.greeting(self._settings, self._context, self._goes_on))

    def _on_report(self, connection: Connection, report: Report) -> None:
        try:
            self._registration.add(report)
        except RegistrationError as error:
            say(f"refused {error}")
            self._server.close(connection)
            return
        self._tasks.add(self._planned[report.rank], connection)
        self._status.task(connection.name, TaskState.REGISTERED, report.node)

    def _on_unable(self, _connection: Connection, message: Unable) -> None:
        found = f"rank {message.rank} on {message.node}: {message.reason}"
        raise ContainerError(found) if message.for_good else RegistrationError(found, "", "", ())

    def _on_container_tried(self, connection: Connection, message: ContainerTried) -> None:
        if self._trials and self._tasks.is_task(connection):
            self._trials.answered(self._planned.index(connection.name), message)

    def _on_probe_answer(self, connection: Connection, answer: messages.ProbeAnswer) -> None:
        if self._preflight and self._tasks.is_task(connection):
            rank = self._planned.index(connection.name)
            self._send_requests(self._preflight.answered(rank, answer, time.monotonic()))

    def _on_stage_answer(self, connection: Connection, answer: StageAnswer) -> None:
        if self._staging and self._tasks.is_task(connection):
            self._staging.answered(self._planned.index(connection.name), answer)

    def _send_requests(self, requests: List[preflight.Request]) -> None:
        for rank, message in requests:
            self._tasks.send(self._planned[rank], message)


def _hint(variables: Sequence[str]) -> str:
    """Return what to do about a step that srun refuses, where `variables` may ask for too much."""
    if not variables:
        return "setup or a module may have set a variable that srun takes for an option, such as SRUN_CPUS_PER_TASK"
    return (
        f"unset what the environment of the batch script asks srun for: {', '.join(variables)}; setup, a module or a "
        "login shell set it"
    )
