"""Before the programs start: what to ask each node, in which order, and what becomes of the answers. No sockets here.

One agent a node takes part. All write a file and look for the others'; then pairs of nodes, each node in one at a time,
measure the way between them; what looks slow is measured once more. A node that does not answer is asked no more.
"""

import os
import secrets
import time
from typing import Callable, Dict, Generator, List, Mapping, Optional, Sequence, Tuple

from slurm_tf import files
from slurm_tf.errors import PreflightError
from slurm_tf.launch.nodes import diagnosis
from slurm_tf.launch.nodes.mpi_step import MpiStep
from slurm_tf.launch.transport.messages import (
    CheckFiles,
    FilesChecked,
    LinkMeasured,
    MeasureLink,
    OpenProbe,
    ProbeAnswer,
    ProbeFailed,
    ProbeOpened,
    ProbeRequest,
    Report,
)
from slurm_tf.run import bad_nodes, preflight_report
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.preflight_report import Figures, Node, PreflightReport
from slurm_tf.run.settings import LaunchSettings

# How long an agent may have to wait for its place: longer than any preflight takes.
PATIENCE_SECONDS = 1800.0
# A node is measured with so many others at most, in rounds of some tenths of a second.
_MOST_PARTNERS = 64
# Network file systems show a new file late: NFS within acdirmax, 60 s, if it was looked for before; it is not here.
_LOOK_SECONDS = 30.0
_ANSWER_SECONDS = 30.0

# rank of an agent, and what to send to it
Request = Tuple[int, ProbeRequest]
# by node; None from a node that is gone
Answers = Dict[str, Optional[ProbeAnswer]]
# yields what to ask of which node, and for how many seconds at most; is sent the answers
_Course = Generator[Tuple[Mapping[str, ProbeRequest], float], Answers, None]


