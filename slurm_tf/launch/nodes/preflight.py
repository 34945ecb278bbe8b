"""Runs a preflight of a job's nodes before the programs start: makes the requests, records the answers. No sockets.

One agent of each node takes part. All write a file and read the files of all others. Then pairs of nodes, each node in
one pair at a time, measure the connection between them. Pairs of a node that seems unfit are measured a second time. A
node that does not answer gets no more requests.
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

# No preflight takes longer: an agent waits for its assignment for at most this time.
MAX_SECONDS = 1800.0
# A node is measured with at most this many others, in rounds of some tenths of a second.
_MAX_PARTNERS = 64
# A file of another node is visible within this time. NFS would take up to acdirmax, 60 s, if the name had been looked
# up before the file was made; here it was not.
_LOOK_SECONDS = 30.0
_ANSWER_SECONDS = 30.0

# rank of an agent, and the request to send to it
Request = Tuple[int, ProbeRequest]
# answer of each node; None for a node that is lost
Answers = Dict[str, Optional[ProbeAnswer]]
# yields requests by node, and how many seconds the answers may take; is sent the answers
_RequestRounds = Generator[Tuple[Mapping[str, ProbeRequest], float], Answers, None]


class Preflight:
    """A state machine of one preflight, until it is `over`: it gets answers and the time, and returns requests to send.

    `reasons`: why a node is unfit, by node; `table`: lines to print; `error`: why MPI does not work.
    """

    def __init__(self, folder: RunFolder, settings: LaunchSettings, reports: Mapping[int, Report]) -> None:
        """`reports`: the reports of all tasks, by rank."""
        self.reasons: Dict[str, str] = {}
        self.table: List[str] = []
        self.error = ""
        self.over = False
        self._folder, self._factor = folder, settings.preflight_factor
        self._reports = {name: _reporter(reports, name) for name in sorted({r.node for r in reports.values()}, key=str)}
        self._gpu_counts = {name: _gpus(settings, reports, name) for name in self._reports}
        self._names = {report.rank: name for name, report in self._reports.items()}
        self._ports: Dict[str, int] = {}
        self._devices: Dict[str, Optional[int]] = {}
        self._unseen: Dict[str, Tuple[str, ...]] = {}
        self._errors: Dict[str, str] = {}
        self._figures: Dict[diagnosis.Pair, Figures] = {}
        self._rounds = self._make_rounds()
        self._waiting: List[str] = []
        self._answers: Answers = {}
        self._until = 0.0
        self._mpi_probe = settings.preflight_mpi
        self._mpi: Optional[MpiStep] = None

    def begin(self, now: float) -> List[Request]:
        """Return the first requests. Raises OSError if the run's folder cannot be written."""
        files.own_folder(self._folder.probes)
        return self._step(*next(self._rounds), now)

    def answered(self, rank: int, answer: Optional[ProbeAnswer], now: float) -> List[Request]:
        """Record the answer of an agent, None if it is lost; return the next requests."""
        name = self._names.get(rank, "")
        if name not in self._waiting:
            return []
        self._waiting.remove(name)
        self._answers[name] = answer
        return [] if self._waiting else self._go_on(now)

    def lost(self, node: str, now: float) -> List[Request]:
        """Record that the connection of an agent on `node` has ended; return the next requests."""
        self._errors.setdefault(node, "its agent's connection ended")
        return self.answered(self._reports[node].rank, None, now)

    @property
    def all_are_lost(self) -> bool:
        """Whether every node is lost: the cause is not in the nodes then."""
        return len(self._errors) == len(self._reports)

    def tick(self, now: float) -> List[Request]:
        """Give up answers that are overdue at `now`, and read the MPI step's result; return the next requests."""
        if self._mpi and not self.over and self._mpi.is_over(now):
            self._finish_mpi(self._mpi)
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
        """End the MPI step, if it runs."""
        if self._mpi:
            self._mpi.end()

    def _go_on(self, now: float) -> List[Request]:
        answers, self._answers = self._answers, {}
        try:
            return self._step(*self._rounds.send(answers), now)
        except StopIteration:
            if self._mpi_probe and not self.reasons and len(self._reports) > 1:
                self._mpi = MpiStep(self._folder, self._mpi_probe, list(self._reports), os.environ, now)
            else:
                self.over = True
            return []

    def _step(self, probes: Mapping[str, ProbeRequest], seconds: float, now: float) -> List[Request]:
        requests = {name: each for name, each in probes.items() if name not in self._errors}
        self._waiting, self._until = list(requests), now + seconds
        if not requests:
            return self._go_on(now)
        return [(self._reports[name].rank, each) for name, each in requests.items()]

    def _make_rounds(self) -> _RequestRounds:
        """Yield each round of requests, by node, and its seconds; record the answers that are sent in."""
        texts = {name: secrets.token_hex(16) for name in self._reports}
        paths = {name: os.path.join(self._folder.probes, str(r.rank)) for name, r in self._reports.items()}
        opening = {name: OpenProbe(paths[name], texts[name]) for name in texts}
        for name, answer in (yield opening, _ANSWER_SECONDS).items():
            self._note_error(name, answer)
            if isinstance(answer, ProbeOpened):
                self._ports[name], self._devices[name] = answer.port, answer.devices
        expected = {name: (paths[name], texts[name]) for name in self._ports}
        check = CheckFiles(expected, _LOOK_SECONDS)
        for name, answer in (yield dict.fromkeys(self._ports, check), _LOOK_SECONDS + _ANSWER_SECONDS).items():
            self._note_error(name, answer)
            self._unseen[name] = answer.unseen if isinstance(answer, FilesChecked) else ()
        names = list(self._ports)
        rounds = diagnosis.rounds(names, _MAX_PARTNERS)
        yield from self._measure(rounds)
        suspects = set(self._diagnose())
        yield from self._measure([[pair for pair in pairs if set(pair) & suspects] for pairs in rounds])
        self.reasons = self._diagnose()
        self.table = diagnosis.table(self._nodes(), list(self._figures.values()), self.reasons)

    def _measure(self, rounds: Sequence[Sequence[diagnosis.Pair]]) -> _RequestRounds:
        for pairs in rounds:
            partners = {one: other for one, other in pairs if not {one, other} & set(self._errors)}
            requests = {
                one: MeasureLink(self._reports[other].host, self._ports[other]) for one, other in partners.items()
            }
            if not requests:
                continue
            for name, answer in (yield requests, _ANSWER_SECONDS).items():
                found = _figures(name, partners[name], answer)
                if found:
                    known = self._figures.get((name, partners[name]))
                    self._figures[name, partners[name]] = known.better(found) if known else found

    def _finish_mpi(self, step: MpiStep) -> None:
        self.over = True
        if step.figures:
            self.reasons = diagnosis.diagnose_mpi(step.figures, self._factor)
            self.table += diagnosis.mpi_table(step.figures, self.reasons)
        elif step.note:
            self.table.append(step.note)
        self.error = step.error

    def _note_error(self, name: str, answer: Optional[ProbeAnswer]) -> None:
        if isinstance(answer, ProbeFailed):
            self._errors.setdefault(name, answer.error)

    def _diagnose(self) -> Dict[str, str]:
        return diagnosis.diagnose(self._nodes(), list(self._figures.values()), self._factor)

    def _nodes(self) -> List[Node]:
        nodes = []
        for name, report in self._reports.items():
            have, needed = self._gpu_counts[name]
            devices = self._devices.get(name)
            mig = any(gpu.startswith("MIG-") for gpu in report.gpus or ())  # several MIG instances share a device file
            if needed and devices is not None and devices < len(report.gpus or ()) and not mig:
                have = devices
            nodes.append(Node(name, have, needed, self._unseen.get(name, ()), self._errors.get(name, "")))
        return nodes

    def finish(self, say: Callable[[str], None]) -> None:
        """Write and print the result. Raises PreflightError for nodes that are unfit, and OSError."""
        for name, error in self._errors.items():  # also of nodes that were lost since the diagnosis, in the MPI step
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


def _reporter(reports: Mapping[int, Report], node: str) -> Report:
    """Return the report of the task whose agent answers for `node`: the first with GPUs, else the first."""
    of_node = sorted((report for report in reports.values() if report.node == node), key=lambda report: report.rank)
    return next((report for report in of_node if report.gpus), of_node[0])


def _gpus(settings: LaunchSettings, reports: Mapping[int, Report], node: str) -> Tuple[int, int]:
    """Return how many GPUs the tasks of `node` were given, and how many their roles need there."""
    needs = {role.name: 1 if role.gpus is None else role.gpus for role in settings.roles}
    of_node = [(each, needs[settings.tasks[each.rank][0]]) for each in reports.values() if each.node == node]
    needing = [(report, number) for report, number in of_node if number]
    names = [gpu for report, _ in needing for gpu in report.gpus or ()]
    have = len(names) if all(report.gpus_bound for report, _ in needing) else len(set(names))
    numbers = [number for _, number in needing]
    return have, max(numbers, default=0) if settings.gpu_sharing == "all" else sum(numbers)
