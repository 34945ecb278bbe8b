"""The house: imports go one way, each heavy or dangerous thing has one room, launch runs on Python 3.9."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_tf import contract
from tests.conftest import ROOT

PACKAGE = ROOT / "slurm_tf"

# room: the rooms that it may import, apart from itself
ROOMS = {
    "errors": set[str](),
    "units": {"errors"},
    "files": {"errors"},
    "contract": {"errors"},
    "data": {"errors", "files"},
    "scheduler": {"errors", "units"},
    "account": {
        "contract",
        "data",
        "errors",
        "files",
        "launch.attempts",
        "scheduler",
        "spec.sites",
        "submit.submissions",
        "units",
        "watch.find",
    },
    "spec": {"contract", "data", "errors", "units", "scheduler"},
    "submit": {"contract", "data", "errors", "files", "units", "scheduler", "spec", "launch.slurm", "launch.bad_nodes"},
    "launch": {"contract", "errors", "files", "units", "scheduler.hostlist"},
    "train": {"contract", "errors", "files"},
    "watch": {
        "contract",
        "errors",
        "files",
        "scheduler",
        "launch.attempts",
        "launch.bad_nodes",
        "launch.stragglers",
        "submit.submissions",
        "submit.submit",
        "train.commit",
        "train.verify",
    },
    "cli": {
        "account",
        "contract",
        "data",
        "errors",
        "files",
        "units",
        "scheduler",
        "spec",
        "submit",
        "watch",
        "launch.bad_nodes",
        "launch.local",
        "launch.doors",
        "launch.lease",
        "train.commit",
        "launch.rehearsal",
        "launch.slurm",
    },
}
# module: the rooms that may import it
ONLY_IN = {
    "tensorflow": {"train"},
    "keras": {"train"},
    "tf_keras": {"train"},
    "horovod": {"train"},
    "mpi4py": {"train"},
    "jinja2": {"submit.render", "account.page"},
    "click": {"cli"},
    "rich": {"cli"},
    "pyslurm": {"scheduler.pyslurm_client"},
    "subprocess": {"scheduler", "launch", "submit.git", "submit.horovod", "watch.checkpoints", "watch.tensorboard"},
}
# what packs into launch.pyz, and what the user's program imports
ON_NODES = ["contract.py", "errors.py", "files.py", "units.py", "scheduler/hostlist.py", "launch", "train"]
STDLIB_ONLY = ("contract", "errors", "files", "units", "scheduler", "launch")


def modules() -> Iterator[tuple[str, Path]]:
    """Yield every module by its dotted name below slurm_tf."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


MODULES = dict(modules())


def imports(path: Path) -> set[str]:
    """Return the dotted names that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def within(name: str, rooms: set[str]) -> bool:
    return any(f"{name}.".startswith(f"{room}.") for room in rooms)


@pytest.mark.parametrize("module", [name for name in MODULES if name not in ("", "__main__")])
def test_imports_go_one_way(module: str) -> None:
    room = module.partition(".")[0]
    for name in imports(MODULES[module]):
        if name.startswith("slurm_tf.") and name != "slurm_tf.__version__":
            inner = name.removeprefix("slurm_tf.")
            assert within(inner, ROOMS[room] | {room}), f"{module} may not import {name}"


@pytest.mark.parametrize("library", ONLY_IN)
def test_each_library_has_its_room(library: str) -> None:
    users = {module for module, path in MODULES.items() if any(within(name, {library}) for name in imports(path))}
    assert {user for user in users if not within(user, ONLY_IN[library])} == set()


@pytest.mark.parametrize("module", [name for name in MODULES if within(name, set(STDLIB_ONLY))])
def test_in_the_job_there_is_only_the_standard_library(module: str) -> None:
    outside = (
        {name.partition(".")[0] for name in imports(MODULES[module])} - set(sys.stdlib_module_names) - {"slurm_tf"}
    )
    assert outside <= ({"pyslurm"} if module == "scheduler.pyslurm_client" else set())


@pytest.mark.parametrize("module", MODULES)
def test_only_the_command_line_prints_and_exits(module: str) -> None:
    tree = ast.parse(MODULES[module].read_text())
    calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    if within(module, {"cli"}):
        return
    ends = {"launch", "train.strategies", "train.control", "train.mpi_probe", "train.verify"}
    allowed = {"sys.exit", "os._exit"} if within(module, ends) else set()
    allowed |= {"print"} if module == "train.run" else set()
    assert calls & {"print", "sys.exit", "exit", "os._exit", "quit"} <= allowed


@pytest.mark.parametrize("module", MODULES)
def test_no_module_takes_in_too_much_and_no_broad_except(module: str) -> None:
    text = MODULES[module].read_text()
    assert len(text.splitlines()) <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ExceptHandler):
            caught = ast.unparse(node.type) if node.type else "everything"
            reraises = any(isinstance(inner, ast.Raise) for inner in node.body)
            broad = caught in ("everything", "Exception", "BaseException") and not reraises
            assert not broad or module == "cli.commands", f"{module}:{node.lineno}"


def test_nothing_goes_through_a_shell() -> None:
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword):
                assert node.arg != "shell", path
            if isinstance(node, ast.Attribute):
                assert ast.unparse(node) not in ("os.system", "os.popen", "pickle.loads", "pickle.load"), path


def test_what_runs_on_nodes_runs_on_python_3_9() -> None:
    vermin = Path(sys.executable).parent / "vermin"
    paths = [str(PACKAGE / name) for name in ON_NODES]
    done = subprocess.run(
        [vermin, "--target=3.9-", "--violations", "--no-tips", "--backport", "typing", *paths],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def loaded_by(*command: str) -> set[str]:
    """Return the modules that are loaded after `slurm-tf COMMAND`."""
    code = (
        "import sys\nsys.argv[1:] = sys.argv[1:]\nfrom slurm_tf.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stderr.split())


def test_help_imports_no_tensorflow_and_nothing_heavy() -> None:
    loaded = loaded_by("--help")
    assert "slurm_tf.cli.commands" in loaded
    assert not loaded & {"tensorflow", "numpy", "keras", "jinja2", "msgspec", "rich"}


def test_listing_checkpoints_imports_no_tensorflow(tmp_path: Path) -> None:
    run = tmp_path / "r"
    run.mkdir(mode=0o700)
    (run / "manifest.json").write_text(json.dumps({"contract": contract.VERSION, "job": {"name": "r"}}))
    (run / "checkpoints").mkdir()
    loaded = loaded_by("checkpoints", str(run))
    assert "slurm_tf.train.commit" in loaded
    assert not loaded & {"tensorflow", "numpy", "keras"}


def test_rendering_imports_no_tensorflow() -> None:
    loaded = loaded_by("render", str(ROOT / "jobs" / "cancer_ps.toml"))
    assert "jinja2" in loaded
    assert not loaded & {"tensorflow", "numpy", "keras"}
