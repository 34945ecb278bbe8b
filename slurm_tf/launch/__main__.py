"""launch.pyz coordinate | agent | local | mpi-probe | examine: parts of a job; launch | task-prolog | enter: others."""

import sys
from typing import Any, Callable, Optional, Sequence

_USAGE = (
    "usage: launch.pyz coordinate SUBMISSION_FOLDER -- LAUNCHER... | agent [--roles ROLES] | local ... "
    "| attach RUN_FOLDER TASK -- [COMMAND...] | mpi-probe RESULT "
    "| examine FOLDER LAUNCHER -- COMMAND... | examine-node [COPY] "
    "| launch --roles ROLES -- COMMAND... | task-prolog "
    "| enter SUBMISSION_FOLDER ROLE [--point N] [--mount FOLDER]... -- COMMAND..."
)
_Run = Callable[[Sequence[str]], Any]


def main() -> None:
    """Run the part that the first argument names."""
    part, arguments = (sys.argv[1] if len(sys.argv) > 1 else ""), sys.argv[2:]
    run = _of_job(part) or _other(part)
    if run is None:
        sys.exit(_USAGE)
    run(arguments)


def _of_job(part: str) -> Optional[_Run]:
    """Return what runs a part of a job, None for another part."""
    if part == "coordinate":
        from slurm_tf.launch.coordinator.startup import main as run
    elif part == "agent":
        from slurm_tf.launch.agent.agent import main as run
    elif part == "attach":
        from slurm_tf.launch.agent.attached_command import main as run
    elif part == "local":
        from slurm_tf.launch.direct.local_tasks import main as run
    elif part == "mpi-probe":
        from slurm_tf.launch.nodes.mpi_probe import main as run
    else:
        return None
    return run


def _other(part: str) -> Optional[_Run]:
    """Return what runs a part that needs no coordinator, None for another part."""
    if part == "examine":
        from slurm_tf.launch.examination.batch_host import main as run
    elif part == "examine-node":
        from slurm_tf.launch.examination.node_task import main as run
    elif part == "launch":
        from slurm_tf.launch.direct.direct_launch import main as run
    elif part == "task-prolog":
        from slurm_tf.launch.direct.direct_launch import task_prolog as run
    elif part == "enter":
        from slurm_tf.launch.direct.contained_program import main as run
    else:
        return None
    return run


if __name__ == "__main__":
    main()
