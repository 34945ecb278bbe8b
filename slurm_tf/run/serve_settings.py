"""What [serve] of a job file says to its replicas: one variable, as JSON. Standard library, Python 3.9."""

from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from slurm_tf.errors import AllocationError
from slurm_tf.run import env, json_file


@dataclass(frozen=True)
class ServeSettings:
    """How the replicas of a service serve.

    `models`: the folder of each model by its name. `folder`: of the service, the run that all its jobs have in common.
    `processes`: replica processes of each task, 0 where its CPUs and GPUs decide. `overlap`: seconds before the job's
    time limit at which the next job may start. `is_open`: no token is asked for. `certificate`, `key`: files in PEM, ""
    where each replica makes its own. `max_batch_size`: rows of several requests that are computed together at most, 1
    without batching; `batch_timeout_micros`: how long a request waits for others. `ports`: of the site, where a
    replica's are to be, None for any.
    """

    models: Mapping[str, str]
    folder: str
    processes: int = 0
    overlap: float = 600.0
    is_open: bool = False
    certificate: str = ""
    key: str = ""
    max_batch_size: int = 256
    batch_timeout_micros: int = 0
    ports: Optional[Tuple[int, int]] = None


def from_environ(environ: Mapping[str, str]) -> ServeSettings:
    """Return the settings that the agent left in a replica's environment. Raises AllocationError, RunError."""
    text = environ.get(env.SERVE)
    if text is None:
        raise AllocationError("this is no task of a service", "a job with strategy serve", "slurm-tf serve MODEL")
    return json_file.parse(text, ServeSettings, env.SERVE)


def to_variable(settings: ServeSettings) -> str:
    """Return the value of the variable."""
    return json_file.dumps(settings)
