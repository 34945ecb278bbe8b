"""Packs modules of slurm-tf for the nodes, into one file each: the launcher, and slurm_tf.train with what it needs.

Each file to open costs time on a slow file system. The same sources and Python give the same bytes.
"""

import contextlib
import hashlib
import importlib.util
import io
import marshal
import os
import struct
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path

from slurm_tf import __version__, files, search_path
from slurm_tf.errors import RunError

# The modules of the launcher.
LAUNCHER_FILES = (
    "__init__.py",
    "errors.py",
    "files.py",
    "units.py",
    "slurm/__init__.py",
    "slurm/container_refusal.py",
    "slurm/hostlist.py",
    "slurm/in_job.py",
    "slurm/out_of_memory.py",
    "slurm/sbatch_variables.py",
    "slurm/step_refusal.py",
    "run/*.py",
    "dataset/__init__.py",
    "dataset/dataset_manifest.py",
    "dataset/format_json.py",
    "dataset/schema.py",
    "dataset/statistics.py",
    "launch/**/*.py",
)
# The modules of slurm_tf.train and predict, beside the package's own __init__.py.
TRAIN_FILES = (
    "errors.py",
    "files.py",
    "units.py",
    "run/*.py",
    "dataset/*.py",
    "models/*.py",
    "export/*.py",
    "train/**/*.py",
    "predict/*.py",
)
# Slurm reads a TaskProlog's stderr as it reads its stdout: a line is shown to the user if it begins with "print".
_MAIN = b"""import sys
if sys.version_info < (3, 9):
    sys.exit("%sslurm-tf: found Python %s; needed 3.9 or later for the launcher" % (
        "print " if "task-prolog" in sys.argv[1:2] else "", sys.version.split()[0]))
from slurm_tf.launch.__main__ import main

main()
"""
# PYTHONPATH comes before the packages that a Python has: this one steps behind them. It takes the place of the
# package's own __init__.py; the import system takes the module that sys.modules has after it.
_STEPS_BEHIND = """\"\"\"slurm-tf, as it travels with a run: an installed slurm-tf comes before it.\"\"\"

import importlib.util
import sys

__version__ = {version!r}


def _installed():
    \"\"\"Return the spec of the package that would be found without this file, None if there is none.\"\"\"
    path = sys.path[:]
    sys.path[:] = [each for each in path if each != __loader__.archive]
    try:
        found = [finder.find_spec(__name__, None) for finder in sys.meta_path if hasattr(finder, "find_spec")]
    finally:
        sys.path[:] = path
    # one without a loader is just a folder of that name
    return next((spec for spec in found if spec is not None and spec.loader is not None), None)


_spec = _installed()
if _spec is not None:
    _module = sys.modules[__name__] = importlib.util.module_from_spec(_spec)
    _spec.loader.exec_module(_module)
elif sys.version_info < (3, 9):
    raise ImportError("found Python %s; needed 3.9 or later for slurm_tf.train" % sys.version.split()[0])
"""
_PACKAGE = Path(__file__).resolve().parent.parent
_CHECKSUM_BYTES = hashlib.sha256().digest_size
_MAX_KEPT = 8  # of 0.7 MB each: releases and Pythons that a user has at once
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a zip file can hold


def launcher() -> bytes:
    """Return the bytes of launch.pyz.

    Each module is there as source, for any Python from 3.9, and compiled for this one (a hash-based .pyc that is not
    checked): 30 ms less at the start of every agent whose Python is the same. Compiling takes a quarter of a second, so
    the user's cache folder keeps the result.
    """
    modules = [("__main__.py", _MAIN), *_sources(LAUNCHER_FILES)]
    digest = hashlib.sha256(importlib.util.MAGIC_NUMBER)
    for name, source in modules:
        digest.update(b"%s %d " % (name.encode(), len(source)) + source)
    path = search_path.user_cache() / "launchers" / f"{digest.hexdigest()}.pyz"
    archive = _kept(path)
    if archive is None:
        archive = _with_compiled(modules)
        _keep(path, archive)
    return archive


def _with_compiled(modules: Iterable[tuple[str, bytes]]) -> bytes:
    """Return a zip file of modules and, but for __main__.py, of what Python compiles them to."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in modules:
            _add(archive, name, source)
            if name != "__main__.py":
                _add(archive, f"{name}c", _compiled(source, name))
    return buffer.getvalue()


def _kept(path: Path) -> bytes | None:
    """Return what `_keep` wrote; None if it is not there, is damaged, or can be changed by another user."""
    try:
        files.check_own(str(path.parent))
        files.check_own(str(path))
        data = path.read_bytes()
    except (OSError, RunError):
        return None
    checksum, archive = data[:_CHECKSUM_BYTES], data[_CHECKSUM_BYTES:]
    return archive if hashlib.sha256(archive).digest() == checksum else None


def _keep(path: Path, archive: bytes) -> None:
    """Write an archive and its checksum where that can be done, and remove the oldest of more than _MAX_KEPT."""
    with contextlib.suppress(OSError, RunError):
        files.own_folder(str(path.parent.parent))
        files.own_folder(str(path.parent))
        files.write_whole(str(path), hashlib.sha256(archive).digest() + archive)
        for old in sorted(path.parent.glob("*.pyz"), key=os.path.getmtime)[:-_MAX_KEPT]:
            old.unlink()


def train_library() -> bytes:
    """Return the bytes of train.zip, from which a program imports slurm_tf.train if its own Python has none."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "slurm_tf/__init__.py", _STEPS_BEHIND.format(version=__version__).encode())
        for name, data in _sources(TRAIN_FILES):
            _add(archive, name, data)
    return buffer.getvalue()


def _sources(patterns: tuple[str, ...]) -> Iterator[tuple[str, bytes]]:
    """Yield the name in an archive and the text of each module."""
    for pattern in patterns:
        for path in sorted(_PACKAGE.glob(pattern)):
            yield f"slurm_tf/{path.relative_to(_PACKAGE).as_posix()}", path.read_bytes()


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, data)


def _compiled(source: bytes, name: str) -> bytes:
    """Return a .pyc as PEP 552 describes it, with flags 0b01: hash-based, not to be checked."""
    code = compile(source, name, "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + struct.pack("<I", 1) + importlib.util.source_hash(source) + marshal.dumps(code)
