"""Finds bad nodes, and excludes them from a run's next attempt.

| a node is bad if                                               | found by                         |
|----------------------------------------------------------------|----------------------------------|
| it does not answer, after an agent's connection ended          | this module                      |
| Slurm starts nothing on it at the attempt's end: down, drained | sinfo (slurm/in_job.py)          |
| tasks hung there twice, while all others went on               | launch/decide/hangs.py           |
| a task was slow there in its last steps, and nowhere else      | launch/decide/stragglers.py      |
| a preflight found it unfit                                     | launch/nodes/preflight.py        |

Bad nodes are kept in the run's folder (run/bad_nodes.py). Once the job is requeued and pending, they are added to its
ExcNodeList, beside the nodes that its user excludes; slurmctld (22.05.8) accepts that from `scontrol requeue` on, not
before. A job that follows gets them by --exclude. Slurm is asked first whether the job can start without them:
otherwise it would accept the list and never start the job.

A thread does this: a dead node takes seconds not to answer, and the coordinator must act on signals meanwhile.
"""

import threading
import time
from typing import Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from slurm_tf.errors import RunError
from slurm_tf.launch.job_context import JobContext, attempt_id
from slurm_tf.launch.mapping.allocation import expected_nodes
from slurm_tf.launch.transport import ports
from slurm_tf.run import bad_nodes, lease
from slurm_tf.slurm import in_job

# If more nodes than this do not answer at once, the cause is not in the nodes, and none is excluded.
_MAX_LOST = 16
# At most one node, or one in this many, is excluded as slow: if more are, they are of another kind, or have other data.
_NODES_PER_SLOW = 8
_CONNECT_SECONDS = 3.0
# How long, and how often, Slurm is asked about a lost node: SlurmdTimeout is 300 s by default, and only where it is
# shorter than TCP's timeout does Slurm notice first.
_REPEAT_SECONDS = 60.0
_PAUSE_SECONDS = 2.0
# How long an answer of sinfo is used.
_FRESH_SECONDS = 30.0


