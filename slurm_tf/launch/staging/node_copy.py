"""Copies the files of a plan to a node's scratch, several at a time, and checks each copy before it counts."""

import contextlib
import hashlib
import os
import queue
import shutil
import stat
import threading
from dataclasses import dataclass
from io import FileIO
from typing import Optional, Tuple

from slurm_tf import units
from slurm_tf.errors import StageError
from slurm_tf.launch.staging.stage_folder import StageFolder, is_full
from slurm_tf.run.stage_plan import StagedFile, StagePlan

# One stream from shared storage is slower than its network, and many small files wait for one answer each.
STREAMS = 4
_BLOCK = 4 * 1024 * 1024


@dataclass(frozen=True)
class Failure:
    """Why a node has not all copies. `is_of_scratch`: what is on shared storage can be read all the same."""

    error: StageError
    is_of_scratch: bool


class _StopError(Exception):
    """The copy is not wanted any more."""


class NodeCopy:
    """One copy, in threads of its own. `folder`: where programs find the files."""

    def __init__(self, plan: StagePlan, stage: StageFolder) -> None:
        self._plan, self._stage = plan, stage
        self._stop, self._done = threading.Event(), threading.Event()
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[Tuple[int, StagedFile]] = queue.SimpleQueue()
        self.folder = stage.copies
        self.failure: Optional[Failure] = None
        self.wanted, self.copied, self.kept = plan.bytes, 0, 0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wait(self, seconds: float) -> bool:
        """Wait for the end; return whether it has come."""
        return self._done.wait(seconds)

    def stop(self, seconds: float) -> None:
        """Leave the rest: what is whole stays. Waits until nothing is written any more, at most `seconds`."""
        self._stop.set()
        self._done.wait(seconds)

    def _run(self) -> None:
        try:
            self._copy_all()
        except StageError as error:
            self._fail(Failure(error, is_of_scratch=True))
        except OSError as error:
            self._fail(Failure(self._scratch_error(error), is_of_scratch=True))
        finally:
            self._done.set()

    def _copy_all(self) -> None:
        if not self._stage.lock(self._stop.wait):
            return
        shutil.rmtree(self._stage.parts, ignore_errors=True)
        os.mkdir(self._stage.parts, 0o700)
        os.makedirs(self.folder, 0o700, exist_ok=True)
        self._remove_others()
        missing = [file for file in self._plan.files if not self._is_kept(file)]
        self.wanted = sum(file.bytes for file in missing)
        self.kept = self._plan.bytes - self.wanted
        self._check_room()
        for each in self._plan.folders:
            os.makedirs(os.path.join(self.folder, each), 0o700, exist_ok=True)
        for number, file in enumerate(missing):
            self._queue.put((number, file))
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(min(STREAMS, len(missing)))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        shutil.rmtree(self._stage.parts, ignore_errors=True)

    def _remove_others(self) -> None:
        """Remove what the plan does not name: links that a program made, files of a data set that was read before."""
        wanted = {file.name for file in self._plan.files}
        folders = set(self._plan.folders)
        for path, names, file_names in os.walk(self.folder):
            below = os.path.relpath(path, self.folder)
            for name in list(names):
                full = os.path.join(path, name)
                if os.path.normpath(os.path.join(below, name)) not in folders or os.path.islink(full):
                    names.remove(name)
                    _remove(full)
            for name in file_names:
                if os.path.normpath(os.path.join(below, name)) not in wanted:
                    os.unlink(os.path.join(path, name))

    def _is_kept(self, file: StagedFile) -> bool:
        """Whether the copy of an earlier attempt is there: it got its name only once it was whole and checked."""
        path = os.path.join(self.folder, file.name)
        try:
            status = os.lstat(path)
        except FileNotFoundError:
            return False
        if stat.S_ISREG(status.st_mode) and (status.st_size, status.st_mtime_ns) == (file.bytes, file.changed):
            return True
        _remove(path)  # its room counts as free
        return False

    def _check_room(self) -> None:
        found = os.statvfs(self.folder)
        free = found.f_bavail * found.f_frsize
        if free < self.wanted:
            raise self._full(f"{units.format_bytes(free)} free")

    def _full(self, found: str) -> StageError:
        return StageError(
            f"found {found} in {os.path.dirname(os.path.dirname(self.folder))}",
            f"{units.format_bytes(self.wanted)} for the files of [stage]",
            "fewer paths, nodes with more room (`tmp` in [sbatch]), or optional = true",
        )

    def _fail(self, failure: Failure) -> None:
        """Record the first failure; one that is not of scratch counts more."""
        with self._lock:
            if self.failure is None or (self.failure.is_of_scratch and not failure.is_of_scratch):
                self.failure = failure
        self._stop.set()

    def _work(self) -> None:
        """Copy files until none is left."""
        while not self._stop.is_set():
            try:
                number, file = self._queue.get_nowait()
            except queue.Empty:
                return
            try:
                self._copy(file, os.path.join(self._stage.parts, str(number)))
            except _StopError:
                return
            except StageError as error:
                self._fail(Failure(error, is_of_scratch=False))
            except OSError as error:
                self._fail(Failure(self._scratch_error(error), is_of_scratch=True))

    def _scratch_error(self, error: OSError) -> StageError:
        if is_full(error):
            return self._full("no room left")
        return StageError(f"{error.filename or self.folder} cannot be written ({error.strerror})", "a working scratch")

    def _copy(self, file: StagedFile, part: str) -> None:
        """Copy one file aside, check the copy, give it its name.

        Raises StageError for the source and for a copy that differs from it, OSError for scratch.
        """
        with _opened(file) as source, FileIO(part, "xb", opener=_private) as target:
            read = self._transfer(file, source, target)
            if os.fstat(source.fileno()).st_mtime_ns != file.changed:
                raise StageError(f"{file.source} has changed while it was copied", "files that nobody writes")
            os.fsync(target.fileno())
        found = self._sha256(part)
        if found != (file.sha256 or read):
            self._refuse(file, part, read, found)
        os.utime(part, ns=(file.changed, file.changed))
        os.rename(part, os.path.join(self.folder, file.name))

    def _transfer(self, file: StagedFile, source: FileIO, target: FileIO) -> str:
        """Copy the bytes; return the SHA-256 of what was read."""
        digest, left, buffer = hashlib.sha256(), file.bytes, memoryview(bytearray(min(_BLOCK, file.bytes + 1)))
        while True:
            try:
                count = source.readinto(buffer)
            except OSError as error:
                raise _source_error(file, error) from error
            left -= count
            if left < 0 or (not count and left):
                raise StageError(f"{file.source} has changed while it was copied", "files that nobody writes")
            if not count:
                return digest.hexdigest()
            digest.update(buffer[:count])
            _write(target, buffer[:count])
            with self._lock:
                self.copied += count
            if self._stop.is_set():
                raise _StopError

    def _sha256(self, part: str) -> str:
        """Return the SHA-256 of a copy as storage has it, not as the page cache does; that has it afterwards."""
        digest, buffer = hashlib.sha256(), memoryview(bytearray(_BLOCK))
        with FileIO(part) as copy:
            os.posix_fadvise(copy.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            while count := copy.readinto(buffer):
                digest.update(buffer[:count])
                if self._stop.is_set():
                    raise _StopError
        return digest.hexdigest()

    def _refuse(self, file: StagedFile, part: str, read: str, found: str) -> None:
        """Remove a copy that is not what it should be, and raise StageError: nothing may train on it."""
        os.unlink(part)
        if file.sha256 and read != file.sha256:
            folder = os.path.dirname(file.source)
            found_text, needed = f"{file.source} has the SHA-256 {read}", f"{file.sha256}, as its manifest says"
            raise StageError(found_text, needed, f"slurm-tf data verify {folder}")
        text = f"the copy of {file.source} in {self.folder} has the SHA-256 {found}"
        raise StageError(text, f"{read}, as what was read", "tell your administrators: the node's disk changes data")


def _opened(file: StagedFile) -> FileIO:
    """Open a source. Raises StageError."""
    try:
        return FileIO(file.source)
    except OSError as error:
        raise _source_error(file, error) from error


def _source_error(file: StagedFile, error: OSError) -> StageError:
    return StageError(f"{file.source} cannot be read ({error.strerror})", "a file that every node can read")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NOFOLLOW, 0o600)


def _write(target: FileIO, data: memoryview) -> None:
    while data:
        data = data[target.write(data) :]


def _remove(path: str) -> None:
    """Remove what is at `path`; a link, not what it leads to."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
