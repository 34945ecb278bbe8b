"""What several rooms' tests use."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import hypothesis
import pytest

from slurm_tf.jobspec import configuration, plan
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.error_list import ErrorList
from slurm_tf.jobspec.plan import Plan
from slurm_tf.run import manifest
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.manifest import ArrayShape, Manifest
from slurm_tf.submit import new_run
from tests.lean import sitecustomize as _lean  # noqa: F401 - this process imports TensorFlow as well

ROOT = Path(__file__).resolve().parent.parent
RECORDED = ROOT / "tests" / "recorded"
# prints the checksum of the model of the program that it runs
CHECKSUM = str(ROOT / "tests" / "programs" / "checksum.py")
# of programs that tests start: this package, and what has TensorFlow start sooner
PYTHONPATH = f"{ROOT / 'tests' / 'lean'}:{ROOT}"
# the profile that Hypothesis chose, but on a busy machine an example takes as long as it takes
hypothesis.settings.register_profile("without deadline", hypothesis.settings.default, deadline=None)
hypothesis.settings.load_profile("without deadline")
# where a test forks this process, gRPC of another test would end the child
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "0"
# About how many seconds a test of a marker takes.
_SECONDS = {"slurm": 12, "tensorflow": 12, "slow": 3}


@pytest.fixture(autouse=True)
def _zone_of_variables() -> Iterator[None]:
    """After a test local time is that of TZ again: what localtime_r(3) reads is the zone of the last tzset(3)."""
    yield
    time.tzset()


@pytest.fixture(autouse=True)
def _own_settings(
    _zone_of_variables: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No test reads the settings of whoever runs it."""
    for name in ("config", "state"):
        monkeypatch.setenv(f"XDG_{name.upper()}_HOME", str(tmp_path_factory.mktemp(name)))
    for name in list(os.environ):
        if name.startswith(("SLURM", "SBATCH")):
            monkeypatch.delenv(name)


@pytest.fixture
def job_file(tmp_path: Path) -> Callable[[str], Path]:
    """Write a job file; return its path."""

    def write(text: str) -> Path:
        path = tmp_path / "job.toml"
        path.write_text(text)
        return path

    return write


def required_values(path: Path) -> tuple[str, ...]:
    """Return a value, as it is typed, for each param of a job file that has none."""
    spec = configuration.load(path, {}, "generic").spec
    return tuple(
        f"{name}=/x" for name, param in spec.params.items() if param.default is None and name not in spec.sweep
    )


def write_manifest(
    run: RunFolder, name: str, array: ArrayShape | None = None, number: int | None = None, **job: object
) -> None:
    """Write the manifest of job `name` into a run's folder, or into that of its `number`-th submission."""
    path = run.manifest if number is None else run.submission(number).manifest
    manifest.write(path, Manifest(run.name, "", "job.toml", {"name": name, **job}, "generic", array, None, "", {}))


@pytest.fixture
def load(job_file: Callable[[str], Path]) -> Callable[..., Job]:
    """Return the job of a job file's text, on a site."""

    def read(
        text: str,
        site: str = "generic",
        environ: Mapping[str, str] = {},
        set: tuple[str, ...] = (),  # noqa: A002
        values: tuple[str, ...] = (),
        arguments: tuple[str, ...] = (),
    ) -> Job:
        job = configuration.load(job_file(text), environ, site, set, values=values, arguments=arguments)
        ErrorList(job.errors).raise_all()
        return job

    return read


@pytest.fixture
def fit(load: Callable[..., Job], tmp_path: Path) -> Callable[..., Plan]:
    """Return the plan of a job file's text, on a site."""

    def make(text: str, site: str = "generic", **more: object) -> Plan:
        return plan.fit(load(text, site, **more), new_run.folder(str(tmp_path / "runs"), "run-1"))

    return make


@pytest.fixture
def golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """Compare text with a file of tests/golden/."""

    def compare(name: str, text: str) -> None:
        path = ROOT / "tests" / "golden" / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        assert text == path.read_text(), "if it is meant: pytest --update-golden, and read the difference"

    return compare


@pytest.fixture
def venv_path(monkeypatch: pytest.MonkeyPatch) -> str:
    """Put the tests' own Python first, as an activated environment does."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    monkeypatch.setenv("PATH", path)
    return path


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write tests/golden/ anew from what is rendered now")


def pytest_configure() -> None:
    """Have programs that tests start know the signals that a shell ignores for what runs in its background.

    A process that ignores a signal hands that on to those that it starts; a handler it does not.
    """
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda *_: None)


def pytest_collection_finish() -> None:
    """Refuse a test file that imports TensorFlow: each worker collects all files, and would take seconds for it."""
    if "tensorflow" in sys.modules:
        raise pytest.UsageError("found a test file that imports tensorflow; needed: imports in its tests or fixtures")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put long files first, and files that wait for Slurm between those that compute.

    So no file runs alone at the end, and several workers neither wait together nor compute together. pytest-xdist
    keeps this order with --no-loadscope-reorder.
    """
    seconds: dict[Path, float] = {}
    waits: dict[Path, bool] = {}
    for item in items:
        mine = 0.02 + sum(value for name, value in _SECONDS.items() if item.get_closest_marker(name))
        limit = item.get_closest_marker("timeout")
        seconds[item.path] = seconds.get(item.path, 0) + mine + (limit.args[0] / 10 if limit else 0)
        waits[item.path] = waits.get(item.path, False) or item.get_closest_marker("slurm") is not None
    place: dict[Path, float] = {}
    for kind in (True, False):
        paths = sorted((path for path in seconds if waits[path] == kind), key=lambda path: -seconds[path])
        total, sum_before = sum(seconds[path] for path in paths), 0.0
        for path in paths:  # at which part of its kind's time it starts
            place[path] = sum_before / total
            sum_before += seconds[path]
    items.sort(key=lambda item: place[item.path])
