"""The nodes that a run's next attempt leaves out.

| a node is bad if                                               | as is seen by                    |
|----------------------------------------------------------------|----------------------------------|
| it does not answer, after an agent's connection ended          | this                             |
| Slurm starts nothing on it at the attempt's end: down, drained | sinfo (slurm/in_job.py)          |
| tasks hung there twice, while all others went on               | launch/decide/hangs.py           |
| a task was slow there in its last steps, and nowhere else      | launch/decide/stragglers.py      |
| it was no good in a preflight                                  | launch/nodes/preflight.py        |

They are remembered in the run's folder (run/bad_nodes.py). The job itself gets them into its ExcNodeList once it
waits again, beside what its user excludes; slurmctld (22.05.8) takes that from `scontrol requeue` on, not before. A job
that follows gets them by --exclude. Slurm is asked first whether the job can start without them: it would say nothing
later, and hold the job.

All of it is done by a thread: a dead node does not answer for seconds, and at a signal there are others to see to.
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

# Of more nodes than these it is not their own doing that they are gone.
_MOST_LOST = 16
# Nor that more than one of so many is slow, if it is not the only one: they are of another kind, or have other data.
_MOST_SLOW = 8
_THERE_SECONDS = 3.0
# How long Slurm may take to see that a node is gone, and how often it is asked: SlurmdTimeout is 300 s by default, but
# only where it is shorter than what TCP takes does Slurm come first.
_INSIST_SECONDS = 60.0
_PAUSE_SECONDS = 2.0
# What sinfo said is true for so long.
_FRESH_SECONDS = 30.0


class Exclusion:
    """The nodes that one attempt found bad. `nodes`: all that the next one is to leave out, as far as is known by now.

    Nothing is looked at without Slurm.
    """

    def __init__(self, context: JobContext, say: Callable[[str], None]) -> None:
        self.nodes: List[str] = []
        self._context, self._say = context, say
        self._hosts: Dict[str, str] = {}
        self._found: Dict[str, str] = {}
        self._slow: Dict[str, Tuple[str, str]] = {}
        self._looked_at, self._looked = -1, 0.0
        self._new: List[str] = []
        self._thread: Optional[threading.Thread] = None
        self._is_ending = threading.Event()

    def lost(self, node: str, host: str) -> None:
        """Record that an agent on `node` is gone; `host`: its address."""
        if node not in self._hosts:
            self._hosts[node] = host
            self.begin(insists=True)

    def is_bad(self, node: str, reason: str) -> None:
        """Record that `node` is bad."""
        self._found.setdefault(node, reason)

    def hung(self, name: str, node: str) -> None:
        """Record that task `name` hung on `node`, and it alone."""
        if not self._context.job:
            return
        try:
            if bad_nodes.hung(self._context.folder, node):
                self.is_bad(node, f"tasks hung there twice, the last time {name}")
        except (RunError, OSError) as error:
            self._say(f"that {name} hung on {node} is not remembered: {error}")

    def slow(self, tasks: Mapping[str, Tuple[str, str]]) -> None:
        """Record which tasks are slow by now: the node of each, and how slow it is, in words."""
        self._slow = dict(tasks)

    def begin(self, insists: bool = False, goes_on: bool = True) -> None:
        """Begin to look at the nodes.

        `insists`: Slurm may put the job back by itself, and end us soon after. `goes_on`: whether the run may.
        """
        is_fresh = self._looked_at == self._news and time.monotonic() - self._looked < _FRESH_SECONDS
        if not self._context.job or self._context.is_cancelled or is_fresh:
            return
        if not (self._thread and self._thread.is_alive()):
            self._thread = threading.Thread(target=self._work, args=(insists, goes_on), daemon=True)
            self._thread.start()

    def finish(self, seconds: float, goes_on: bool = True) -> None:
        """Wait until all has been looked at that is known by now, so long at most."""
        until = time.monotonic() + seconds
        self._is_ending.set()
        for _ in range(2):
            if self._thread:
                self._thread.join(max(0.0, until - time.monotonic()))
            self.begin(goes_on=goes_on)
        if self._thread:
            self._thread.join(max(0.0, until - time.monotonic()))

    def apply(self) -> str:
        """Have the job, which waits to be started again, leave the nodes out; return that in words, "" for none."""
        if not self._new:
            return ""
        answer = self._ask(in_job.exclusion_command(self._context.job, self.nodes))
        names = ", ".join(self._new)
        return f", without {names}" if answer.code == 0 else f" (not without {names}, as it should: {answer.failure})"

    @property
    def _news(self) -> int:
        return len(self._hosts) + len(self._found) + len(self._slow)

    def _work(self, insists: bool, goes_on: bool) -> None:
        until = time.monotonic() + _INSIST_SECONDS
        self._looked_at = -1
        while True:
            is_last = not insists or self._is_ending.is_set() or time.monotonic() >= until
            # a node that loses its power may still answer a moment after its connections have ended
            gone = self._gone()
            if self._looked_at != self._news or gone:
                self._looked_at, self._looked = self._news, time.monotonic()
                self._look(gone, goes_on)
            if insists and self._new:
                self._offer()
            is_open = self._new or any(node not in self._found for node in list(self._hosts))
            if is_last or self._context.is_cancelled or not is_open:
                return
            self._is_ending.wait(_PAUSE_SECONDS)

    def _offer(self) -> None:
        """Have the job leave the nodes out now: refused until it waits, as Slurm itself may have put it back."""
        if self._ask(in_job.exclusion_command(self._context.job, self.nodes)).code == 0:
            self._say(f"job {self._context.job} waits, and is to start without {', '.join(self._new)}")
            self._new = []

    def _gone(self) -> List[str]:
        """Return the nodes that do not answer, of those whose agents are lost; none that was found before."""
        hosts = dict(self._hosts)
        if len(hosts) > _MOST_LOST:
            return []
        return [
            node for node, host in hosts.items()
            if node not in self._found and not ports.is_there(host, _THERE_SECONDS)
        ]  # fmt: skip

    def _look(self, gone: Sequence[str], goes_on: bool) -> None:
        """See which nodes are bad, remember them, and settle which are to be left out."""
        context = self._context
        unfit = self._unfit()
        for node in gone:
            self.is_bad(node, unfit.get(node, "its task was lost, and it does not answer"))
        if lease.is_taken_over(context.folder, attempt_id(context.environ)):
            return
        self._blame_the_slow()
        found = {**unfit, **self._found}
        self._looked_at = self._news
        try:
            known = bad_nodes.known(context.run)
            new = {node: why for node, why in found.items() if node not in known}
            if new:
                bad_nodes.remember(context.folder, new)
        except (RunError, OSError) as error:
            self._say(f"bad nodes are not remembered: {error}")
            known, new = {}, found
        for node, why in new.items():
            self._say(f"{node} is a bad node: {why}")
        if goes_on and (known or found):
            self._choose(list({**known, **found}), list(found))

    def _blame_the_slow(self) -> None:
        """See which nodes make their tasks slow: few, and a task that is slow on several is so by itself."""
        slow, self._slow = self._slow, {}
        nodes = len(expected_nodes(self._context.environ))
        if len({node for node, _ in slow.values()}) > max(1, nodes // _MOST_SLOW):
            return
        for task, (node, how) in slow.items():
            reason = f"{task} {how}"
            try:
                known = bad_nodes.slow(self._context.folder, task, node, reason)
            except (RunError, OSError) as error:
                self._say(f"that {task} is slow on {node} is not remembered: {error}")
                continue
            if len(known) == 1:
                self.is_bad(node, reason)
            else:
                self._say(f"{task} is slow on {', '.join(known)}: by itself, and none of them is a bad node for that")

    def _unfit(self) -> Dict[str, str]:
        nodes = list(expected_nodes(self._context.environ))
        return in_job.unfit(self._ask(in_job.nodes_command(nodes))) if nodes else {}

    def _choose(self, bad: Sequence[str], found: Sequence[str]) -> None:
        """Settle what is left out: all that is `bad`, or else what this attempt `found`, or nothing more."""
        excluded = in_job.excluded(self._ask(in_job.excluded_command(self._context.job)))
        if excluded is None:
            self._say(f"{', '.join(bad)} may be used again: squeue does not say what the job leaves out already")
            return
        self.nodes, self._new = excluded, []
        words = ""
        for some in dict.fromkeys((tuple(bad), tuple(found))):
            new = [node for node in some if node not in excluded]
            if not new:
                continue
            answer = self._try([*excluded, *new])
            if answer.code == 0:
                self.nodes, self._new = [*excluded, *new], new
                return
            words = answer.failure
        if words:
            left = ", ".join(node for node in bad if node not in excluded)
            self._say(f"{left} may be used again: without it the job could not start ({words})")

    def _try(self, nodes: Sequence[str]) -> in_job.Answer:
        """Ask whether the job could start some day without `nodes`."""
        context = self._context
        command = in_job.successor_command(
            context.submission.script, "/dev/null", context.environ, context.point, nodes
        )
        return self._ask(in_job.trial_command(command))

    def _ask(self, command: Sequence[str]) -> in_job.Answer:
        return in_job.ask(command, self._context.environ)
