"""What a checkpoint needs of the parameter servers of strategy ps, each of which writes a part of its files."""

import os
import time
from typing import Any, Mapping, Optional

import tensorflow as tf

from slurm_tf.errors import CheckpointError
from slurm_tf.run import checkpoint_folder
from slurm_tf.train.agent_connection import AgentConnection


def flush_everywhere(folder: str, agent: AgentConnection) -> None:
    """Flush the files of `folder` on this node and on the nodes of all parameter servers.

    fsync on one node does not flush what another node wrote. Raises CheckpointError if a server fails, OSError if this
    node fails or the agent is gone.
    """
    errors = agent.request("ps", {"flush": folder})
    checkpoint_folder.flush_files(folder)
    failed = [f"{task}: {error}" for task, error in errors.items() if error]
    if failed:
        raise CheckpointError(f"not every parameter server flushed its part of {folder} ({'; '.join(failed)})")


def handle_flush(content: Mapping[str, Any]) -> Optional[str]:
    """Flush the files of this node for a request of the chief's `flush_everywhere`; return the error, or None."""
    try:
        checkpoint_folder.flush_files(str(content["flush"]))
    except OSError as error:
        return str(error)
    return None


def check_shared(folder: str, servers: int) -> None:
    """Raise CheckpointError unless the chief and each of the parameter servers can read what the other writes.

    The servers' side is done by TensorFlow operations in their processes, as those write the checkpoints.
    """
    for index in range(servers):
        content = f"probe-{os.getpid()}-{time.time_ns()}-{index}"
        by_chief, by_server = (
            os.path.join(folder, f"{content}-{writer}{checkpoint_folder.TEMP}") for writer in ("chief", "ps")
        )
        try:
            with open(by_chief, "w", encoding="ascii") as file:
                file.write(content)
            with tf.device(f"/job:ps/task:{index}/device:CPU:0"):
                read_by_server = tf.io.read_file(by_chief)
                tf.io.write_file(by_server, content)
            with open(by_server, encoding="ascii") as file:
                shared = file.read() == content and read_by_server.numpy() == content.encode()
        except (OSError, tf.errors.OpError) as error:
            raise _not_shared(folder, index, str(error)) from error
        if not shared:
            raise _not_shared(folder, index, "other contents")
        os.unlink(by_chief)
        os.unlink(by_server)


def _not_shared(folder: str, index: int, reason: str) -> CheckpointError:
    return CheckpointError(
        f"the chief and ps:{index} do not see the same folder {folder} ({reason.splitlines()[0]})",
        "a folder on storage that all nodes share",
        "set `shared` in the site profile",
    )
