"""The house: imports go one way, each heavy or dangerous thing has one room, launch runs on Python 3.9."""

import ast
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_tf.submit.packed_modules import LAUNCHER_FILES, TRAIN_FILES
from tests.conftest import ROOT

PACKAGE = ROOT / "slurm_tf"

# Each room, and the rooms that it may import. Rooms inside launch/ and train/ stand in their own order below.
ROOMS = {
    "errors": set[str](),
    "units": {"errors"},
    "files": {"errors"},
    "search_path": {"errors", "files"},
    "plots": {"errors", "files"},
    "run": {"errors", "files", "units"},
    "dataset": {"errors", "files", "run"},
    "models": {"errors", "files", "run"},
    "slurm": {"errors", "units"},
    "jobspec": {"errors", "units", "files", "search_path", "run", "slurm"},
    "prepare": {"errors", "units", "files", "plots", "run", "dataset", "jobspec"},
    "images": {"errors", "files", "run", "jobspec"},
    "org": {"errors", "units", "slurm", "jobspec"},
    "submit": {"errors", "units", "files", "search_path", "run", "slurm", "jobspec", "org"},
    "launch": {"errors", "units", "files", "run", "dataset", "slurm"},
    "export": {"errors", "files", "run", "dataset", "models"},
    "train": {"errors", "files", "run", "dataset", "models", "export"},
    "predict": {"errors", "files", "run", "dataset", "models"},
    "serve": {"errors", "files", "run", "models", "slurm", "launch"},
    "client": {"errors", "run", "submit", "serve"},
    "watch": {"errors", "units", "files", "plots", "run", "models", "slurm", "jobspec", "submit", "export", "serve"},
    "account": {"errors", "units", "files", "search_path", "plots", "run", "slurm", "jobspec", "watch"},
    "page": {
        "errors", "units", "files", "plots", "run", "dataset", "models", "slurm", "jobspec", "prepare", "submit",
        "serve", "watch", "org",
    },
    "doctor": {"errors", "units", "files", "run", "slurm", "jobspec", "submit", "launch"},
    "cli": {
        "errors", "units", "files", "search_path", "run", "dataset", "prepare", "predict", "slurm", "jobspec", "images",
        "submit", "launch", "models", "serve", "watch", "account", "org", "page", "doctor",
    },
}  # fmt: skip
# Inside these rooms a module or room imports only those before it, and itself.
ORDERS = {
    "launch": (
        "log",
        "job_context",
        "transport",
        "mapping",
        "decide",
        "nodes",
        "staging",
        "requeue",
        "agent",
        "coordinator",
        "examination",
        "direct",
        "__main__",
    ),
    "train": (
        "train_log",
        "autograph",
        "task_context",
        "devices",
        "hparams",
        "agent_connection",
        "collectives",
        "data",
        "checkpoint",
        "keras",
        "training_loop",
        "progress_reports",
        "model_exports",
        "training_run",
    ),
    "serve": (
        "replica_settings",
        "endpoint",
        "request_log",
        "replica_watch",
        "replica_task",
        "replica_channel",
        "protocol",
        "replica",
        "predict_call",
        "forwarder",
    ),
}
# module: the rooms that may import it
ONLY_IN = {
    "tensorflow": {
        "train",
        "export.check_process",
        "export.warmup_requests",
        "serve.replica",
        "predict.shard_process",
        "predict.row_reader",
        "predict.model_inputs",
        "predict.kept_columns",
        "predict.record_writer",
    },
    "keras": {"train"},
    "tf_keras": {"train"},
    "horovod": {"train"},
    "mpi4py": {"launch.nodes"},
    "jinja2": {"submit.render", "plots.html_page", "page.html_templates"},
    "starlette": {"page"},
    "uvicorn": {"page", "serve.replica.rest_service", "serve.forwarder.http_server"},
    "grpc": {
        "serve.replica.grpc_service",
        "serve.forwarder.grpc_server",
        "serve.replica_channel",
        "serve.predict_call",
    },
    "cryptography": {"serve.replica.certificate", "serve.replica_channel"},
    "h11": {"serve.forwarder.upstream"},
    "click": {"cli"},
    "pyarrow": {"prepare", "predict.parquet_rows"},
    "pyspark": {"prepare"},
    "google_crc32c": {"prepare"},
    "connectorx": {"prepare.database_rows"},
    "sqlglot": {"prepare.sql_file"},
    "rich": {"cli"},
    "pyslurm": {"slurm.pyslurm_client"},
    # Slurm's commands, the processes of a job, and programs that are started for the user
    "subprocess": {
        "slurm",
        "launch",
        "export.version_check",
        "images.image_build",
        "page.export_process",
        "page.report_process",
        "prepare.spark_cluster",
        "prepare.worker_process",
        "serve.replica_task",
        "submit.bash_syntax",
        "submit.environments",
        "submit.git",
        "submit.horovod_wheel",
        "watch.exporting_program",
        "watch.stored_checkpoints",
        "watch.tensorboard",
    },
}
# modules that import a library if it is installed
BESIDE_STDLIB = {"slurm.pyslurm_client": {"pyslurm"}, "launch.nodes.mpi_probe": {"mpi4py"}}
# rooms that import only the standard library and each other
STDLIB_ONLY = ("errors", "files", "units", "search_path", "run", "dataset", "models", "slurm", "launch")
PAGE = ROOT / "docs" / "house.md"


