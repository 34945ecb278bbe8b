"""Makes the environment of an srun whose tasks start in a container (srun --container, pyxis)."""

from typing import Dict, FrozenSet, Mapping, Sequence

from slurm_tf.launch.mapping import allocation, container
from slurm_tf.run.container_settings import ContainerSettings

# Where the tasks start, in the container as outside; pyxis reads it.
_HERE = "PWD"


def environ_of_srun(
    environ: Mapping[str, str], containers: Sequence[ContainerSettings], of_images: FrozenSet[str]
) -> Dict[str, str]:
    """Return the batch script's environment without what is the host's, or the batch script's own as a task.

    `of_images`: variables that an image sets and srun would set over it. What `env-from-host` of a container names goes
    in all the same.
    """
    wanted = {name for each in containers for name in each.env_from_host}
    return {
        name: value
        for name, value in environ.items()
        if name not in allocation.OF_TASK
        and (name in wanted or name == _HERE or not (name in of_images or container.is_of_host_alone(name)))
    }
