"""Run the tests of a module on a copy of the tree in which one place is changed."""

import ast
import fnmatch
import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from tests.mutants.places import Mutant

NOT_COPIED = (".git", ".venv*", "__pycache__", ".mypy_cache", ".ruff_cache", ".hypothesis", "runs", "build", "dist")
COLLECTION_FAILED = (2, 4)  # pytest's exit codes when a test file or conftest.py cannot be imported
# Only the copy can be written, and all processes of the tests end with their pid 1.
IN_NAMESPACES = (
    "unshare", "--fork", "--pid", "--kill-child", "--mount", "--mount-proc", "sh", "-c",
    'mount --bind "$0" "$0" && mount --bind "$0/tmp" /var/tmp && mount -o remount,bind,ro / && exec "$@"',
)  # fmt: skip


@functools.cache
def imported(path: Path) -> set[str]:
    """Return the modules that a file imports, and the names that it imports from modules, which may be modules too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names.update(each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.update([node.module, *(f"{node.module}.{each.name}" for each in node.names)])
    return names


def find_tests(tree: Path, module: str, processes: dict[str, tuple[str, ...]]) -> list[str]:
    """Return the test files of a module, that named after it first; those that need a cluster are not among them."""
    named, importing = [], []
    for path in sorted((tree / "tests").rglob("test_*.py")):
        file = str(path.relative_to(tree))
        if file.startswith(("tests/cluster/", "tests/faults/")):
            continue
        if path.stem == f"test_{module.rpartition('/')[2]}" and file.startswith(f"tests/{module.partition('/')[0]}/"):
            named.append(file)
        elif f"slurm_tf.{module.replace('/', '.')}" in imported(path):
            importing.append(file)
    also = [file for pattern, files in processes.items() if fnmatch.fnmatch(module, pattern) for file in files]
    return list(dict.fromkeys([*named, *importing, *also]))


class Copy:
    """A copy of a tree with a Python environment of its own, in which tests run."""

    def __init__(self, tree: Path, work: Path, markers: str) -> None:
        self.tree, self.work, self.markers = work / "tree", work, markers
        shutil.copytree(tree, self.tree, symlinks=True, ignore=shutil.ignore_patterns(*NOT_COPIED))
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", work / "venv"], check=True, timeout=60)
        packages = [path for path in sys.path if path.endswith("site-packages")]
        [own] = (work / "venv" / "lib").glob("python*/site-packages")
        # An editable install of the tree is a .pth file in one of `packages`; Python does not read it there.
        (own / "copy.pth").write_text("\n".join([str(self.tree), *packages]))
        (work / "tmp").mkdir()

    def run(self, tests: Sequence[str], timeout: float) -> int | None:
        """Return pytest's exit code, None if it took longer."""
        python = str(self.work / "venv" / "bin" / "python")
        argv = [python, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", self.markers, *tests]
        if os.geteuid() == 0:
            argv = [*IN_NAMESPACES, str(self.work), *argv]
        environ = {**os.environ, "TMPDIR": str(self.work / "tmp")}
        with (self.work / "output").open("wb") as output:
            process = subprocess.Popen(
                argv, cwd=self.tree, env=environ, stdout=output, stderr=output, stdin=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
            try:
                return process.wait(timeout)
            except subprocess.TimeoutExpired:
                return None
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                for path in (self.work / "tmp").iterdir():
                    shutil.rmtree(path, ignore_errors=True)

    def outcome(self, mutant: Mutant, tests: Sequence[str], timeout: float) -> str:
        """Return whether the tests see a mutant: killed, survived, timeout; unviable if it cannot be imported."""
        path = self.tree / "slurm_tf" / f"{mutant.module}.py"
        source = path.read_bytes()
        changed = source[: mutant.start] + mutant.replacement.encode() + source[mutant.end :]
        try:
            compile(changed, path, "exec")
        except SyntaxError:
            return "unviable"
        self.write(path, changed)
        try:
            code = self.run(tests, timeout)
        finally:
            self.write(path, source)
        if code in COLLECTION_FAILED:
            return "unviable"
        return {None: "timeout", 0: "survived"}.get(code, "killed")

    @staticmethod
    def write(path: Path, content: bytes) -> None:
        """Write a module, and remove what is compiled of it: that is told from a new one by second and size alone."""
        path.write_bytes(content)
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
            compiled.unlink()