def modules() -> Iterator[tuple[str, Path]]:
    """Yield every module by its dotted name below slurm_tf."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield ".".join(part for part in parts if part != "__init__"), path


MODULES = dict(modules())


@functools.cache
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


@functools.cache
def ours(module: str) -> set[str]:
    """Return the modules of slurm_tf that a module imports; a name of a package stands for the package."""
    found = set()
    for name in imports(MODULES[module]):
        inner = name.removeprefix("slurm_tf.") if name.startswith("slurm_tf.") else ""
        while inner and inner not in MODULES:
            inner = inner.rpartition(".")[0]
        found |= {inner} if inner else set()
    return found


def exported(package: str) -> set[str]:
    """Return what the `__init__` of a room names in __all__: modules that other rooms may import."""
    for node in ast.parse((PACKAGE / package.replace(".", "/") / "__init__.py").read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return set(ast.literal_eval(node.value))
    return set()


def closure(*modules: str) -> set[str]:
    """Return these modules and all that they import, with the packages around them."""
    found, waiting = set[str](), list(modules)
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting += [*ours(module), *([module.rpartition(".")[0]] if "." in module else [])]
    return found


@functools.cache
def launcher() -> set[str]:
    """Return the modules that the launcher imports."""
    return closure(*(name for name in MODULES if within(name, {"launch"})))


def test_imports_go_one_way() -> None:
    for module in set(MODULES) - {"", "__main__"}:
        room, _, inner = module.partition(".")
        for name in ours(module):
            assert within(name, ROOMS[room] | {room}), f"{module} may not import {name}"
            if room in ORDERS and inner and within(name, {room}):
                order = ORDERS[room]
                here, there = inner.partition(".")[0], name.removeprefix(f"{room}.").partition(".")[0]
                assert there in order[: order.index(here) + 1], f"{module} may not import {name}"


def test_a_room_is_entered_through_what_its_init_names() -> None:
    for module in set(MODULES) - {"", "__main__"}:
        room = module.partition(".")[0]
        for name in ours(module):
            parts = name.split(".")
            for depth in range(1, len(parts)):
                package = ".".join(parts[:depth])
                if parts[0] != room:
                    assert parts[depth] in exported(package), f"{module} imports {name}: {package} does not name it"


def test_what_a_room_names_is_there_and_wanted() -> None:
    wanted = {name for module in MODULES for name in ours(module) if name.partition(".")[0] != module.partition(".")[0]}
    packages = [name for name, path in MODULES.items() if name and path.name == "__init__.py" and name != "train"]
    for package in packages:
        for name in exported(package):
            assert any(within(each, {f"{package}.{name}"}) for each in wanted), (
                f"no other room imports {package}.{name}"
            )


def test_one_name_a_module() -> None:
    names = [name.rpartition(".")[2] for name in MODULES if MODULES[name].name not in ("__init__.py", "__main__.py")]
    names.remove("client")  # slurm_tf.client is what users' programs import; slurm/client.py has its name from Slurm
    names += [room for room in ROOMS if room not in names]
    assert sorted(name for name in set(names) if names.count(name) > 1) == []


@pytest.mark.parametrize("library", ONLY_IN)
def test_each_library_has_its_room(library: str) -> None:
    users = {module for module, path in MODULES.items() if any(within(name, {library}) for name in imports(path))}
    assert {user for user in users if not within(user, ONLY_IN[library])} == set()


def test_in_the_job_there_is_only_the_standard_library() -> None:
    for module in (name for name in MODULES if within(name, set(STDLIB_ONLY))):
        outside = (
            {name.partition(".")[0] for name in imports(MODULES[module])} - set(sys.stdlib_module_names) - {"slurm_tf"}
        )
        assert outside <= BESIDE_STDLIB.get(module, set()), module


def test_only_the_command_line_prints_and_exits() -> None:
    for module, path in MODULES.items():
        tree = ast.parse(path.read_text())
        calls = {ast.unparse(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
        if within(module, {"cli"}):
            continue
        ends = {"launch", "train.agent_connection", "train.collectives", "train.checkpoint.verify"}
        ends |= {"train.data.service", "train.devices", "predict.shard_process", "serve.replica", "serve.replica_task"}
        allowed = {"sys.exit", "os._exit"} if within(module, ends) else set()
        allowed |= {"print"} if module == "train.progress_reports" else set()
        assert calls & {"print", "sys.exit", "exit", "os._exit", "quit"} <= allowed, module


def test_no_module_takes_in_too_much_and_no_broad_except() -> None:
    for module, path in MODULES.items():
        text = path.read_text()
        assert len(text.splitlines()) <= 400, module
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ExceptHandler):
                caught = ast.unparse(node.type) if node.type else "everything"
                reraises = any(isinstance(inner, ast.Raise) for inner in node.body)
                broad = caught in ("everything", "Exception", "BaseException") and not reraises
                assert not broad or module == "cli.commands", f"{module}:{node.lineno}"


@pytest.mark.slow
def test_no_conditional_expression_is_inside_another() -> None:
    nested = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in [*MODULES.values(), *(ROOT / "tests").rglob("*.py"), *(ROOT / "benchmarks").rglob("*.py")]
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.IfExp) and sum(isinstance(inner, ast.IfExp) for inner in ast.walk(node)) > 1
    ]
    assert not nested, "write an if statement, or a function that returns early"


def test_nothing_goes_through_a_shell() -> None:
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.keyword):
                assert node.arg != "shell", path
            if isinstance(node, ast.Attribute):
                assert ast.unparse(node) not in ("os.system", "os.popen", "pickle.loads", "pickle.load"), path


def test_launch_pyz_is_what_the_launcher_imports() -> None:
    packed = {path for pattern in LAUNCHER_FILES for path in PACKAGE.glob(pattern)}
    assert {MODULES[name] for name in launcher()} | {PACKAGE / "__init__.py"} <= packed
    others = {name for name, path in MODULES.items() if path in packed and name} - launcher()
    assert all(within(name, {"run"}) for name in others)


def test_train_zip_is_what_slurm_tf_train_imports() -> None:
    packed = {path for pattern in TRAIN_FILES for path in PACKAGE.glob(pattern)}
    needed = closure(*(name for name in MODULES if within(name, {"train", "predict.shard_process"})))
    assert {MODULES[name] for name in needed if name} <= packed
    assert not {path for path in PACKAGE.rglob("train/**/*") if path.suffix not in (".py", ".pyc") and path.is_file()}


@pytest.mark.slow
def test_what_runs_on_nodes_runs_on_python_3_9() -> None:
    vermin = Path(sys.executable).parent / "vermin"
    modules = launcher() | closure(
        *(name for name in MODULES if within(name, {"train", "serve.replica", "predict.shard_process"}))
    )
    done = subprocess.run(
        [vermin, "--target=3.9-", "--violations", "--no-tips", "--backport", "typing",
         *(str(MODULES[name]) for name in modules)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def first_sentence(path: Path) -> str:
    """Return the first sentence of a module's docstring."""
    text = ast.get_docstring(ast.parse(path.read_text())) or ""
    return re.split(r"(?<=\.)\s", text, maxsplit=1)[0]


