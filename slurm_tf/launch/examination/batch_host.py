"""Leads an examination from the batch host: starts a task on each node, asks them all, and writes the report."""

import contextlib
import os
import queue
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from typing import IO, Dict, Iterable, Iterator, List, Mapping, NoReturn, Optional, Sequence, Set, Tuple, Type, TypeVar

from slurm_tf.errors import HostlistError, RunError, SlurmTfError
from slurm_tf.launch.examination import lines
from slurm_tf.launch.nodes import probe
from slurm_tf.launch.transport import ports
from slurm_tf.run import examination, json_file, message_codec
from slurm_tf.run.examination import (
    Begin,
    Clock,
    ExaminationReport,
    ExaminationSettings,
    Finish,
    Finished,
    Meet,
    Met,
    NodeFacts,
    Ping,
    Pong,
    TellTime,
    Time,
)
from slurm_tf.slurm import hostlist, in_job

# All of it takes less than a minute.
_READY_SECONDS, _MEET_SECONDS, _TIME_SECONDS, _ALL_SECONDS = 30.0, 18.0, 2.0, 52.0
_PAUSE_SECONDS = 0.05
_TIMES = 3
_END_SECONDS = 3.0
# srun tells a task's lines from its own by their label.
_SRUN_ITSELF = -1
_FAILED = re.compile(r"srun: error: \S+: tasks? (\d+(?:-\d+)?(?:,\d+(?:-\d+)?)*): ")
# Of a line that a task printed, this much is told.
_LONGEST = 300

_Answer = TypeVar("_Answer", NodeFacts, Met, Time, Finished)


def main(arguments: Sequence[str]) -> NoReturn:
    """Run the examination. `arguments`: its folder, launch.pyz, "--", and the Python that runs it, with options."""
    # the warning before the job's time limit: the report comes sooner
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    folder, launcher, _, *command = arguments
    try:
        settings = json_file.read(os.path.join(folder, examination.SETTINGS), ExaminationSettings)
        with _answering(folder, settings.token):
            report = _Examination(folder, launcher, command, settings, os.environ).run()
            json_file.write(os.path.join(folder, examination.REPORT), report)
    except (RunError, OSError) as error:
        sys.exit(f"slurm-tf: cannot examine the nodes: {error}")
    sys.exit(0)


@contextlib.contextmanager
def _answering(folder: str, token: str) -> Iterator[None]:
    """Answer the login node's question what time it is, in the meantime."""
    over = threading.Event()
    thread = threading.Thread(target=_answer_ping, args=(folder, token, over), daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_END_SECONDS)


def _answer_ping(folder: str, token: str, over: threading.Event) -> None:
    path, answered = os.path.join(folder, examination.PING), -1
    while not over.wait(_PAUSE_SECONDS):
        with contextlib.suppress(OSError, RunError):
            ping = json_file.read(path, Ping)
            if ping.token == token and ping.number != answered:
                seen, answered = time.time(), ping.number
                json_file.write(os.path.join(folder, examination.PONG), Pong(answered, seen, time.time()))


