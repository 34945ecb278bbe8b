"""Stages the files of a run on this node, as the coordinator asks an agent that waits for its assignment."""

import select
import time
from typing import TYPE_CHECKING, Mapping

from slurm_tf.errors import RunError, StageError
from slurm_tf.launch.log import say
from slurm_tf.launch.transport.connections import Client
from slurm_tf.launch.transport.message import Message
from slurm_tf.launch.transport.stage_messages import (
    Stage,
    Staged,
    StageFailed,
    StageProgress,
    StillStaging,
    Unstage,
)
from slurm_tf.run import env, stage_plan

if TYPE_CHECKING:
    from slurm_tf.launch.staging.node_copy import NodeCopy

# How often the coordinator is told how far the copy is.
_PROGRESS_SECONDS = 1.0
# How often the coordinator's messages are looked at.
_LOOK_SECONDS = 0.1
# How long a write to scratch may take that is under way when the copy is to end.
_STOP_SECONDS = 5.0


def stage(request: Stage, client: Client, environ: Mapping[str, str]) -> None:
    """Copy what the request names, and tell the coordinator how that went.

    Ends at once, without an answer, if the coordinator sends something else to do or is gone: `client.next` has it.
    """
    # most jobs stage nothing, and need none of these modules
    from slurm_tf.launch.staging.node_copy import NodeCopy
    from slurm_tf.launch.staging.stage_folder import StageFolder

    try:
        plan = stage_plan.read(request.plan)
    except (RunError, OSError) as error:
        client.send(StageFailed(str(error), "the run's folder, on storage that all nodes share", "", False))
        return
    copy = NodeCopy(plan, StageFolder(environ.get(env.SCRATCH, ""), request.run))
    copy.start()
    told_at = time.monotonic()
    while not copy.wait(_LOOK_SECONDS):
        if _has_other_message(client):
            copy.stop(_STOP_SECONDS)
            return
        if time.monotonic() - told_at >= _PROGRESS_SECONDS:
            told_at = time.monotonic()
            client.send(StageProgress(copy.copied, copy.wanted))
    client.send(_answer(copy))


def unstage(request: Unstage, environ: Mapping[str, str]) -> None:
    """Remove what was staged for a run; what cannot be removed is said."""
    from slurm_tf.launch.staging.stage_folder import StageFolder

    try:
        StageFolder(environ.get(env.SCRATCH, ""), request.run).remove()
    except (StageError, OSError) as error:
        say(f"what was staged stays on the node: {error}")


def _has_other_message(client: Client) -> bool:
    """Whether a message has come that ends the copy, or the end of the connection."""
    if not client.early and select.select([client.sock], [], [], 0)[0]:
        client.early = client.receive()
    client.early = [message for message in client.early if not isinstance(message, StillStaging)]
    return bool(client.early)


def _answer(copy: "NodeCopy") -> Message:
    failure = copy.failure
    if failure is None:
        return Staged(copy.folder, copy.copied, copy.kept)
    error = failure.error
    return StageFailed(error.found, error.needed, error.do, failure.is_of_scratch)
