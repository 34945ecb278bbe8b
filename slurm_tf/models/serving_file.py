"""Which versions of a model are served: serving.json in the model's folder. Standard library, Python 3.9.

Replicas look at it every few seconds. Without the file they serve the newest version.
"""

import os
from dataclasses import dataclass, field
from enum import Enum
from typing import Iterable, Mapping, Optional, Set, Tuple

from slurm_tf.errors import ModelError
from slurm_tf.models import model_versions
from slurm_tf.models.model_versions import Version
from slurm_tf.run.json_format import JsonFormat

NAME = "serving.json"
FORMAT = "1.0"
_JSON = JsonFormat("serving.json", FORMAT, ModelError, "write it again: slurm-tf serve promote, label or canary")


class PolicyKind(str, Enum):
    """The version policies of TensorFlow Serving (config/file_system_storage_path_source.proto)."""

    LATEST = "latest"
    ALL = "all"
    SPECIFIC = "specific"


@dataclass(frozen=True)
class VersionPolicy:
    """Which versions are loaded: the newest `count`, all, or those of `versions`."""

    kind: PolicyKind = PolicyKind.LATEST
    count: int = 1
    versions: Tuple[int, ...] = ()


@dataclass(frozen=True)
class Canary:
    """A version that gets `percent` of the requests that name no version."""

    version: int
    percent: float


@dataclass(frozen=True)
class Serving:
    """Which versions are served. `promoted`: the one for requests that name none, None for the newest.

    `labels`: names of versions.
    """

    promoted: Optional[int] = None
    labels: Mapping[str, int] = field(default_factory=dict)
    canary: Optional[Canary] = None
    policy: VersionPolicy = VersionPolicy()

    def default(self, numbers: Iterable[int]) -> Optional[int]:
        """Return which of the versions that there are answers requests that name none; None for none of them."""
        known = set(numbers)
        if self.promoted is not None:
            return self.promoted if self.promoted in known else None
        return max(known, default=None)

    def loaded(self, numbers: Iterable[int]) -> Set[int]:
        """Return which of the versions that there are a replica loads: by the policy, and those that are named here.

        With the policy `latest` those that are newer than the promoted version do not count.
        """
        known = set(numbers)
        wanted = {*self.labels.values()}
        wanted |= {self.canary.version} if self.canary else set()
        wanted |= {self.promoted} if self.promoted is not None else set()
        if self.policy.kind is PolicyKind.ALL:
            wanted |= known
        elif self.policy.kind is PolicyKind.SPECIFIC:
            wanted |= set(self.policy.versions)
        else:
            up_to = [number for number in known if self.promoted is None or number <= self.promoted]
            wanted |= set(sorted(up_to, reverse=True)[: self.policy.count])
        return wanted & known


def path(base: str) -> str:
    """Return the path of serving.json of the model in the folder `base`."""
    return os.path.join(base, NAME)


def read(base: str) -> Serving:
    """Return what serving.json says, the defaults if there is none. Raises ModelError, OSError."""
    try:
        serving = _JSON.read(path(base), Serving)
    except FileNotFoundError:
        return Serving()
    canary, policy = serving.canary, serving.policy
    if canary and not 0 <= canary.percent <= 100:
        raise ModelError(f"canary.percent is {canary.percent}", "0 to 100", where=path(base))
    if policy.kind is PolicyKind.LATEST and policy.count < 1:
        raise ModelError(f"policy.count is {policy.count}", "1 or more", where=path(base))
    return serving


def served(base: str) -> Optional[Version]:
    """Return the version that answers requests which name none; None for none. Raises ModelError, OSError."""
    found = {version.number: version for version in model_versions.versions(base)}
    number = read(base).default(found)
    return None if number is None else found[number]


def write(base: str, serving: Serving) -> None:
    """Write serving.json, so that a replica reads the old file or the new one. Raises OSError."""
    _JSON.write(path(base), serving)
