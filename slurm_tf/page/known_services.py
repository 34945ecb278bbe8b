"""The user's services that are not over, and which of them answer for a model."""

import os
from dataclasses import dataclass

from slurm_tf.page.run_cache import KnownRuns
from slurm_tf.watch import services
from slurm_tf.watch.run_overview import RunOverview
from slurm_tf.watch.services import Service


@dataclass(frozen=True, slots=True)
class KnownService:
    """A service, the key of its run, and all points of that: its jobs."""

    key: str
    service: Service
    points: tuple[RunOverview, ...]

    @property
    def name(self) -> str:
        """The name of its run."""
        return self.service.run.name

    @property
    def words(self) -> str:
        """Whether it answers, in words."""
        count = len(services.replicas(self.service.run))
        if count:
            return f"{count} replica{'s' * (count != 1)} answering"
        states = [point.state.name.lower() for point in self.points if point.job and not point.is_over]
        return f"no replica answers; job {states[0]}" if states else "no replica answers"

    def model(self, base: str) -> str:
        """Return the name by which it answers for the model in a folder, "" if it does not."""
        return next((name for name, each in self.service.settings.models.items() if each == base), "")


def living(known: KnownRuns) -> list[KnownService]:
    """Return the services that are not over, the newest first: those with a job, or with replicas on this machine."""
    found = []
    for key, points in [*known.runs.items()][::-1]:
        run = points[0].selected.run
        if all(point.is_over for point in points) or not os.path.isdir(run.endpoints):
            continue
        service = services.of_run(points[0].selected)
        if service and (any(point.job for point in points) or services.replicas(run)):
            found.append(KnownService(key, service, points))
    return found
