"""Warns of programs that use Horovod's DistributedOptimizer with Keras 3, where each rank may train its own model.

Horovod 0.28.1 averages gradients in `compute_gradients` (horovod/_keras/__init__.py), which Keras 3 never calls: the
gradients are not averaged and nothing is printed. The program's source is parsed to find out; it is not run.
"""

import ast
import os
import re
import subprocess
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Mapping, Sequence, Set, Tuple

from slurm_tf.errors import SlurmTfError

_LEGACY = "TF_USE_LEGACY_KERAS"
_OPTIMIZERS = {f"horovod.{room}.DistributedOptimizer" for room in ("keras", "tensorflow", "tensorflow.keras")}
_KERAS = ("keras", "tensorflow.keras", "tf_keras")
# limits in case the program imports from a very large folder; its own files are few
_MAX_FILES, _MAX_BYTES = 100, 1 << 20
_VERSION = "import importlib.metadata; print(importlib.metadata.version('keras'))"
_VERSION_SECONDS = 10.0


@dataclass
class _Sources:
    """What the source files of a program use. `used`: "file:line" of each use of DistributedOptimizer, by its name.

    `keras`: Keras packages; `legacy`: whether TF_USE_LEGACY_KERAS is named; `checked`: whether slurm_tf.train is
    imported, which checks this itself.
    """

    used: Dict[str, str] = field(default_factory=dict)
    keras: Set[str] = field(default_factory=set)
    legacy: bool = False
    checked: bool = False


def warning(argv: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return a warning for a program that is about to start with `environ` in this folder; "" if there is none.

    Takes at most 10 s, and raises nothing.
    """
    sources = _read_sources(argv)
    if sources.checked or not sources.used or not _with_keras_3(sources, environ):
        return ""
    version = _keras_version(argv, environ)
    if version and int(version.partition(".")[0]) < 3:
        return ""
    where = next(iter(sources.used.values()))
    has = f"its Python has Keras {version}" if version else "which Keras its Python has is not known"
    return "warning: " + str(
        SlurmTfError(
            f"{where} uses Horovod's DistributedOptimizer, and {has}: with Keras 3 it may average nothing and say "
            "nothing, so each rank trains a model of its own while its loss falls",
            "slurm_tf.train, which averages and checks",
            "or hvd.DistributedGradientTape, with tape.gradient(loss, [v.value for v in model.trainable_variables]), "
            f"or {_LEGACY}=1 with tf_keras; docs/horovod.md has a program for each",
        )
    )


def _with_keras_3(sources: _Sources, environ: Mapping[str, str]) -> bool:
    """Whether the program uses a Keras that may be version 3: any but that of tf_keras."""
    if "keras" in sources.keras:
        return True
    # as tensorflow/python/util/lazy_loader.py reads it
    if sources.legacy or environ.get(_LEGACY) in ("true", "True", "1"):
        return False
    # horovod.tensorflow has one for optimizers of tf.compat.v1 too
    return "tensorflow.keras" in sources.keras or (not sources.keras and any("keras" in name for name in sources.used))


def _read_sources(argv: Sequence[str]) -> _Sources:
    """Read the program that `argv` names, and the modules beside it that it imports."""
    sources = _Sources()
    roots, waiting = _program(argv)
    known = set(waiting)
    while waiting and not sources.checked:
        path = waiting.pop(0)
        try:
            with open(path, "rb") as file:
                tree = ast.parse(file.read(_MAX_BYTES))
        except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
            continue  # not Python, or of a newer version than this one
        for module in _read(tree, path, sources):
            for found in _files(roots, module, path):
                if found not in known and len(known) < _MAX_FILES:
                    known.add(found)
                    waiting.append(found)
    return sources


def _program(argv: Sequence[str]) -> Tuple[str, List[str]]:
    """Return the folder that the program imports from, and its file: that of `python -m`, or the first *.py."""
    for before, argument in zip(["", *argv], argv):
        if before == "-m":
            return os.curdir, list(_files(os.curdir, argument, ""))
        if argument.endswith(".py") and os.path.isfile(argument):
            return os.path.dirname(argument) or os.curdir, [argument]
    return os.curdir, []


def _files(root: str, module: str, importer: str) -> Iterator[str]:
    """Yield the files of `module` that are there: itself, and `a/b.py` of `from a import b`."""
    dots = len(module) - len(module.lstrip("."))
    folder = importer if dots else root
    for _ in range(dots):
        folder = os.path.dirname(folder)
    stem = os.path.join(folder, *module[dots:].split("."))
    for path in (f"{stem}.py", os.path.join(stem, "__main__.py"), os.path.join(stem, "__init__.py")):
        if os.path.isfile(path):
            yield os.path.normpath(path)


def _read(tree: ast.AST, path: str, sources: _Sources) -> List[str]:
    """Add what one file shows to `sources`; return the modules that it imports."""
    names, modules = _imports(tree)
    sources.checked |= any(f"{module}.".startswith("slurm_tf.train.") for module in modules)
    dotted = [
        (_dotted(node, names), node.lineno) for node in ast.walk(tree) if isinstance(node, (ast.Attribute, ast.Name))
    ]
    for name, line in sorted(dotted, key=lambda each: each[1]):
        if name in _OPTIMIZERS:
            sources.used.setdefault(name, f"{os.path.basename(path)}:{line}")
    for name in [*modules, *(name for name, _ in dotted)]:
        sources.keras |= {keras for keras in _KERAS if f"{name}.".startswith(f"{keras}.")}
    constants = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant))
    sources.legacy |= any(value == _LEGACY for value in constants)
    return modules


def _imports(tree: ast.AST) -> Tuple[Dict[str, str], List[str]]:
    """Return the full name of each imported name, and the name of every module that may be imported."""
    names: Dict[str, str] = {}
    modules: List[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
                modules.append(alias.name)
        elif isinstance(node, ast.ImportFrom):
            parent = "." * node.level + (node.module or "")
            modules.append(parent)
            for alias in node.names:
                whole = f"{parent}{'' if parent.endswith('.') else '.'}{alias.name}"
                names[alias.asname or alias.name] = whole
                modules.append(whole)
    return names, modules


def _dotted(node: ast.AST, names: Mapping[str, str]) -> str:
    """Return the full name of a name such as `hvd.DistributedOptimizer`; "" if it begins with no imported one."""
    parts: List[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in names:
        return ""
    return ".".join([names[node.id], *reversed(parts)])


def _keras_version(argv: Sequence[str], environ: Mapping[str, str]) -> str:
    """Return the version of the Keras that the program's Python has, "" if that is not known.

    Only a command named python is run for it: a container or a profiler may have side effects.
    """
    if not re.fullmatch(r"python[\d.]*", os.path.basename(argv[0])):
        return ""
    try:
        done = subprocess.run(
            [argv[0], "-c", _VERSION],
            env=dict(environ),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_VERSION_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.match(rb"\d+\.\S+", done.stdout)
    return found[0].decode("ascii", "replace") if found and done.returncode == 0 else ""
