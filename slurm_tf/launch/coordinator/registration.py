"""Collects the reports of the tasks of one step, until all form the cluster.

No sockets here, and the time comes from outside.
"""

from collections import Counter
from typing import Dict, Mapping, Sequence

from slurm_tf.errors import RegistrationError
from slurm_tf.launch.mapping import cluster, gpus, horovod_variables
from slurm_tf.launch.mapping.allocation import expected_nodes
from slurm_tf.launch.transport.messages import Report
from slurm_tf.run.settings import LaunchSettings

_PROGRESS_SECONDS = 10.0
# How many names a message lists at most.
_NAMED = 20


class Registration:
    """The registration of one step. `reports`: the report of each task that has registered, by rank."""

    def __init__(self, settings: LaunchSettings, environ: Mapping[str, str], now: float, cause: str = "") -> None:
        """`environ`: the batch script's; `cause`: why this is not the first step, in words."""
        self.reports: Dict[int, Report] = {}
        self._settings, self._environ, self._cause = settings, environ, cause
        self._planned = [f"{role}:{index}" for role, index in settings.tasks]
        self._until = now + settings.register_timeout
        self._progress_at = now + _PROGRESS_SECONDS

    def add(self, report: Report) -> None:
        """Record a task's report. Raises RegistrationError for one that is not expected."""
        if report.rank in self.reports or not 0 <= report.rank < len(self._planned):
            found = f"a task on {report.node} that says it is rank {report.rank}: not expected"
            raise RegistrationError(found, "", "", ())
        role = self._settings.tasks[report.rank][0]
        node_gpus = next((each.node_gpus for each in self._settings.roles if each.name == role), 0)
        self.reports[report.rank] = gpus.by_index(report, node_gpus)

    @property
    def complete(self) -> bool:
        """Whether all tasks have registered."""
        return len(self.reports) == len(self._planned)

    def lacks_all(self, of_a_role: bool) -> bool:
        """Whether no task has registered, or no task of some role."""
        came = {self._planned[rank].partition(":")[0] for rank in self.reports}
        wanted = {role.name for role in self._settings.roles if role.count}
        return bool(wanted - came) if of_a_role else not came

    def form(self) -> cluster.Cluster:
        """Return the cluster that all tasks form. Raises TopologyError."""
        settings, reports = self._settings, list(self.reports.values())
        formed = cluster.form(reports, settings.roles, settings.gpu_sharing)
        formed.check_size()
        if settings.horovod == "gloo":
            horovod_variables.check_names(reports)
        return formed

    def unused_gpus(self, formed: cluster.Cluster) -> str:
        """Return a line that says where the job has more GPUs than its tasks use, "" if it has not."""
        environ = self._environ
        held: Dict[str, int] = {}
        if environ.get("SLURMD_NODENAME") and environ.get("SLURM_GPUS_ON_NODE", "").isdigit():
            held[environ["SLURMD_NODENAME"]] = int(environ["SLURM_GPUS_ON_NODE"])
        return cluster.unused_gpus(formed, self.reports, self._settings.roles, held)

    def check(self, now: float, end: str) -> None:
        """Raise RegistrationError, which names who is missing, if the time is over or the launcher ended, as `end`."""
        if now < self._until and not end:
            return
        raise RegistrationError(
            f"{self._count()} {f'when {end}' if end else f'in {self._settings.register_timeout:.0f} s'}; "
            f"missing: {self._missing_where()}" + (f"; a new step was started as {self._cause}" if self._cause else ""),
            "a registration from each task",
            "see what its agent printed; its node must see the run folder and have the site's node-python",
            self._missing(),
        )

    def progress(self, now: float) -> str:
        """Return a line about the tasks that have registered, when it is time for one, else ""."""
        if now < self._progress_at:
            return ""
        self._progress_at = now + _PROGRESS_SECONDS
        return f"{self._count()}, waiting for {self._missing_where()}"

    @property
    def wakes_at(self) -> float:
        """When `check` or `progress` has something to do."""
        return min(self._until, self._progress_at)

    def _count(self) -> str:
        return f"{len(self.reports)}/{len(self._planned)} tasks registered"

    def _missing(self) -> Sequence[str]:
        return [name for rank, name in enumerate(self._planned) if rank not in self.reports]

    def _missing_where(self) -> str:
        """Name the missing tasks, and the nodes where Slurm placed more tasks than have registered."""
        absent = Counter({} if self._settings.local else expected_nodes(self._environ))
        absent.subtract(report.node for report in self.reports.values())
        nodes = [node for node, count in absent.items() if count > 0]
        missing = self._missing()
        text = ", ".join(missing[:_NAMED]) + (" ..." if len(missing) > _NAMED else "")
        return text + (f" (on {', '.join(nodes[:_NAMED])})" if nodes else "")
