"""Finds the files to stage on shared storage, with the checksums that a prepared data set states."""

import os
import stat
import threading
from typing import Dict, List, Optional

from slurm_tf import units
from slurm_tf.errors import DatasetError, SlurmTfError, StageError
from slurm_tf.run.stage_plan import StagedFile, StagePlan
from slurm_tf.run.stage_settings import StageSettings

_MIB = 1024 * 1024


class Search:
    """A search for the files to stage, in a thread of its own: a large folder takes long, and storage may hang."""

    def __init__(self, settings: StageSettings) -> None:
        self._settings = settings
        self._found: Optional[StagePlan] = None
        self._error: Optional[Exception] = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def result(self) -> Optional[StagePlan]:
        """Return what was found, None as long as the search runs. Raises StageError."""
        if self._thread.is_alive():
            return None
        if self._error:
            raise self._error
        return self._found

    def _run(self) -> None:
        try:
            self._found = find(self._settings)
        except (SlurmTfError, OSError) as error:
            self._error = error


def find(settings: StageSettings) -> StagePlan:
    """Return the files to copy. Raises StageError for what cannot be staged, and for more than the size bound."""
    found = _Found()
    for name, source in settings.sources().items():
        try:
            found.add(name, source)
        except OSError as error:
            text = f"{error.filename or source} cannot be read ({error.strerror})"
            raise StageError(text, "a file or folder that the batch host can read", _PATHS) from error
    plan = StagePlan(tuple(found.files), tuple(found.folders))
    if settings.size is not None and plan.bytes > settings.size * _MIB:
        bound, size = units.format_memory(settings.size), units.format_bytes(plan.bytes)
        raise StageError(f"found {size} to stage", f"at most {bound}", "a larger size, or fewer paths, in [stage]")
    return plan


_PATHS = "correct paths in [stage]"


class _Found:
    """The files and folders of some sources, in the order of their names."""

    def __init__(self) -> None:
        self.files: List[StagedFile] = []
        self.folders: List[str] = []

    def add(self, name: str, source: str) -> None:
        """Add a source that the job names; it may be a symbolic link. Raises StageError or OSError."""
        status = os.stat(source)
        if stat.S_ISDIR(status.st_mode):
            self._add_folder(name, source, _shards(source))
        else:
            self._add_file(name, source, status, {})

    def _add_folder(self, name: str, source: str, shards: Dict[str, "_Sum"]) -> None:
        self.folders.append(name)
        with os.scandir(source) as entries:
            names = sorted(entry.name for entry in entries)
        for each in names:
            path, below = os.path.join(source, each), os.path.join(name, each)
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                self._add_folder(below, path, {})
            else:
                self._add_file(below, path, status, shards)

    def _add_file(self, name: str, source: str, status: os.stat_result, shards: Dict[str, "_Sum"]) -> None:
        if not stat.S_ISREG(status.st_mode):
            kind = "a symbolic link" if stat.S_ISLNK(status.st_mode) else "no file"
            do = "name what it leads to in [stage], beside the folder" if stat.S_ISLNK(status.st_mode) else ""
            raise StageError(f"{source} is {kind}", "files and folders alone", do)
        shard = shards.get(os.path.basename(source))
        if shard and shard.bytes != status.st_size:
            found = f"{source} has {status.st_size} bytes, and its manifest says {shard.bytes}"
            raise StageError(found, "a data set as it was prepared", f"slurm-tf data verify {os.path.dirname(source)}")
        sha256 = shard.sha256 if shard else ""
        self.files.append(StagedFile(name, source, status.st_size, status.st_mtime_ns, sha256))


class _Sum:
    """What a manifest says of a shard's file."""

    def __init__(self, size: int, sha256: str) -> None:
        self.bytes, self.sha256 = size, sha256


def _shards(folder: str) -> Dict[str, _Sum]:
    """Return the shards of a prepared data set by their names; none of another folder."""
    # most jobs stage nothing, and need none of the modules that read manifests
    from slurm_tf.dataset import dataset_manifest  # noqa: PLC0415

    if not os.path.exists(dataset_manifest.path(folder)):
        return {}
    try:
        manifest = dataset_manifest.read(folder)
    except DatasetError:  # another program's file of that name: its folder is copied as any other
        return {}
    return {shard.name: _Sum(shard.bytes, shard.sha256) for split in manifest.splits for shard in split.shards}