class Exclusion:
    """Finds the bad nodes of one attempt. `nodes`: all nodes that the next attempt is to exclude, as far as known.

    Does nothing outside of a Slurm job.
    """

    def __init__(self, context: JobContext, say: Callable[[str], None]) -> None:
        self.nodes: List[str] = []
        self._context, self._say = context, say
        self._hosts: Dict[str, str] = {}
        self._found: Dict[str, str] = {}
        self._slow: Dict[str, Tuple[str, str]] = {}
        self._handled_count, self._looked_at = -1, 0.0
        self._new: List[str] = []
        self._thread: Optional[threading.Thread] = None
        self._is_ending = threading.Event()

    def lost(self, node: str, host: str) -> None:
        """Record that the connection of an agent on `node` ended; `host`: its address."""
        if node not in self._hosts:
            self._hosts[node] = host
            self.begin(repeats=True)

    def is_bad(self, node: str, reason: str) -> None:
        """Record that `node` is bad."""
        self._found.setdefault(node, reason)

    def hung(self, name: str, node: str) -> None:
        """Record that task `name` hung on `node` while all others went on."""
        if not self._context.job:
            return
        try:
            if bad_nodes.hung(self._context.folder, node):
                self.is_bad(node, f"tasks hung there twice, the last time {name}")
        except (RunError, OSError) as error:
            self._say(f"cannot record that {name} hung on {node}: {error}")

    def slow(self, tasks: Mapping[str, Tuple[str, str]]) -> None:
        """Record the tasks that are slow now: of each its node, and a description of how slow it is."""
        self._slow = dict(tasks)

    def begin(self, repeats: bool = False, goes_on: bool = True) -> None:
        """Begin to look for bad nodes, in a thread.

        `repeats`: look again for a minute, and update the job at once, since Slurm may requeue it by itself and end
        this process soon after. `goes_on`: whether the run may go on.
        """
        is_fresh = self._handled_count == self._event_count and time.monotonic() - self._looked_at < _FRESH_SECONDS
        if not self._context.job or self._context.is_cancelled or is_fresh:
            return
        if not (self._thread and self._thread.is_alive()):
            self._thread = threading.Thread(target=self._work, args=(repeats, goes_on), daemon=True)
            self._thread.start()

    def finish(self, seconds: float, goes_on: bool = True) -> None:
        """Wait, at most `seconds`, until every node that was recorded by now has been looked at."""
        until = time.monotonic() + seconds
        self._is_ending.set()
        for _ in range(2):
            if self._thread:
                self._thread.join(max(0.0, until - time.monotonic()))
            self.begin(goes_on=goes_on)
        if self._thread:
            self._thread.join(max(0.0, until - time.monotonic()))

    def apply(self) -> str:
        """Exclude the nodes from the requeued job; return a description of that to append, "" if there are none."""
        if not self._new:
            return ""
        answer = self._ask(in_job.exclusion_command(self._context.job, self.nodes))
        names = ", ".join(self._new)
        return f", without {names}" if answer.code == 0 else f" (not without {names}, as it should: {answer.failure})"

    @property
    def _event_count(self) -> int:
        return len(self._hosts) + len(self._found) + len(self._slow)

    def _work(self, repeats: bool, goes_on: bool) -> None:
        until = time.monotonic() + _REPEAT_SECONDS
        self._handled_count = -1
        while True:
            is_last = not repeats or self._is_ending.is_set() or time.monotonic() >= until
            # a node that loses its power may still answer a moment after its connections have ended
            gone = self._gone()
            if self._handled_count != self._event_count or gone:
                self._handled_count, self._looked_at = self._event_count, time.monotonic()
                self._look(gone, goes_on)
            if repeats and self._new:
                self._try_update()
            is_open = self._new or any(node not in self._found for node in list(self._hosts))
            if is_last or self._context.is_cancelled or not is_open:
                return
            self._is_ending.wait(_PAUSE_SECONDS)

    def _try_update(self) -> None:
        """Exclude the nodes from the job now; Slurm refuses that until it has requeued the job."""
        if self._ask(in_job.exclusion_command(self._context.job, self.nodes)).code == 0:
            self._say(f"job {self._context.job} waits, and is to start without {', '.join(self._new)}")
            self._new = []

    def _gone(self) -> List[str]:
        """Return the nodes whose agents are lost, that do not answer, and that were not found bad before."""
        hosts = dict(self._hosts)
        if len(hosts) > _MAX_LOST:
            return []
        return [
            node for node, host in hosts.items()
            if node not in self._found and not ports.is_there(host, _CONNECT_SECONDS)
        ]  # fmt: skip

    def _look(self, gone: Sequence[str], goes_on: bool) -> None:
        """Find and record the bad nodes, and choose those to exclude."""
        context = self._context
        unfit = self._unfit()
        for node in gone:
            self.is_bad(node, unfit.get(node, "its task was lost, and it does not answer"))
        if lease.is_taken_over(context.folder, attempt_id(context.environ)):
            return
        self._find_slow_nodes()
        found = {**unfit, **self._found}
        self._handled_count = self._event_count
        try:
            known = bad_nodes.known(context.run)
            new = {node: why for node, why in found.items() if node not in known}
            if new:
                bad_nodes.remember(context.folder, new)
        except (RunError, OSError) as error:
            self._say(f"cannot record bad nodes: {error}")
            known, new = {}, found
        for node, why in new.items():
            self._say(f"{node} is a bad node: {why}")
        if goes_on and (known or found):
            self._choose(list({**known, **found}), list(found))

    def _find_slow_nodes(self) -> None:
        """Record as bad the nodes of slow tasks: not if they are many, nor for a task that was slow on other nodes."""
        slow, self._slow = self._slow, {}
        nodes = len(expected_nodes(self._context.environ))
        if len({node for node, _ in slow.values()}) > max(1, nodes // _NODES_PER_SLOW):
            return
        for task, (node, how) in slow.items():
            reason = f"{task} {how}"
            try:
                known = bad_nodes.slow(self._context.folder, task, node, reason)
            except (RunError, OSError) as error:
                self._say(f"cannot record that {task} is slow on {node}: {error}")
                continue
            if len(known) == 1:
                self.is_bad(node, reason)
            else:
                self._say(f"{task} is slow on {', '.join(known)}: by itself, and none of them is a bad node for that")

    def _unfit(self) -> Dict[str, str]:
        nodes = list(expected_nodes(self._context.environ))
        return in_job.unfit(self._ask(in_job.nodes_command(nodes))) if nodes else {}

    def _choose(self, bad: Sequence[str], found: Sequence[str]) -> None:
        """Choose nodes to exclude: all `bad` ones, else those that this attempt `found`, else none in addition."""
        excluded = in_job.excluded(self._ask(in_job.excluded_command(self._context.job)))
        if excluded is None:
            self._say(f"{', '.join(bad)} may be used again: squeue does not say which nodes the job excludes already")
            return
        self.nodes, self._new = excluded, []
        failure = ""
        for candidates in dict.fromkeys((tuple(bad), tuple(found))):
            new = [node for node in candidates if node not in excluded]
            if not new:
                continue
            answer = self._try([*excluded, *new])
            if answer.code == 0:
                self.nodes, self._new = [*excluded, *new], new
                return
            failure = answer.failure
        if failure:
            left = ", ".join(node for node in bad if node not in excluded)
            self._say(f"{left} may be used again: without it the job could not start ({failure})")

    def _try(self, nodes: Sequence[str]) -> in_job.Answer:
        """Ask whether the job could start some day without `nodes`."""
        context = self._context
        command = in_job.successor_command(
            context.submission.script, "/dev/null", context.environ, context.point, nodes
        )
        return self._ask(in_job.trial_command(command))

    def _ask(self, command: Sequence[str]) -> in_job.Answer:
        return in_job.ask(command, self._context.environ)
