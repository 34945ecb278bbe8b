"""Injects the faults that `slurm-tf interrupt` asks for (run/fault_request.py) into the attempt that runs."""

from enum import Enum
from typing import Callable, List, Mapping, Tuple

from slurm_tf.errors import RunError
from slurm_tf.launch.decide.termination import Termination
from slurm_tf.launch.job_context import JobContext, attempt_id
from slurm_tf.launch.nodes.exclusion import Exclusion
from slurm_tf.run import fault_request
from slurm_tf.run.attempts import EndCause
from slurm_tf.run.fault_request import Fault, FaultRequest

# How often the run's folder is looked into.
_LOOK_SECONDS = 1.0


class FaultAction(Enum):
    """What an agent is to do: kill its program, or vanish as if its node had failed."""

    KILL = "kill"
    VANISH = "vanish"


class FaultInjector:
    """The faults of one attempt. `has_failed_node`: whether a node counts as dead that is there."""

    def __init__(
        self, context: JobContext, termination: Termination, exclusion: Exclusion, say: Callable[[str], None]
    ) -> None:
        self.has_failed_node = False
        self.wakes_at = 0.0
        self._folder, self._attempt = context.folder, attempt_id(context.environ)
        self._termination, self._exclusion, self._say = termination, exclusion, say

    def due(self, now: float, nodes: Mapping[str, str]) -> List[Tuple[str, FaultAction]]:
        """Look for a request, if it is time; return (task, action). `nodes`: node of each task by name."""
        if now < self.wakes_at:
            return []
        self.wakes_at = now + _LOOK_SECONDS
        try:
            request = fault_request.take(self._folder)
        except (RunError, OSError) as error:
            self._say(f"the request of slurm-tf interrupt is ignored: {error}")
            return []
        return [] if request is None else self._inject(request, now, nodes)

    def _inject(self, request: FaultRequest, now: float, nodes: Mapping[str, str]) -> List[Tuple[str, FaultAction]]:
        fault, task = request.fault, request.task
        if request.attempt != self._attempt or task not in nodes:
            self._say(f"{fault.value} of {task} in attempt {request.attempt} is not injected: this is another attempt")
            return []
        if not fault.is_of_task:
            self._termination.inject(EndCause(fault.value), now)
            return []
        tasks, action = [task], FaultAction.KILL
        if fault is Fault.NODE_FAILURE:
            self.has_failed_node = True
            self._exclusion.is_bad(nodes[task], "its failure was injected")
            tasks, action = [each for each, node in nodes.items() if node == nodes[task]], FaultAction.VANISH
        self._say(f"injected: {fault.value} of {', '.join(tasks)}")
        return [(each, action) for each in tasks]
