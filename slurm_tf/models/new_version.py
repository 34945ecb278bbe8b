"""Writes a new version of a model: into a folder that nobody looks at, flushed, renamed. Standard library, Python 3.9.

The folder `.export-N` is made by mkdir(2), which only one of several exporters can do, so it claims the number N as
well. The version appears as N by one rename, or as .rejected/N. An exporter that is killed leaves its folder, and no
version gets that number.
"""

import contextlib
import os
import re
import shutil
import time
from dataclasses import dataclass
from typing import Callable, List, Tuple

from slurm_tf import files
from slurm_tf.errors import ModelError, RunError
from slurm_tf.models import model_manifest, model_versions
from slurm_tf.models.model_manifest import ModelManifest

_CLAIM = ".export-"
_CLAIMED = re.compile(rf"{re.escape(_CLAIM)}([0-9]+)", re.ASCII)
# After so many seconds without a change in it, the folder of an exporter is one that was left.
_LEFT = 24 * 3600.0


@dataclass(frozen=True)
class NewVersion:
    """A version that is being written: the SavedModel and its assets go into `path`."""

    base: str
    number: int
    path: str

    def commit(self, manifest: ModelManifest, fence: Callable[[], None] = lambda: None) -> str:
        """Write the manifest, flush all files and rename the version, or keep it aside if it is rejected.

        Returns its path. `fence` is called before the rename: what it raises leaves no version. Raises OSError.
        """
        folder = self.base
        if manifest.rejected:
            folder = os.path.join(self.base, model_versions.REJECTED)
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, _modes(self.base)[1])
        file_mode, folder_mode = _modes(self.base)
        os.makedirs(os.path.join(self.path, model_manifest.EXTRA), exist_ok=True)
        model_manifest.write(self.path, manifest, file_mode)
        for each, names, children in os.walk(self.path, topdown=False):
            for name in children:
                os.chmod(os.path.join(each, name), file_mode)
                files.sync(os.path.join(each, name))
            for name in (*names, os.curdir):
                os.chmod(os.path.join(each, name), folder_mode)
            files.sync(each)
        final = os.path.join(folder, str(self.number))
        fence()
        os.rename(self.path, final)
        files.sync(folder)
        files.sync(self.base)
        return final

    def abandon(self) -> None:
        """Remove what was written."""
        shutil.rmtree(self.path, ignore_errors=True)


def begin(base: str) -> NewVersion:
    """Return a new version of the model in the folder `base`, with the next number; the folder is made if need be.

    What an exporter left a day ago is removed. Raises ModelError for a folder that others can change, OSError.
    """
    try:
        files.own_folder(base)
    except RunError as error:
        raise ModelError(error.found, error.needed, error.do) from error
    model_versions.check_own(base)
    _remove_left(base)
    number = max(_numbers(base), default=0) + 1
    while True:
        path = os.path.join(base, f"{_CLAIM}{number}")
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            number += 1
            continue
        # another exporter may have renamed its folder to this number since the numbers were read
        if number not in _numbers(base, claims=False):
            return NewVersion(base, number, path)
        os.rmdir(path)
        number += 1


def _numbers(base: str, claims: bool = True) -> List[int]:
    """Return all numbers that are taken: by versions, by those kept aside, and by those that are being written."""
    numbers = [number for number, _ in (*model_versions.numbered(base), *model_versions.rejected(base))]
    if claims:
        matches = [_CLAIMED.fullmatch(name) for name in os.listdir(base)]
        numbers += [int(match[1]) for match in matches if match]
    return numbers


def _remove_left(base: str) -> None:
    for name in os.listdir(base):
        path = os.path.join(base, name)
        if _CLAIMED.fullmatch(name):
            changed = max(files.newest(path), _changed(path)) / 1e9
            if changed and changed < time.time() - _LEFT:
                shutil.rmtree(path, ignore_errors=True)


def _changed(path: str) -> int:
    """Return the change time of a folder in nanoseconds; 0 if it has gone."""
    with contextlib.suppress(OSError):
        return os.lstat(path).st_mtime_ns
    return 0


def _modes(base: str) -> Tuple[int, int]:
    """Return the modes of files and folders in the folder of a model: a group may read where it may read that."""
    return (files.SHARED_FILE, files.SHARED_FOLDER) if files.is_shared(base) else (0o600, 0o700)
