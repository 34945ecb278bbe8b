"""Creates the tf.distribute strategy and the collective of a task, and runs the servers of strategy ps."""

import contextlib
import os
import sys
from typing import Any, Callable, Mapping, NoReturn, Optional, Tuple

import tensorflow as tf

from slurm_tf.errors import UsageError
from slurm_tf.run.program_messages import TensorFlowVersion
from slurm_tf.train.agent_connection import AgentConnection
from slurm_tf.train.collectives import allreduce
from slurm_tf.train.task_context import TaskContext

# A ring of n workers sends each pack in n pieces, and TensorFlow copies a piece several times on its way. Pieces of
# this size stay in the caches, and their memory is reused (docs/train.md, docs/benchmarks.md).
_RING_PIECE_BYTES = 1 << 20
# NCCL copies nothing and prefers few kernel launches; not measured.
_NCCL_PACK_BYTES = 32 << 20
# A tensor that is larger than this number of packs is split.
_MAX_PACKS = 4


def create_strategy(task: TaskContext) -> tf.distribute.Strategy:
    """Return the strategy of a task that trains. Collective: every such task of the job must call it."""
    if task.strategy == "single":
        return tf.distribute.get_strategy()
    if task.strategy == "mirrored":
        return tf.distribute.MirroredStrategy()
    if task.strategy == "horovod":
        _check_one_device(task)
        return tf.distribute.get_strategy()
    if task.strategy == "multi_worker":
        _check_one_device(task)
        implementation, pack = _reduction(task)
        options = tf.distribute.experimental.CommunicationOptions(bytes_per_pack=pack, implementation=implementation)
        return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)
    if task.strategy == "ps":
        return tf.distribute.ParameterServerStrategy(tf.distribute.cluster_resolver.TFConfigClusterResolver())
    raise UsageError(
        f"found strategy {task.strategy}",
        "single, mirrored, multi_worker, horovod or ps",
        "a program of that strategy drives TensorFlow itself, without slurm_tf.train",
    )


def _reduction(task: TaskContext) -> Tuple[Any, int]:
    """Return the implementation that workers reduce with, and the bytes of a pack; 0: all tensors in one pack."""
    implementations = tf.distribute.experimental.CommunicationImplementation
    # TensorFlow's own AUTO takes the ring on GPUs as well (AssignCollectiveType, collective_param_resolver_local.cc)
    automatic = "nccl" if tf.config.list_physical_devices("GPU") else "ring"
    nccl = (automatic if task.settings.collective == "auto" else task.settings.collective) == "nccl"
    default_pack = _NCCL_PACK_BYTES if nccl else _RING_PIECE_BYTES * task.size
    pack = default_pack if task.settings.bytes_per_pack is None else task.settings.bytes_per_pack
    return implementations.NCCL if nccl else implementations.RING, pack


def _check_one_device(task: TaskContext) -> None:
    """Raise UsageError if the task sees more than one GPU."""
    gpus = len(tf.config.list_physical_devices("GPU"))
    if gpus > 1:
        found = f"{task.role}:{task.index} sees {gpus} GPUs"
        raise UsageError(found, "one task a GPU", "set gpus-per-task = 1 and a larger count")


def create_collective(task: TaskContext, strategy: tf.distribute.Strategy) -> allreduce.Collective:
    """Return the collective of a task that trains. Collective itself."""
    if task.strategy == "multi_worker":
        implementation, pack = _reduction(task)
        ring = implementation == tf.distribute.experimental.CommunicationImplementation.RING
        return allreduce.MultiWorkerCollective(strategy, task.rank, task.size, _MAX_PACKS * pack if ring else 0)
    if task.strategy == "horovod":
        from slurm_tf.train.collectives import horovod_ranks

        return horovod_ranks.HorovodCollective(task.rank, task.size)
    return allreduce.SingleTaskCollective()


def run_server(
    task: TaskContext, agent: Optional[AgentConnection], on_request: Callable[[Mapping[str, Any]], Optional[str]]
) -> NoReturn:
    """Run the server of a worker or parameter server of strategy ps until the agent ends this process.

    `on_request`: see `AgentConnection.start`. The main thread stays out of Server.join(), which would keep Python from
    handling requests.
    """
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    server = tf.distribute.Server(
        resolver.cluster_spec(), job_name=task.role, task_index=task.index, protocol="grpc", start=True
    )
    if agent is None:
        server.join()
    else:
        agent.start(False, on_request)
        agent.send(TensorFlowVersion(tf.__version__))
        with contextlib.suppress(SystemExit):
            agent.wait_and_exit()
    # TensorFlow's threads would keep this process from ending
    sys.stdout.flush()
    os._exit(0)
