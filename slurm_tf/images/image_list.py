"""Lists the images below a folder: name, kind, size, and the versions that a look into a folder tells. Runs none."""

import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from slurm_tf.run import image_kind
from slurm_tf.run.image_kind import ImageKind

# Folders of folders of images, such as images/tensorflow/2.21.sqfs.
_DEPTH = 4
# The sizes of all folders together are counted for so long: on a parallel file system each file takes a question.
_SECONDS = 10.0
# Where a program of an image finds its Python, and Python its packages: those of Debian, Red Hat, Docker's, conda.
_PROGRAMS = ("usr/local/bin", "opt/conda/bin", "usr/bin")
_PACKAGES = (
    "usr/local/lib/python3*/*-packages",
    "usr/local/lib64/python3*/site-packages",
    "opt/*/lib/python3*/site-packages",
    "usr/lib/python3*/*-packages",
)
_PYTHON = re.compile(r"python(3\.\d+)")
_TENSORFLOW = re.compile(r"(?:tensorflow(?:_cpu|_gpu|_rocm|_intel|_cpu_aws)?|tf_nightly)-(\d[^-]*)\.dist-info")


@dataclass(frozen=True, slots=True)
class ListedImage:
    """One image. `size`: in bytes, None where counting it would take too long; `changed`: seconds since the epoch.

    `python`, `tensorflow`: their versions, None where a look into a folder does not tell; `problem`: why nothing is
    known of it.
    """

    name: str
    path: str
    kind: str | None
    size: int | None = None
    changed: float | None = None
    python: str | None = None
    tensorflow: str | None = None
    problem: str | None = None


def images(folder: str, clock: Callable[[], float] = time.monotonic) -> list[ListedImage]:
    """Return the images below `folder`, by name; those of a name that begins with "." are unfinished. Raises OSError.

    `clock`: seconds, by which counting sizes ends.
    """
    until = clock() + _SECONDS
    found = [_described(folder, path, kind, problem, until, clock) for path, kind, problem in _found(folder, _DEPTH)]
    return sorted(found, key=lambda each: each.name)


def _found(folder: str, depth: int) -> Iterator[tuple[str, ImageKind | None, str]]:
    """Yield the path and kind of each image, and of what cannot be read why not. A link is an image, not a way on."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.startswith("."):
            continue
        try:
            kind = image_kind.of(path)
            if kind:
                yield path, kind, ""
            elif depth > 1 and os.path.isdir(path) and not os.path.islink(path):
                yield from _found(path, depth - 1)
        except OSError as error:
            yield path, None, error.strerror or str(error)


def _described(
    folder: str, path: str, kind: ImageKind | None, problem: str, until: float, clock: Callable[[], float]
) -> ListedImage:
    name = os.path.relpath(path, folder)
    if kind is None:
        return ListedImage(name, path, None, problem=problem)
    status = os.stat(path)
    if kind.is_file:
        return ListedImage(name, path, kind.value, status.st_size, status.st_mtime)
    root = Path(path, "rootfs") if kind is ImageKind.OCI_BUNDLE else Path(path)
    python, tensorflow = versions(root)
    return ListedImage(name, path, kind.value, _size(path, until, clock), status.st_mtime, python, tensorflow)


def versions(root: Path) -> tuple[str | None, str | None]:
    """Return the versions of Python and TensorFlow in an image's root, None for one that a look does not tell."""
    for pattern in _PACKAGES:
        for packages in sorted(_inside(root, pattern)):
            for name in _names(packages):
                if match := _TENSORFLOW.fullmatch(name):
                    own = _PYTHON.fullmatch(packages.parent.name)
                    return (own[1] if own else _python(root)), match[1]
    return _python(root), None


def _inside(root: Path, pattern: str) -> Iterator[Path]:
    """Yield the folders of a pattern; a link to a path from the root would lead out of the image."""
    real = root.resolve()
    for path in root.glob(pattern):
        if path.is_dir() and path.resolve().is_relative_to(real):
            yield path


def _python(root: Path) -> str | None:
    """Return the version of the image's python3, as the name of a program beside it tells."""
    for folder in _PROGRAMS:
        names = _names(root / folder)
        if "python3" not in names:
            continue
        program = root / folder / "python3"
        target = os.path.basename(os.readlink(program)) if program.is_symlink() else ""
        found = _PYTHON.fullmatch(target) or next(filter(None, map(_PYTHON.fullmatch, sorted(names))), None)
        return found[1] if found else None
    return None


def _names(folder: Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _size(path: str, until: float, clock: Callable[[], float]) -> int | None:
    """Return the bytes of all files of a folder, None where time runs out; what cannot be read counts nothing."""
    total, seen = 0, set[tuple[int, int]]()
    for folder, _, names in os.walk(path):
        if clock() > until:
            return None
        for name in names:
            try:
                status = os.lstat(os.path.join(folder, name))
            except OSError:
                continue
            place = (status.st_dev, status.st_ino)
            total += 0 if place in seen else status.st_size
            if status.st_nlink > 1:
                seen.add(place)
    return total
