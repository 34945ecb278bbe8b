"""Has the containers of a job tried before its programs start: each container once on each node that is to run it.

A runtime or an image that cannot start ends the job for good, by an error that names the nodes. No sockets here, and
the time comes from outside.
"""

from typing import Dict, List, Mapping, Sequence, Set, Tuple

from slurm_tf.errors import ContainerError
from slurm_tf.launch.transport.messages import ContainerTried, Report, TryContainer
from slurm_tf.run.container_settings import ContainerSettings
from slurm_tf.run.settings import LaunchSettings

# How long a node may take for one thing in a container, of several that it does; and for all of them.
_SECONDS, _ALL_SECONDS = 120.0, 400.0
# How many nodes a message lists at most.
_NAMED = 20

_Key = Tuple[str, ContainerSettings, str]


class ContainerTrials:
    """The trials of a step. `requests`: which rank tries what."""

    def __init__(self, settings: LaunchSettings, reports: Mapping[int, Report], now: float) -> None:
        self._settings, self._reports = settings, reports
        self.requests: List[Tuple[int, TryContainer]] = []
        self._answers: Dict[int, ContainerTried] = {}
        self.wakes_at = now + _ALL_SECONDS
        roles = {role.name: role for role in settings.roles}
        known: Set[_Key] = set()
        for rank, (name, _) in enumerate(settings.tasks):
            role = roles[name]
            if role.container and role.container.runtime.wraps:
                key = (reports[rank].node, role.container, role.command[0])
                if key not in known:
                    known.add(key)
                    self.requests.append((rank, TryContainer(role.container, role.command, _SECONDS)))

    def answered(self, rank: int, answer: ContainerTried) -> None:
        """Record how a trial went."""
        self._answers[rank] = answer

    def over(self, now: float) -> bool:
        """Return whether all trials went well. Raises ContainerError for those that did not, once all are known."""
        missing = [rank for rank, _ in self.requests if rank not in self._answers]
        if missing and now < self.wakes_at:
            return False
        failed = {rank: answer for rank, answer in self._answers.items() if answer.problem}
        late = ContainerTried(f"the container was not tried within {_ALL_SECONDS:.0f} s")
        failed.update(dict.fromkeys(missing, late))
        if failed:
            raise self._error(failed)
        return True

    @property
    def versions(self) -> Dict[str, str]:
        """The TensorFlow of each role's image, where it is known."""
        names = {rank: self._settings.tasks[rank][0] for rank in self._answers}
        return {names[rank]: answer.tensorflow for rank, answer in self._answers.items() if answer.tensorflow}

    def _error(self, failed: Mapping[int, ContainerTried]) -> ContainerError:
        nodes: Dict[Tuple[str, str], List[str]] = {}
        for rank in sorted(failed):
            nodes.setdefault((failed[rank].problem, failed[rank].do), []).append(self._reports[rank].node)
        found = "; ".join(f"on {_listed(of)}: {problem}" for (problem, _), of in nodes.items())
        return ContainerError(found, do="; ".join(dict.fromkeys(do for _, do in nodes if do)))


def _listed(nodes: Sequence[str]) -> str:
    unique = list(dict.fromkeys(nodes))
    return ", ".join(unique[:_NAMED]) + (" ..." if len(unique) > _NAMED else "")
