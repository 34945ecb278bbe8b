"""The versions of a model in its folder, its base path for TensorFlow Serving. Standard library, Python 3.9.

    digits/                            the model
      1/  2/  3/                       versions: SavedModels; each appears by one rename and never changes
        saved_model.pb  variables/  assets/
        assets.extra/slurm_tf.json     its manifest: see model_manifest.py
        assets.extra/tf_serving_warmup_requests
      .rejected/4/                     a version that is not served: it failed its check, or is worse than another
      .export-5/                       a version that is being written, or that an exporter left when it was killed
      .removed-1/                      a version that is being removed: see old_versions.py
      serving.json                     which versions are served: see serving_file.py

As for TensorFlow Serving a version is a folder whose name is a number, which may begin with zeros. A folder without a
SavedModel is none, nor one whose files are not those of its manifest: a copy that has not ended, or never will.
"""

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from typing import Callable, Iterator, List, Optional, Tuple, Union

from slurm_tf import files
from slurm_tf.errors import ModelError, RunError
from slurm_tf.models import model_manifest
from slurm_tf.models.model_manifest import FileDigest, ModelManifest

REJECTED = ".rejected"
# One of them is what makes a folder a SavedModel (tensorflow/python/saved_model/constants.py).
SAVED_MODEL = ("saved_model.pb", "saved_model.pbtxt")
# Version numbers are int64 in TensorFlow Serving's messages.
LARGEST = 2**63 - 1
_NUMBER = re.compile(r"[0-9]+", re.ASCII)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Version:
    """A whole version of a model; `manifest` is None for a SavedModel that slurm-tf has not exported."""

    number: int
    path: str
    manifest: Optional[ModelManifest]


def listed(base: str) -> Iterator[Tuple[int, str, Union[Version, str]]]:
    """Yield number and path of each version in the folder `base`, newest first, with it or why it is none.

    Of two folders with one number, such as 7 and 007, the one with fewer zeros counts. Raises OSError.
    """
    seen = set()
    for number, name in numbered(base):
        version = os.path.join(base, name)
        if number in seen:
            yield number, version, f"version {number} has two folders"
            continue
        found = _version(number, version)
        if isinstance(found, Version):
            seen.add(number)
        yield number, version, found


def versions(base: str, report: Callable[[str], None] = lambda _: None) -> Tuple[Version, ...]:
    """Return the whole versions in the folder `base`, newest first; `report` gets a line about each other one.

    Raises OSError.
    """
    found: List[Version] = []
    for _, version, each in listed(base):
        if isinstance(each, Version):
            found.append(each)
        else:
            report(f"{version} is left out: {each}")
    return tuple(found)


def find(base: str, number: Optional[int] = None) -> Version:
    """Return a version of the model in the folder `base`, the newest one by default. Raises ModelError, OSError."""
    if not os.path.isdir(base):
        raise ModelError("there is no such folder", "the folder of a model, with its versions", where=base)
    whole = versions(base)
    for version in whole:
        if number in (None, version.number):
            return version
    known = ", ".join(str(version.number) for version in whole)
    found = "there is no version" if number is None else f"there is no version {number}"
    raise ModelError(found, f"one of {known}" if known else "a version", "slurm-tf export makes one", where=base)


def numbered(folder: str) -> List[Tuple[int, str]]:
    """Return number and name of all that is named as a version in a folder, newest first. Raises OSError."""
    names = [name for name in os.listdir(folder) if _NUMBER.fullmatch(name) and int(name) <= LARGEST]
    return sorted(((int(name), name) for name in names), key=lambda each: (-each[0], len(each[1])))


def rejected(base: str) -> List[Tuple[int, str]]:
    """Return number and path of each version that is kept aside, newest first."""
    folder = os.path.join(base, REJECTED)
    found = numbered(folder) if os.path.isdir(folder) else []
    return [(number, os.path.join(folder, name)) for number, name in found]


def check_own(base: str, version: str = "") -> None:
    """Raise ModelError if another user than us and root can change the folder of a model, or what a version holds.

    A SavedModel runs its author's code with the rights of the process that loads it. `version`: the version's folder,
    of which every file is looked at; "" for none. Raises OSError.
    """
    try:
        files.check_own(base, sticky=False)
        for each in _contents(version) if version else ():
            files.check_own(each, sticky=False)
    except RunError as error:
        raise ModelError(error.found, f"{error.needed}: a SavedModel runs its author's code", error.do) from error


def digests(version: str) -> Iterator[Tuple[str, FileDigest]]:
    """Yield each file below a version's folder, by its path from there, but its manifest. Raises OSError."""
    for path in sorted(_contents(version)):
        name = os.path.relpath(path, version)
        if name != model_manifest.NAME and not os.path.isdir(path):
            yield name, _digest(path)


def damages(version: Version) -> List[str]:
    """Return what is wrong with the files of a version, a line each, by the checksums of its manifest.

    Reads all files. Without a manifest nothing can be compared: ModelError is raised. Raises OSError.
    """
    if version.manifest is None:
        raise ModelError("it has no manifest", "a version that slurm-tf exported", where=version.path)
    found, expected = dict(digests(version.path)), version.manifest.files
    lines = [f"{name} is not what was written" for name in found if name in expected and found[name] != expected[name]]
    lines += [f"{name} is missing" for name in expected if name not in found]
    return lines + [f"{name} was not written by slurm-tf" for name in found if name not in expected]


def _version(number: int, path: str) -> Union[Version, str]:
    """Return the version in a folder, or why there is none."""
    if not any(os.path.isfile(os.path.join(path, name)) for name in SAVED_MODEL):
        return f"it has no {SAVED_MODEL[0]}"
    try:
        manifest = model_manifest.read(path)
    except (ModelError, OSError) as error:
        return str(error)
    for name, expected in manifest.files.items() if manifest else ():
        try:
            size = os.path.getsize(os.path.join(path, name))
        except OSError as error:
            return f"{name}: {error.strerror}"
        if size != expected.bytes:
            return f"{name} has {size} bytes, not {expected.bytes}"
    return Version(number, path, manifest)


def _contents(version: str) -> Iterator[str]:
    """Yield a version's folder and all files and folders in it. Raises ModelError for a link to a folder, OSError."""
    yield version
    for path, folders, names in os.walk(version, onerror=_raise):
        for name in (*folders, *names):
            yield os.path.join(path, name)
        for name in folders:
            if os.path.islink(os.path.join(path, name)):
                raise ModelError(f"{os.path.join(path, name)} leads to another folder", "a folder")


def _raise(error: OSError) -> None:
    raise error


def _digest(path: str) -> FileDigest:
    hashed, size = hashlib.sha256(), 0
    with open(path, "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ModelError(f"{path} is no file", "files and folders alone")
        while chunk := file.read(_CHUNK):
            hashed.update(chunk)
            size += len(chunk)
    return FileDigest(size, hashed.hexdigest())
