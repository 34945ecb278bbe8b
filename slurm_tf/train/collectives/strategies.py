"""The tf.distribute strategy of each of our strategies, for the tasks that train."""

import contextlib
import os
import sys
import time
from typing import Any, Dict, NoReturn, Optional, Tuple

import tensorflow as tf

from slurm_tf.errors import CheckpointError, UsageError
from slurm_tf.run import checkpoint_folder
from slurm_tf.train.agent_connection import AgentConnection
from slurm_tf.train.collectives import allreduce
from slurm_tf.train.task_context import TaskContext

# A ring of n workers sends each pack in n pieces, which TensorFlow copies several times on their way: pieces of this
# size stay in the caches, and their memory is used again (docs/train.md, docs/benchmarks.md).
_PIECE_BYTES = 1 << 20
# NCCL copies nothing and wants few launches; not measured.
_NCCL_PACK_BYTES = 32 << 20
# What is larger than so many packs is cut.
_LARGEST_PACKS = 4


def make(place: TaskContext) -> tf.distribute.Strategy:
    """Return the strategy for a task that trains; collective: every such task of the job must call it."""
    if place.strategy == "single":
        return tf.distribute.get_strategy()
    if place.strategy == "mirrored":
        return tf.distribute.MirroredStrategy()
    if place.strategy == "horovod":
        _check_one_device(place)
        return tf.distribute.get_strategy()
    if place.strategy == "multi_worker":
        _check_one_device(place)
        kind, pack = _reduction(place)
        options = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=pack, implementation=kind)
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    if place.strategy == "ps":
        return tf.distribute.ParameterServerStrategy(tf.distribute.cluster_resolver.TFConfigClusterResolver())
    raise UsageError(
        f"found strategy {place.strategy}",
        "single, mirrored, multi_worker, horovod or ps",
        "a program of that strategy drives TensorFlow itself, without slurm_tf.train",
    )


def _reduction(place: TaskContext) -> Tuple[Any, int]:
    """Return how workers reduce, and the bytes of a pack; 0: all in one."""
    kinds = tf.distribute.experimental.CommunicationImplementation
    # TensorFlow's own AUTO takes the ring on GPUs as well (AssignCollectiveType, collective_param_resolver_local.cc)
    automatic = "nccl" if tf.config.list_physical_devices("GPU") else "ring"
    nccl = (automatic if place.collective == "auto" else place.collective) == "nccl"
    measured = _NCCL_PACK_BYTES if nccl else _PIECE_BYTES * place.size
    return kinds.NCCL if nccl else kinds.RING, measured if place.bytes_per_pack is None else place.bytes_per_pack


def _check_one_device(place: TaskContext) -> None:
    """Raise UsageError where there is more than one GPU."""
    gpus = len(tf.config.list_physical_devices("GPU"))
    if gpus > 1:
        found = f"{place.role}:{place.index} sees {gpus} GPUs"
        raise UsageError(found, "one task a GPU", "set gpus-per-task = 1 and a larger count")


def collective(place: TaskContext, strategy: tf.distribute.Strategy) -> allreduce.Collective:
    """Return what the task does together with others that train alike; collective."""
    if place.strategy == "multi_worker":
        kind, pack = _reduction(place)
        ring = kind == tf.distribute.experimental.CommunicationImplementation.RING
        return allreduce.Workers(strategy, place.rank, place.size, _LARGEST_PACKS * pack if ring else 0)
    if place.strategy == "horovod":
        from slurm_tf.train.collectives import horovod_ranks

        return horovod_ranks.HorovodRanks(place.rank, place.size)
    return allreduce.SingleTask()


def serve(place: TaskContext, control: Optional[AgentConnection]) -> NoReturn:
    """Be a worker or parameter server of strategy ps until the agent ends this process.

    Python stays out of Server.join(), where it could not answer the chief's requests to flush a checkpoint.
    """
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    server = tf.distribute.Server(
        resolver.cluster_spec(), job_name=place.role, task_index=place.index, protocol="grpc", start=True
    )
    if control is None:
        server.join()
    else:
        control.begin(False, _act)
        with contextlib.suppress(SystemExit):
            control.leave()
    # TensorFlow's threads would keep this process from ending
    sys.stdout.flush()
    os._exit(0)


def _act(message: Dict[str, Any]) -> Optional[str]:
    """Do what another task asked for; return what went wrong."""
    try:
        checkpoint_folder.flush_files(str(message["flush"]))
    except OSError as error:
        return str(error)
    return None


def flush_everywhere(folder: str, control: Optional[AgentConnection]) -> None:
    """Flush the files of `folder` on this node and on each parameter server's, which wrote its own part of them.

    Raises CheckpointError if one cannot, OSError if the agent is gone.
    """
    errors = control.ask("ps", {"flush": folder}) if control else {}
    checkpoint_folder.flush_files(folder)
    failed = [f"{task}: {error}" for task, error in errors.items() if error]
    if failed:
        raise CheckpointError(f"not every parameter server flushed its part of {folder} ({'; '.join(failed)})")


def prove_shared(folder: str, servers: int) -> None:
    """Show that the chief and each parameter server see one and the same `folder`, each reading what the other wrote.

    Done by TensorFlow's own operations in the servers' processes: those are what write checkpoints. Raises
    CheckpointError.
    """
    for index in range(servers):
        name = f"probe-{os.getpid()}-{time.time_ns()}-{index}"
        chiefs, servers_own = (os.path.join(folder, f"{name}-{who}{checkpoint_folder.TEMP}") for who in ("chief", "ps"))
        try:
            with open(chiefs, "w", encoding="ascii") as file:
                file.write(name)
            with tf.device(f"/job:ps/task:{index}/device:CPU:0"):
                seen = tf.io.read_file(chiefs)
                tf.io.write_file(servers_own, name)
            with open(servers_own, encoding="ascii") as file:
                shared = file.read() == name and seen.numpy() == name.encode()
        except (OSError, tf.errors.OpError) as error:
            raise _not_shared(folder, index, str(error)) from error
        if not shared:
            raise _not_shared(folder, index, "other contents")
        os.unlink(chiefs)
        os.unlink(servers_own)


def _not_shared(folder: str, index: int, why: str) -> CheckpointError:
    return CheckpointError(
        f"the chief and ps:{index} do not see the same folder {folder} ({why.splitlines()[0]})",
        "a folder on storage that all nodes share",
        "set `shared` in the site profile",
    )