def rows_of_the_page() -> list[str]:
    """Return the rows of docs/house.md: each room, in the order of ROOMS and ORDERS, with its first sentence."""
    rows = []
    for room in ROOMS:
        inner = [f"{room}.{name}" for name in ORDERS.get(room, ())]
        for name in [room, *(each for each in inner if MODULES[each].name == "__init__.py")]:
            path = name.replace(".", "/") + ("/" if MODULES[name].name == "__init__.py" else ".py")
            rows.append(f"| `{path}` | {first_sentence(MODULES[name])} |")
    return rows


def test_the_page_of_the_house_has_each_room_with_its_first_sentence(request: pytest.FixtureRequest) -> None:
    text = PAGE.read_text()
    rows = "".join(f"{row}\n" for row in rows_of_the_page())
    shown = "".join(re.findall(r"^\| `.*\n", text, re.MULTILINE))
    if request.config.getoption("--update-golden"):
        PAGE.write_text(text.replace(shown, rows))
        shown = rows
    assert shown == rows, "pytest --update-golden tests/test_house.py writes the rows anew"
    assert len(PAGE.read_text().splitlines()) <= 70


def test_a_room_imports_only_rooms_above_it_on_the_page() -> None:
    for number, (room, others) in enumerate(ROOMS.items()):
        assert others <= set(list(ROOMS)[:number]), room


def who_imports_whom() -> Iterator[str]:
    """Yield a line a room with the rooms that it imports; `python -m tests.test_house` prints them."""

    def room_of(module: str) -> str:
        parts = module.split(".")
        return ".".join(parts[: 2 if parts[0] in ORDERS else 1])

    edges: dict[str, set[str]] = {}
    for module in MODULES:
        if module not in ("", "__main__"):
            edges.setdefault(room_of(module), set()).update(room_of(name) for name in ours(module))
    for room, others in edges.items():
        yield f"{room}: {', '.join(sorted(others - {room, ''})) or '-'}"


if __name__ == "__main__":
    print("\n".join(who_imports_whom()))
