"""A folder of checkpoints, each of which is complete or not there. Standard library, Python 3.9.

    checkpoints/
      step-0000000400/            a committed checkpoint
        data-00000-of-00001, ...  as TensorFlow wrote them
        data-position, ...        other files of the program: `extras`
        MANIFEST.json             names and sizes of all files, a checksum of each tensor and of each extra file
      latest                      the name of the newest checkpoint; a hint for people and tools
      step-0000000500-x7_temp/    a checkpoint that is being written, or that a writer left when it died

A checkpoint is written into a temporary folder: every file is flushed by the node that wrote it, the manifest comes
last. Then the folder is renamed to its final name, and `latest` is replaced by another rename. Readers trust manifests
alone: they find the newest complete checkpoint also where `latest` is stale or the newest one is torn.

Only the attempt that holds the run's lease writes. It reads the lease again (`fence`) before each step that others can
see. If it is stopped between that and a rename, the next attempt has removed the folder that it was about to rename
(`remove_unfinished`), and that name is never used again: the rename fails.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
import time
import zlib
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Tuple, Union

from slurm_tf import files
from slurm_tf.errors import CheckpointError, FencedError, RunError
from slurm_tf.run import lease
from slurm_tf.run.folder import RunFolder

MANIFEST = "MANIFEST.json"
POINTER = "latest"
TEMP = "_temp"
_VERSION = 1
_NAME = re.compile(r"step-(\d{10,})", re.ASCII)

Fence = Callable[[], None]


@dataclass(frozen=True)
class Committed:
    """A committed checkpoint whose files have the sizes that are in its manifest."""

    path: str
    step: int
    manifest: Mapping[str, Any]

    @property
    def prefix(self) -> str:
        """The path that TensorFlow takes as the checkpoint's name."""
        return os.path.join(self.path, "checkpoint")

    @property
    def size(self) -> int:
        """The bytes of all its files."""
        return sum(self.manifest["files"].values())

    def read(self, name: str) -> Optional[bytes]:
        """Return the bytes of an extra file, None if the checkpoint has no file of that name.

        Raises CheckpointError if the bytes are not those that were written, OSError if they cannot be read.
        """
        checksum = self.manifest.get("extras", {}).get(name)
        if checksum is None:
            return None
        with open(os.path.join(self.path, name), "rb") as file:
            data = file.read()
        if zlib.crc32(data) != checksum:
            raise CheckpointError(f"{name} of {self.path} is damaged")
        return data

    def check_extras(self) -> None:
        """Raise CheckpointError or OSError unless every extra file is as it was written."""
        for name in self.manifest.get("extras", {}):
            self.read(name)


# --- writing ---


def no_fence() -> None:
    """Accept every write: outside of a run there is no other writer."""


def fence(run_folder: str, attempt: str, step: int = 0) -> Fence:
    """Return a function that raises FencedError once the run's lease is not that of this step of the attempt.

    It raises OSError if the lease cannot be read. Without a run or an attempt it accepts every write.
    """
    if not (run_folder and attempt):
        return no_fence
    run = RunFolder(run_folder)

    def check() -> None:
        try:
            held = lease.read(run)  # opens the file anew each time, which has an NFS client ask its server
        except RunError as error:
            raise FencedError(error.found, "the lease of the run, to write a checkpoint", error.do) from error
        if held is None or held.attempt != attempt:
            raise FencedError(
                f"another attempt has taken over: {run.lease} names {held.attempt if held else 'no attempt'}, "
                f"this is {attempt}",
                "the lease of the run, to write a checkpoint",
                "nothing: the other attempt goes on from the last checkpoint",
            )
        if held.step != step:
            raise FencedError(
                f"{run.lease} names step {held.step} of attempt {attempt}, this is step {step}", "the newest step"
            )

    return check


def begin(folder: str, step: int, fence: Fence = no_fence) -> str:
    """Make the temporary folder for the checkpoint of `step`; return the prefix to give to TensorFlow.

    Raises OSError or FencedError.
    """
    fence()
    return os.path.join(tempfile.mkdtemp(TEMP, f"{_name(step)}-", folder), "checkpoint")


