"""Runs a task of TensorFlow's tf.data service: the program of the roles data-dispatcher and data-worker.

    python -m slurm_tf.train.data.service

TensorFlow's servers authenticate nobody and listen on all interfaces (2.21: dispatcher and workers bind [::]:PORT).
"""

import contextlib
import json
import os
import sys
from typing import Any, Mapping

import tensorflow as tf

from slurm_tf.run import env
from slurm_tf.run.program_messages import Phase, PhaseEntered, TensorFlowVersion
from slurm_tf.run.settings import DATA_DISPATCHER
from slurm_tf.run.version import check_version
from slurm_tf.train.agent_connection import AgentConnection

_PROTOCOL = "grpc"


def main() -> None:
    """Serve until the agent ends this process. Raises RunError if another release of slurm-tf has started it."""
    check_version(os.environ[env.CONTRACT], "this job's launcher")
    # of a node whose GPUs are for the tasks that train
    tf.config.set_visible_devices([], "GPU")
    agent = AgentConnection(int(os.environ[env.CONTROL_FD]))
    server = _server(os.environ[env.TASK].partition(":")[0], os.environ[env.ADDRESS])
    agent.start(False, _is_there)
    agent.send(TensorFlowVersion(tf.__version__))
    # it makes no steps, and may have nothing to do for long
    agent.send(PhaseEntered(Phase.DONE))
    with contextlib.suppress(SystemExit):
        agent.wait_and_exit()
    # TensorFlow's threads would keep this process from ending
    sys.stdout.flush()
    os._exit(0 if server else 1)


def _server(role: str, address: str) -> Any:
    """Return the server of this task, which runs."""
    service, port = tf.data.experimental.service, int(address.rpartition(":")[2])
    if role == DATA_DISPATCHER:
        return service.DispatchServer(service.DispatcherConfig(port=port, protocol=_PROTOCOL))
    dispatcher = json.loads(os.environ[env.CLUSTER])[DATA_DISPATCHER][0]
    return service.WorkerServer(
        service.WorkerConfig(dispatcher_address=dispatcher, worker_address=address, port=port, protocol=_PROTOCOL)
    )


def _is_there(_content: Mapping[str, Any]) -> None:
    """Answer a task that trains, which asks at the end of a pass whether this one still runs."""


if __name__ == "__main__":
    main()
