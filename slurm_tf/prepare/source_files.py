"""The files of a source: which they are, whether they have the stated columns, and what tells that they changed."""

import csv
import glob
import gzip
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, TypeAlias

from slurm_tf.errors import DatasetError
from slurm_tf.files import sha256
from slurm_tf.prepare import image_files, recipe_file
from slurm_tf.prepare.recipe import Source
from slurm_tf.prepare.recipe_file import LoadedRecipe

# The size and the times of a file: they are others once it was written.
Signature: TypeAlias = tuple[tuple[str, int, int], ...]
_WILD = "*?["
_ARRAYS = (".npy", ".npz")
_UTF8_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True)
class SourceFiles:
    """The files of one source, in the order of their names."""

    paths: tuple[str, ...]
    signature: Signature


def of_recipe(recipe: LoadedRecipe) -> dict[str, SourceFiles]:
    """Return the files of each source that has some; each is there and can be read. Raises DatasetError."""
    found = {}
    for name, source in recipe.keys.sources.items():
        if source.format not in recipe_file.SERVERS:
            paths = _paths(recipe, name, source)
            found[name] = SourceFiles(paths, signature(paths))
    return found


def check(name: str, source: Source, files: SourceFiles) -> None:
    """Raise DatasetError for a file that is empty, or does not begin as the schema says."""
    for path in files.paths:
        if os.path.getsize(path) == 0:
            raise DatasetError("the file is empty", f"rows of the source {name}", where=path)
        if source.format == "csv":
            _check_header(source, path)
        if source.format == "images":
            image_files.check(path)


def signature(paths: Iterable[str]) -> Signature:
    """Return the size and the time of the last change of files. Raises DatasetError for one that is not there."""
    found = []
    for path in paths:
        try:
            status = os.stat(path)
            readable = os.access(path, os.R_OK)
        except OSError as error:
            raise DatasetError(
                f"the file cannot be read ({error.strerror})", "a file that can be", where=path
            ) from error
        if not readable or not os.path.isfile(path):
            raise DatasetError("it cannot be read", "a file that can be", where=path)
        found.append((path, status.st_size, status.st_mtime_ns))
    return tuple(found)


def fingerprint(source: Source, files: SourceFiles, folder: str, cpus: int) -> str:
    """Return the SHA-256 of the contents of the files, whatever their order and names; those of folders with names."""
    with ThreadPoolExecutor(cpus) as pool:
        sums = list(pool.map(sha256, files.paths))
    if source.format in recipe_file.FOLDERS:
        sums = [f"{os.path.relpath(path, folder)} {each}" for path, each in zip(files.paths, sums, strict=True)]
    return hashlib.sha256(json.dumps(sorted(sums)).encode()).hexdigest()


def check_unchanged(files: dict[str, SourceFiles]) -> None:
    """Raise DatasetError for a file that was changed since it was looked at."""
    for each in files.values():
        for before, after in zip(each.signature, signature(each.paths), strict=True):
            if before != after:
                do = "prepare again when nothing writes to it"
                raise DatasetError("the file was changed meanwhile", "the same rows to the end", do, before[0])


def open_text(path: str) -> IO[bytes]:
    """Open a file of text, which may be compressed with gzip."""
    return gzip.open(path, "rb") if path.endswith(".gz") else open(path, "rb")  # type: ignore[return-value]


def _paths(recipe: LoadedRecipe, name: str, source: Source) -> tuple[str, ...]:
    found: list[str] = []
    for stated in recipe_file.paths_of(source):
        path = recipe.data_path(stated)
        if source.format in recipe_file.FOLDERS:
            found += _inside(path, source)
        elif any(character in stated for character in _WILD):
            found += sorted(glob.glob(path)) or _missing(name, path)
        else:
            found += [path] if os.path.exists(path) else _missing(name, path)
    return tuple(dict.fromkeys(found))


def _missing(name: str, path: str) -> list[str]:
    raise DatasetError("there is no such file", f"one for the source {name}", where=path)


def _inside(folder: str, source: Source) -> list[str]:
    """Return the files of a folder of images, each of which is in the folder of a class, or of arrays."""
    if not os.path.isdir(folder):
        raise DatasetError("there is no such folder", f"one of {source.format}", where=folder)
    found = _images(folder) if source.format == "images" else _files(folder)
    suffixes = image_files.SUFFIXES if source.format == "images" else _ARRAYS
    if not found:
        needed = "a folder a class with PNG or JPEG files" if source.format == "images" else "files of .npy or .npz"
        raise DatasetError("the folder has no such files", needed, where=folder)
    for path in found:
        if not path.lower().endswith(suffixes):
            raise DatasetError("found a file of another kind", f"only {', '.join(suffixes)}", where=path)
    return found


def _images(folder: str) -> list[str]:
    """Return the files in the folders of classes. Raises DatasetError for images elsewhere, and a class without any."""
    found: list[str] = []
    for path in _entries(folder):
        if os.path.isdir(path):
            images = _files(path)
            if not images:
                raise DatasetError(
                    "the folder of the class has no images", "PNG or JPEG files, or no folder", where=path
                )
            found += images
        elif path.lower().endswith(image_files.SUFFIXES):
            raise DatasetError("found an image of no class", "images in folders, one a class", where=path)
    return found


def _files(folder: str) -> list[str]:
    """Return what is in a folder. Raises DatasetError for a folder in it."""
    found = _entries(folder)
    for path in found:
        if os.path.isdir(path):
            raise DatasetError("found a folder", f"files alone in {folder}", where=path)
    return found


def _entries(folder: str) -> list[str]:
    """Return the paths of what is in a folder, but of hidden files, in the order of their names."""
    return sorted(glob.glob(os.path.join(glob.escape(folder), "*")))


def _check_header(source: Source, path: str) -> None:
    """Raise DatasetError unless the first line of CSV has the names of the columns, and a row comes after it."""
    try:
        with open_text(path) as file:
            line, second = file.readline(), file.readline()
    except (OSError, EOFError) as error:
        raise DatasetError(f"the file cannot be read ({error})", "a file that can be", where=path) from error
    try:
        text = line.removeprefix(_UTF8_MARK).decode().rstrip("\r\n")
    except UnicodeDecodeError as error:
        raise DatasetError("found bytes that are no UTF-8", "text in UTF-8", where=f"{path}: line 1") from error
    names = next(csv.reader([text], delimiter=source.delimiter, quotechar=source.quote), [])
    needed = list(source.columns)
    if names != needed:
        raise DatasetError(
            f"the header is {', '.join(names)}", ", ".join(needed), _header_advice(names, needed), f"{path}: line 1"
        )
    if not second:
        raise DatasetError("there is no row after the header", "rows", where=f"{path}: line 2")


def _header_advice(found: Sequence[str], needed: Sequence[str]) -> str:
    if sorted(found) == sorted(needed):
        return "the order of the columns in the recipe is that of the file"
    if len(found) == 1 and len(needed) > 1:
        return "state the delimiter of the file"
    return "a CSV file begins with the names of its columns"
