"""The user's runs as all browsers see them: read together, and Slurm is asked at most every 15 s for all of them."""

import functools
import hashlib
import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from slurm_tf.errors import SlurmTfError
from slurm_tf.run.folder import RunFolder
from slurm_tf.slurm.client import Client
from slurm_tf.watch import find_run, run_discovery, run_overview
from slurm_tf.watch.find_run import SelectedRun
from slurm_tf.watch.run_overview import RunOverview

# The least time between two questions to Slurm; where one takes long, so many times its length.
LEAST_SECONDS, _TIMES_AS_LONG = 15.0, 20.0
# How long a view waits for new answers, before it shows the old ones; the first one has none.
_WAIT_SECONDS, _FIRST_WAIT_SECONDS = 2.0, 30.0
# A job that ended so long ago is not requeued any more: slurmctld has forgotten it (MinJobAge is 300 s by default).
_SETTLED_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class KnownRuns:
    """The runs by their keys, oldest first, each with its points. `at`: when Slurm was asked, seconds since the epoch.

    `problem`: why the runs cannot be listed, "" if they can; `is_read`: False before they were read once.
    """

    runs: Mapping[str, tuple[RunOverview, ...]] = field(default_factory=dict)
    at: float = 0.0
    problem: str = ""
    is_read: bool = False

    @property
    def notes(self) -> tuple[str, ...]:
        """Why Slurm's answers may be incomplete."""
        return tuple(dict.fromkeys(note for points in self.runs.values() for point in points for note in point.notes))


class RunCache:
    """What is known of all runs of the runs folder `root` and elsewhere; used by several threads."""

    def __init__(self, connect: Callable[[], Client], root: str) -> None:
        self._connect, self._root = connect, root
        self._known = KnownRuns()
        self._due = 0.0
        self._lock = threading.Lock()
        self._reader: threading.Thread | None = None
        self._settled: dict[str, tuple[object, tuple[RunOverview, ...]]] = {}

    def look(self, wait: bool = True) -> KnownRuns:
        """Return what is known; where that is old it is read again and, with `wait`, waited for a short time."""
        reader, known = self.begin()
        if reader is not None and (wait or not known.is_read):
            reader.join(_WAIT_SECONDS if known.is_read else _FIRST_WAIT_SECONDS)
        return self._known

    def begin(self) -> tuple[threading.Thread | None, KnownRuns]:
        """Have what is old read in the background; return the thread that reads, None for none, and what is known."""
        with self._lock:
            if self._reader is None and time.monotonic() >= self._due:
                self._reader = threading.Thread(target=self._read, daemon=True)
                self._reader.start()
            return self._reader, self._known

    def find(self, key: str, point: int | None = None, wait: bool = True) -> tuple[RunOverview, ...]:
        """Return the points of a run, or one of them, with their files read again; none if there is no such run."""
        points = self.look(wait).runs.get(key, ())
        chosen = [each for each in points if point is None or each.selected.point == point]
        return tuple(map(run_overview.with_files, chosen))

    def read_again(self, run: RunFolder) -> None:
        """Read one run again, with a question to Slurm: a job was submitted or cancelled, and who did so looks next."""
        points = tuple(run_overview.read_overviews(self._slurm, [SelectedRun(run)]))
        with self._lock:
            self._known = replace(self._known, runs={**self._known.runs, key_of(run): points})

    @functools.cached_property
    def _slurm(self) -> Client:
        """The client of Slurm, the same each time: it asks sacct once which fields there are."""
        return self._connect()

    def _read(self) -> None:
        """Read all runs again."""
        begun = time.monotonic()
        try:
            known = self._all()
        except SlurmTfError as error:
            known = KnownRuns(self._known.runs, self._known.at, str(error), is_read=True)
        took = time.monotonic() - begun
        with self._lock:
            self._known, self._reader = known, None
            self._due = begun + max(LEAST_SECONDS, _TIMES_AS_LONG * took)

    def _all(self) -> KnownRuns:
        run_discovery.make_index(self._root)
        selected = {key_of(each.run): each for each in find_run.all_runs(self._root)}
        versions = {key: _version(each.run) for key, each in selected.items()}
        kept = {key: points for key, (version, points) in self._settled.items() if versions.get(key) == version}
        wanted = [each for key, each in selected.items() if key not in kept]
        read = _by_key(run_overview.read_overviews(self._slurm, wanted)) if wanted else {}
        runs = {key: kept.get(key) or read[key] for key in selected}
        self._settled = {key: (versions[key], points) for key, points in runs.items() if _is_settled(points)}
        return KnownRuns(runs, time.time(), is_read=True)


def key_of(run: RunFolder) -> str:
    """Return the key of a run in addresses: names are not unique, and a path would let an address name any folder."""
    return hashlib.sha256(os.fsencode(run.path)).hexdigest()[:12]


def whole(points: Sequence[RunOverview]) -> SelectedRun:
    """Return the run that all these points are of, or the point that is the only one."""
    return points[0].selected if len(points) == 1 else SelectedRun(points[0].selected.run)


def _by_key(points: Sequence[RunOverview]) -> dict[str, tuple[RunOverview, ...]]:
    found: dict[str, list[RunOverview]] = {}
    for point in points:
        found.setdefault(key_of(point.selected.run), []).append(point)
    return {key: tuple(group) for key, group in found.items()}


def _is_settled(points: Sequence[RunOverview]) -> bool:
    """Whether nothing of a run changes any more unless one of the files of `_version` does."""
    before = time.time() - _SETTLED_SECONDS
    return all(_ended_before(point, before) for point in points)


def _ended_before(point: RunOverview, before: float) -> bool:
    if not point.job:
        return True
    return point.ended is not None and point.ended.timestamp() < before


def _version(run: RunFolder) -> object:
    """Return what changes when a run is submitted again, cancelled, or run on this machine."""
    return tuple(map(_changed_at, (run.jobs, run.cancelled, run.status, run.attempts)))


def _changed_at(path: str) -> int:
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
