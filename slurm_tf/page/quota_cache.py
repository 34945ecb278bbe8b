"""The user's quota as all browsers see it: Slurm is asked for it at most once a minute."""

import threading
import time

from slurm_tf.org import user_quota
from slurm_tf.org.user_quota import UserQuota
from slurm_tf.page.run_cache import KnownRuns
from slurm_tf.slurm.job_states import JobState
from slurm_tf.slurm.records import whole_job
from slurm_tf.watch.run_overview import RunOverview

_KEPT_SECONDS = 60.0
# How the reasons of squeue begin that are a limit of an association or a QOS.
_LIMITS = ("Assoc", "QOS")


class QuotaCache:
    """The quota of the user; used by several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._asked_at = 0.0
        self._quota: UserQuota | None = None

    def look(self) -> UserQuota:
        """Return the quota; what does not answer is unknown in it."""
        with self._lock:
            if self._quota is None or time.monotonic() - self._asked_at > _KEPT_SECONDS:
                self._quota = user_quota.of_user()
                self._asked_at = time.monotonic()
            return self._quota

    def why_waiting(self, point: RunOverview, known: KnownRuns) -> str:
        """Return which limit a pending run waits for, who uses it and until about when; "" for another reason."""
        if point.state is not JobState.PENDING or not point.records[0].reason.startswith(_LIMITS):
            return ""
        quota = self.look()
        demand = user_quota.demand_of(quota, point.job)
        return user_quota.why_waiting(quota, demand, run_names(known)) if demand else ""


def run_names(known: KnownRuns) -> dict[str, str]:
    """Return the name of each run by the ids of its jobs."""
    return {
        whole_job(point.job): point.selected.run.name for points in known.runs.values() for point in points if point.job
    }