class _Examination:
    """One examination, from the start of the step to the report."""

    def __init__(
        self, folder: str, launcher: str, command: List[str], settings: ExaminationSettings, environ: Mapping[str, str]
    ) -> None:
        self._folder, self._settings, self._environ = folder, settings, environ
        self._secret = secrets.token_hex(16)
        self._until = time.monotonic() + _ALL_SECONDS
        self._launcher, self._command = launcher, command
        self._nodes = _nodes(environ)

    def run(self) -> ExaminationReport:
        """Return the report."""
        prober, problem = self._listen()
        scontrol = self._ask_scontrol()
        with _Step(self._step_command(), self._environ) as step:
            step.say(Begin(self._settings, self._folder, self._secret))
            ready = step.collect(NodeFacts, self._by(_READY_SECONDS), range(len(self._nodes)))
            clocks = self._clocks(step, ready)
            self._meet(step, ready, prober)
            met = step.collect(Met, self._by(_MEET_SECONDS), ready)
            step.say(Finish())
            finished = step.collect(Finished, self._until, ready)
            return ExaminationReport(
                batch_host=self._nodes[0] if self._nodes else os.uname().nodename,
                nodes=tuple(ready.values()),
                met=tuple(met.values()),
                finished=tuple(finished.values()),
                missing={node: step.last_words(rank) for rank, node in enumerate(self._nodes) if rank not in ready},
                clocks=clocks,
                scontrol=_failure(scontrol.wait()),
                batch_problem=problem,
            )

    def _by(self, seconds: float) -> float:
        return min(self._until, time.monotonic() + seconds)

    def _listen(self) -> Tuple[Optional[probe.Prober], str]:
        """Listen where a coordinator would; return why that cannot be done."""
        try:
            return probe.Prober(self._secret.encode(), self._settings.coordinator_ports), ""
        except SlurmTfError as error:
            return None, error.found

    def _meet(self, step: "_Step", ready: Mapping[int, NodeFacts], prober: Optional[probe.Prober]) -> None:
        settings = self._settings
        batch: Sequence[str] = ()
        with contextlib.suppress(SlurmTfError):  # the task on this node says so
            batch = ports.own_addresses(settings.interface, settings.host_suffix)
        nodes = {each.node: (each.address, each.port) for each in ready.values()}
        step.say(Meet(nodes, tuple(batch) if prober else (), prober.port if prober else 0))

    def _clocks(self, step: "_Step", ranks: Iterable[int]) -> Dict[str, Clock]:
        """Return how far each node's clock is ahead of this one, by the quickest of some answers."""
        best: Dict[str, Clock] = {}
        for number in range(_TIMES):
            asked, wall = time.monotonic(), time.time()
            step.say(TellTime(number))
            for _, each, at in step.answers(Time, self._by(_TIME_SECONDS), ranks):
                clock = between(each.time, wall, wall + at - asked)
                known = best.get(each.node)
                if each.number == number and (known is None or clock.uncertainty < known.uncertainty):
                    best[each.node] = clock
        return best

    def _ask_scontrol(self) -> in_job.Question:
        """Ask scontrol for this job, here where the coordinator requeues jobs with it."""
        return in_job.Question(["scontrol", "--oneliner", "show", "job", in_job.own_id(self._environ)], self._environ)

    def _step_command(self) -> List[str]:
        """Return srun's command line, with each option for which a shell or a site may have set a variable."""
        program = self._copied()
        cpus = self._environ.get("SLURM_CPUS_PER_TASK")
        return [
            "srun", "--label", "--export=ALL", "--mpi=none", "--wait=0", "--kill-on-bad-exit=0", "--input=all",
            f"--nodes={len(self._nodes)}", f"--ntasks={len(self._nodes)}", "--ntasks-per-node=1",
            *([f"--cpus-per-task={cpus}"] if cpus else []),
            *self._command, *program,
        ]  # fmt: skip

    def _copied(self) -> List[str]:
        """Copy launch.pyz to each node through Slurm: a node that lacks the shared folder is to say so itself."""
        copy = f"/tmp/slurm-tf-{self._environ.get('SLURM_JOB_ID', '')}-{secrets.token_hex(4)}.pyz"  # noqa: S108
        answer = in_job.ask(["sbcast", self._launcher, copy], self._environ)
        if answer.code == 0:
            return [copy, "examine-node", copy]
        sys.stderr.write(f"slurm-tf: the nodes start {self._launcher}, as sbcast says: {answer.failure}\n")
        return [self._launcher, "examine-node"]


def _failure(answer: in_job.Answer) -> str:
    """Return why a command of Slurm failed, "" if it did not."""
    return "" if answer.code == 0 else answer.failure


def between(there: float, asked: float, answered: float) -> Clock:
    """Return how far a clock is ahead that showed `there` at some time from `asked` to `answered` of ours."""
    return Clock(there - (asked + answered) / 2, (answered - asked) / 2)