def finish(
    prefix: str,
    step: int,
    tensors: Mapping[str, int],
    flush: Callable[[str], None],
    extras: Mapping[str, bytes] = {},
    fence: Fence = no_fence,
) -> Committed:
    """Commit the checkpoint that was written at `prefix`, with `extras` as files beside it; return it.

    `tensors`: checksum of each tensor. `flush` has every node flush its own files in the folder that it is given.
    Raises OSError or FencedError; older checkpoints stay as they are in any case.
    """
    temporary = os.path.dirname(prefix)
    folder = os.path.dirname(temporary)
    for name, data in extras.items():
        with open(os.path.join(temporary, name), "xb") as file:
            file.write(data)
    file_mode, folder_mode = _modes(folder)
    names = sorted(os.listdir(temporary))
    for name in names:
        os.chmod(os.path.join(temporary, name), file_mode)
    flush(temporary)
    manifest = {
        "version": _VERSION,
        "step": step,
        "written": time.time(),
        "files": {name: os.path.getsize(os.path.join(temporary, name)) for name in names},
        "crc32c": dict(tensors),
        "extras": {name: zlib.crc32(data) for name, data in extras.items()},
    }
    files.write_whole(os.path.join(temporary, MANIFEST), json.dumps(manifest, indent=1).encode(), file_mode)
    os.chmod(temporary, folder_mode)
    final = os.path.join(folder, _name(step))
    fence()
    _commit(temporary, final)
    files.sync(folder)
    files.write_whole(os.path.join(folder, POINTER), f"{os.path.basename(final)}\n".encode(), file_mode, fence)
    return Committed(final, step, manifest)


def abandon(prefix: str) -> None:
    """Remove what was written at `prefix`: on a full disk there would be no room for the next checkpoint."""
    shutil.rmtree(os.path.dirname(prefix), ignore_errors=True)


def prune(folder: str, keep: int, fence: Fence = no_fence) -> None:
    """Remove all checkpoints that are older than the newest `keep` complete ones, torn ones too.

    Raises OSError or FencedError.
    """
    names = _names(folder)
    kept = [checkpoint.step for _, checkpoint in zip(range(keep), complete(folder))]
    fence()
    for step, name in names:
        if len(kept) == keep and step < kept[-1]:
            _remove(os.path.join(folder, name))


def remove_unfinished(folder: str, fence: Fence = no_fence) -> None:
    """Remove unfinished checkpoints of writers that died or were stopped. Raises OSError or FencedError."""
    names = [name for name in os.listdir(folder) if name.endswith(TEMP)]
    fence()  # what was listed above cannot have been written under a later lease
    for name in names:
        _remove(os.path.join(folder, name))


def flush_files(folder: str) -> None:
    """Flush every file in `folder`, and the folder's entries, from this node. Raises OSError."""
    for name in os.listdir(folder):
        files.sync(os.path.join(folder, name))
    files.sync(folder)


def _modes(folder: str) -> Tuple[int, int]:
    """Return the modes that files and folders in `folder` get."""
    return (files.SHARED_FILE, files.SHARED_FOLDER) if files.is_shared(folder) else (0o600, 0o700)


def _commit(temporary: str, final: str) -> None:
    """Rename a temporary folder to its final name; a torn checkpoint of that name is replaced."""
    try:
        os.rename(temporary, final)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
    else:
        return
    damaged = _unused(final)
    os.rename(final, damaged)
    try:
        os.rename(temporary, final)
    except OSError:
        # another attempt has removed our folder since, so the one of that name may be its own
        os.rename(damaged, final)
        raise


def _remove(path: str) -> None:
    """Remove a file or folder in one step, as others see it: no reader sees half of it, no writer can rename it."""
    removed = _unused(path)
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, removed)
        shutil.rmtree(removed) if os.path.isdir(removed) else os.unlink(removed)


def _unused(path: str) -> str:
    return f"{path}.{os.urandom(4).hex()}{TEMP}"


# --- reading ---


def complete(folder: str, report: Callable[[str], None] = lambda _: None) -> Iterator[Committed]:
    """Yield the complete checkpoints of `folder`, newest first; `report` gets a line about each that is torn."""
    for _, path, found in listed(folder):
        if isinstance(found, Committed):
            yield found
        else:
            report(f"checkpoint {path} is left out: {found}")


def listed(folder: str) -> Iterator[Tuple[int, str, Union[Committed, str]]]:
    """Yield step and path of each checkpoint of `folder`, newest first, with the checkpoint or why it is not complete.

    Opens one file for each checkpoint.
    """
    for step, name in sorted(_names(folder), reverse=True):
        path = os.path.join(folder, name)
        try:
            with open(os.path.join(path, MANIFEST), encoding="utf-8") as file:
                manifest = json.load(file)
            sizes: Dict[str, int] = manifest["files"]
            wrong = [each for each, size in sizes.items() if os.path.getsize(os.path.join(path, each)) != size]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            yield step, path, str(error)
            continue
        if wrong or manifest.get("version") != _VERSION or manifest.get("step") != step:
            yield step, path, f"{', '.join(wrong) or MANIFEST} is not what was written"
        else:
            yield step, path, Committed(path, step, manifest)


def _name(step: int) -> str:
    return f"step-{step:010}"


def _names(folder: str) -> List[Tuple[int, str]]:
    matches = [_NAME.fullmatch(name) for name in os.listdir(folder)]
    return [(int(match[1]), match[0]) for match in matches if match]