class Preflight:
    """One preflight: feed it every answer and the time; send the requests that it returns until it is `over`."""

    def __init__(self, folder: RunFolder, settings: LaunchSettings, reports: Mapping[int, Report]) -> None:
        """`reports`: those of all tasks, by rank."""
        self.reasons: Dict[str, str] = {}
        self.table: List[str] = []
        self.error = ""
        self.over = False
        self._folder, self._factor = folder, settings.preflight_factor
        self._reports = {name: _of_node(reports, name) for name in sorted({r.node for r in reports.values()}, key=str)}
        self._wanted = {name: _gpus(settings, reports, name) for name in self._reports}
        self._names = {report.rank: name for name, report in self._reports.items()}
        self._ports: Dict[str, int] = {}
        self._devices: Dict[str, Optional[int]] = {}
        self._unseen: Dict[str, Tuple[str, ...]] = {}
        self._errors: Dict[str, str] = {}
        self._figures: Dict[diagnosis.Pair, Figures] = {}
        self._course = self._take_course()
        self._waiting: List[str] = []
        self._answers: Answers = {}
        self._until = 0.0
        self._mpi_probe = settings.preflight_mpi
        self._mpi: Optional[MpiStep] = None

    def begin(self, now: float) -> List[Request]:
        """Return the first requests. Raises OSError if the run's folder cannot be written."""
        files.own_folder(self._folder.probes)
        return self._step(*next(self._course), now)

    def answered(self, rank: int, answer: Optional[ProbeAnswer], now: float) -> List[Request]:
        """Record what an agent answered, None if it is gone; return what to send next."""
        name = self._names.get(rank, "")
        if name not in self._waiting:
            return []
        self._waiting.remove(name)
        self._answers[name] = answer
        return [] if self._waiting else self._go_on(now)

    def lost(self, node: str, now: float) -> List[Request]:
        """Record that the connection of an agent on `node` has ended; return what to send next."""
        self._errors.setdefault(node, "its agent's connection ended")
        return self.answered(self._reports[node].rank, None, now)

    @property
    def all_are_lost(self) -> bool:
        """Whether no node can be asked any more: then it was none of them."""
        return len(self._errors) == len(self._reports)

    def tick(self, now: float) -> List[Request]:
        """See to what is due at `now`; return what to send next."""
        if self._mpi and not self.over and self._mpi.is_over(now):
            self._take_mpi(self._mpi)
        if self.over or self._mpi or now < self._until:
            return []
        for name in self._waiting:
            self._errors.setdefault(name, "its agent does not answer")
        return self._go_on(now)

    @property
    def wakes_at(self) -> float:
        """When `tick` has something to do."""
        return self._mpi.until if self._mpi else self._until

    def close(self) -> None:
        """End what is under way."""
        if self._mpi:
            self._mpi.end()

    def _go_on(self, now: float) -> List[Request]:
        answers, self._answers = self._answers, {}
        try:
            return self._step(*self._course.send(answers), now)
        except StopIteration:
            if self._mpi_probe and not self.reasons and len(self._reports) > 1:
                self._mpi = MpiStep(self._folder, self._mpi_probe, list(self._reports), os.environ, now)
            else:
                self.over = True
            return []

    def _step(self, wanted: Mapping[str, ProbeRequest], seconds: float, now: float) -> List[Request]:
        requests = {name: each for name, each in wanted.items() if name not in self._errors}
        self._waiting, self._until = list(requests), now + seconds
        if not requests:
            return self._go_on(now)
        return [(self._reports[name].rank, each) for name, each in requests.items()]

    def _take_course(self) -> _Course:
        """Yield what to ask of which node, and for how many seconds at most; take the answers."""
        texts = {name: secrets.token_hex(16) for name in self._reports}
        paths = {name: os.path.join(self._folder.probes, str(r.rank)) for name, r in self._reports.items()}
        opening = {name: OpenProbe(paths[name], texts[name]) for name in texts}
        for name, answer in (yield opening, _ANSWER_SECONDS).items():
            self._note_error(name, answer)
            if isinstance(answer, ProbeOpened):
                self._ports[name], self._devices[name] = answer.port, answer.devices
        expected = {name: (paths[name], texts[name]) for name in self._ports}
        looking = CheckFiles(expected, _LOOK_SECONDS)
        for name, answer in (yield dict.fromkeys(self._ports, looking), _LOOK_SECONDS + _ANSWER_SECONDS).items():
            self._note_error(name, answer)
            self._unseen[name] = answer.unseen if isinstance(answer, FilesChecked) else ()
        names = list(self._ports)
        rounds = diagnosis.rounds(names, _MOST_PARTNERS)
        yield from self._measure(rounds)
        again = set(self._judge())
        yield from self._measure([[pair for pair in pairs if set(pair) & again] for pairs in rounds])
        self.reasons = self._judge()
        self.table = diagnosis.table(self._nodes(), list(self._figures.values()), self.reasons)

    def _measure(self, rounds: Sequence[Sequence[diagnosis.Pair]]) -> _Course:
        for pairs in rounds:
            partners = {one: other for one, other in pairs if not {one, other} & set(self._errors)}
            asked = {one: MeasureLink(self._reports[other].host, self._ports[other]) for one, other in partners.items()}
            if not asked:
                continue
            for name, answer in (yield asked, _ANSWER_SECONDS).items():
                found = _figures(name, partners[name], answer)
                if found:
                    known = self._figures.get((name, partners[name]))
                    self._figures[name, partners[name]] = known.better(found) if known else found

    def _take_mpi(self, step: MpiStep) -> None:
        self.over = True
        if step.figures:
            self.reasons = diagnosis.judge_mpi(step.figures, self._factor)
            self.table += diagnosis.mpi_table(step.figures, self.reasons)
        elif step.note:
            self.table.append(step.note)
        self.error = step.error

    def _note_error(self, name: str, answer: Optional[ProbeAnswer]) -> None:
        if isinstance(answer, ProbeFailed):
            self._errors.setdefault(name, answer.error)

    def _judge(self) -> Dict[str, str]:
        return diagnosis.judge(self._nodes(), list(self._figures.values()), self._factor)

    def _nodes(self) -> List[Node]:
        nodes = []
        for name, report in self._reports.items():
            have, wanted = self._wanted[name]
            devices = self._devices.get(name)
            mig = any(gpu.startswith("MIG-") for gpu in report.gpus)  # several share a device file
            if wanted and devices is not None and devices < len(report.gpus) and not mig:
                have = devices
            nodes.append(Node(name, have, wanted, self._unseen.get(name, ()), self._errors.get(name, "")))
        return nodes

    def finish(self, say: Callable[[str], None]) -> None:
        """Write down what was found, and say it. Raises PreflightError for bad nodes, and OSError."""
        for name, error in self._errors.items():  # since the table was made: an MPI step takes its time
            self.reasons.setdefault(name, error)
        self._write()
        for line in self.table:
            say(line)
        if self.reasons:
            why = "; ".join(f"{name} {reason}" for name, reason in self.reasons.items())
            raise PreflightError(f"preflight: {why}", "", "submit the run again: these nodes are left out")
        if self.error:
            raise PreflightError(f"preflight: {self.error}", "", "preflight = true does without MPI")

    def _write(self) -> None:
        report = PreflightReport(
            job=os.environ.get("SLURM_JOB_ID", ""),
            at=time.time(),
            factor=self._factor,
            nodes=tuple(self._nodes()),
            pairs=tuple(self._figures.values()),
            mpi=tuple(self._mpi.figures) if self._mpi else (),
            reasons=self.reasons,
            table=tuple(self.table),
        )
        preflight_report.write(self._folder, report)
        for each in self._reports.values():
            path = os.path.join(self._folder.probes, str(each.rank))
            if os.path.exists(path):
                os.unlink(path)
        if self.reasons:
            bad_nodes.remember(self._folder, self.reasons)


def _figures(source: str, target: str, answer: Optional[ProbeAnswer]) -> Optional[Figures]:
    if isinstance(answer, LinkMeasured):
        return Figures(source, target, answer.latency, answer.bandwidth)
    return Figures(source, target, error=answer.error) if isinstance(answer, ProbeFailed) else None


def _of_node(reports: Mapping[int, Report], node: str) -> Report:
    """Return the report of the task that speaks for `node`: the first with GPUs, else the first."""
    own = sorted((report for report in reports.values() if report.node == node), key=lambda report: report.rank)
    return next((report for report in own if report.gpus), own[0])


def _gpus(settings: LaunchSettings, reports: Mapping[int, Report], node: str) -> Tuple[int, int]:
    """Return how many GPUs the tasks of `node` were given, and how many their roles asked for there."""
    asked = {role.name: 1 if role.gpus is None else role.gpus for role in settings.roles}
    own = [(each, asked[each.role or settings.tasks[each.rank][0]]) for each in reports.values() if each.node == node]
    needing = [(report, number) for report, number in own if number]
    names = [gpu for report, _ in needing for gpu in report.gpus]
    have = len(names) if all(report.gpus_bound for report, _ in needing) else len(set(names))
    numbers = [number for _, number in needing]
    return have, max(numbers, default=0) if settings.gpu_sharing == "all" else sum(numbers)