def _nodes(environ: Mapping[str, str]) -> List[str]:
    """Return the nodes of the job, in the order of the tasks: one on each."""
    try:
        return list(hostlist.expand(environ.get("SLURM_JOB_NODELIST", "")))
    except HostlistError:
        return []


def _ended(line: str) -> Set[int]:
    """Return the ranks of tasks that have failed, as srun says: "srun: error: node2: tasks 1,3-4: Exited with ..."."""
    match = _FAILED.match(line)
    found: Set[int] = set()
    for part in match[1].split(",") if match else ():
        first, _, last = part.partition("-")
        found.update(range(int(first), int(last or first) + 1))
    return found


class _Step:
    """The tasks on all nodes, through srun: what is said to all of them, and what each says."""

    def __init__(self, argv: List[str], environ: Mapping[str, str]) -> None:
        # when it came, the rank of the task, the line; None at the end of a stream
        self._lines: queue.Queue[Optional[Tuple[float, int, str]]] = queue.Queue()
        self._joiners: Dict[int, lines.Joiner] = {}
        self._last: Dict[int, str] = {}
        self._gone: Set[int] = set()
        self._open = 2
        self._process = subprocess.Popen(
            argv, env=dict(environ), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for pipe in (self._process.stdout, self._process.stderr):
            threading.Thread(target=self._read, args=(pipe,), daemon=True).start()

    def __enter__(self) -> "_Step":
        return self

    def __exit__(self, *_: object) -> None:
        """End the step: a task ends when its input does."""
        if self._process.stdin:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        for end in (self._process.terminate, self._process.kill):
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_END_SECONDS)
                return
            end()

    def say(self, message: object) -> None:
        """Say something to all tasks."""
        if self._process.stdin:
            with contextlib.suppress(OSError):  # srun has ended: no answer will come
                self._process.stdin.write(message_codec.encode(message).encode() + b"\n")
                self._process.stdin.flush()

    def collect(self, kind: Type[_Answer], until: float, ranks: Iterable[int]) -> Dict[int, _Answer]:
        """Return the answers of these tasks by their ranks, as far as they come until then (time.monotonic)."""
        return {rank: answer for rank, answer, _ in self.answers(kind, until, ranks)}

    def answers(self, kind: Type[_Answer], until: float, ranks: Iterable[int]) -> Iterator[Tuple[int, _Answer, float]]:
        """Yield the rank of each task that answers, its answer, and when it came."""
        left = set(ranks)
        while left - self._gone and (self._open or not self._lines.empty()):
            try:
                item = self._lines.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                return
            if item is None:
                self._open -= 1
                continue
            if item[1] == _SRUN_ITSELF:
                self._gone.update(_ended(item[2]))
            message = self._message(*item[1:])
            if isinstance(message, kind):
                left.discard(item[1])
                yield item[1], message, item[0]

    def last_words(self, rank: int) -> str:
        """Return why nothing came of a task: the last line that it printed, else that of srun."""
        return self._last.get(rank) or self._last.get(_SRUN_ITSELF) or "nothing came from it in time"

    def _message(self, rank: int, line: str) -> object:
        """Return the message that a line ends, None if it ends none. Remembers lines that are of no message."""
        joiner = self._joiners.setdefault(rank, lines.Joiner())
        try:
            is_message, message = joiner.add(line, examination.FROM_NODES)
        except ValueError as error:
            is_message, message, line = False, None, str(error)
        if not is_message and line.strip():
            self._last[rank] = line.strip()[:_LONGEST]
        return message

    def _read(self, pipe: IO[bytes]) -> None:
        for raw in pipe:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            match = lines.LABELLED.fullmatch(line)
            rank, text = (int(match[1]), match[2]) if match else (_SRUN_ITSELF, line)
            self._lines.put((time.monotonic(), rank, text))
        self._lines.put(None)
