"""A folder of checkpoints in which each is whole or not there. Standard library only.

    checkpoints/
      step-0000000400/            a committed checkpoint
        data-00000-of-00001, ...  as TensorFlow wrote them
        data-position, ...        what else the program wants to keep: `extras`
        MANIFEST.json             their names and sizes, and a checksum of each tensor and of each extra file
      latest                      the name of the newest; a hint for people and tools
      step-0000000500.17_temp/    being written, or left by a writer that died

A checkpoint is written aside, every file flushed by the node that wrote it, the manifest last; then the folder is
renamed to its final name, and `latest` replaced by another rename. Readers trust manifests alone: the newest whole one
is found when `latest` is stale, and also when the newest is torn. One writer at a time.
"""

import contextlib
import json
import os
import re
import shutil
import time
import zlib
from dataclasses import dataclass
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional

from slurm_tf import files
from slurm_tf.errors import CheckpointError

MANIFEST = "MANIFEST.json"
POINTER = "latest"
TEMP = "_temp"
_VERSION = 1
_NAME = re.compile(r"step-(\d{10,})", re.ASCII)


@dataclass(frozen=True)
class Committed:
    """A committed checkpoint whose files have the sizes that its manifest says."""

    path: str
    step: int
    manifest: Mapping[str, Any]

    @property
    def prefix(self) -> str:
        """TensorFlow's name for the checkpoint."""
        return os.path.join(self.path, "checkpoint")

    def read(self, name: str) -> Optional[bytes]:
        """Return the bytes of an extra file, None if the checkpoint has none of that name.

        Raises CheckpointError if they are not those that were written, OSError if they cannot be read.
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

    @property
    def bytes(self) -> int:
        """How much storage its files take."""
        return sum(self.manifest["files"].values())


def begin(folder: str, step: int) -> str:
    """Make the folder to write the checkpoint of `step` into, beside the committed ones; return TensorFlow's prefix."""
    aside = f"{_final(folder, step)}.{os.getpid()}{TEMP}"
    os.mkdir(aside, 0o700)
    return os.path.join(aside, "checkpoint")


def finish(
    prefix: str,
    step: int,
    tensors: Mapping[str, int],
    meta: Mapping[str, Any],
    flush: Callable[[str], None],
    extras: Mapping[str, bytes] = {},
) -> Committed:
    """Commit what was written at `prefix`, and `extras` as files beside it; return the checkpoint.

    `tensors`: checksum of each tensor; `meta`: what else to remember; `flush` has every node flush its own files of the
    folder that it is given. Raises OSError, and leaves the older checkpoints as they are.
    """
    aside = os.path.dirname(prefix)
    folder = os.path.dirname(aside)
    for name, data in extras.items():
        with open(os.path.join(aside, name), "xb") as file:
            file.write(data)
    flush(aside)
    sizes = {name: os.path.getsize(os.path.join(aside, name)) for name in sorted(os.listdir(aside))}
    manifest = {
        "version": _VERSION,
        "step": step,
        "written": time.time(),
        "files": sizes,
        "crc32c": dict(tensors),
        "extras": {name: zlib.crc32(data) for name, data in extras.items()},
        "meta": dict(meta),
    }
    files.write_whole(os.path.join(aside, MANIFEST), json.dumps(manifest, indent=1).encode())
    final = _final(folder, step)
    if os.path.isdir(final):  # torn, or readers would have it and nobody would write it again
        os.rename(final, f"{final}.torn{TEMP}")
    os.rename(aside, final)
    files.sync(folder)
    files.write_whole(os.path.join(folder, POINTER), f"{os.path.basename(final)}\n".encode())
    return Committed(final, step, manifest)


def complete(folder: str, report: Callable[[str], None] = lambda _: None) -> Iterator[Committed]:
    """Yield the whole checkpoints of `folder`, newest first; `report` gets a line about each that is not."""
    for step, name in sorted(_names(folder), reverse=True):
        path = os.path.join(folder, name)
        try:
            with open(os.path.join(path, MANIFEST), encoding="utf-8") as file:
                manifest = json.load(file)
            sizes: Dict[str, int] = manifest["files"]
            wrong = [each for each, size in sizes.items() if os.path.getsize(os.path.join(path, each)) != size]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            report(f"checkpoint {path} is left out: {error}")
            continue
        if wrong or manifest.get("version") != _VERSION or manifest.get("step") != step:
            report(f"checkpoint {path} is left out: {', '.join(wrong) or MANIFEST} is not what was written")
            continue
        yield Committed(path, step, manifest)


def prune(folder: str, keep: int) -> None:
    """Remove all but the newest `keep` whole checkpoints, and torn ones older than those."""
    kept = [checkpoint.step for _, checkpoint in zip(range(keep), complete(folder))]
    for step, name in _names(folder):
        if len(kept) == keep and step < kept[-1]:
            path = os.path.join(folder, name)
            with contextlib.suppress(FileNotFoundError):
                os.rename(path, path + TEMP)  # no reader may see half of it
                shutil.rmtree(path + TEMP)


def sweep(folder: str) -> None:
    """Remove what writers that died have left; only the one living writer may."""
    for name in os.listdir(folder):
        path = os.path.join(folder, name)
        if name.endswith(TEMP):
            with contextlib.suppress(FileNotFoundError):
                shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


def flush_files(folder: str) -> None:
    """Flush every file of `folder`, and its entries, from this node. Raises OSError."""
    for name in os.listdir(folder):
        files.sync(os.path.join(folder, name))
    files.sync(folder)


def _final(folder: str, step: int) -> str:
    return os.path.join(folder, f"step-{step:010}")


def _names(folder: str) -> List[Any]:
    matches = [_NAME.fullmatch(name) for name in os.listdir(folder)]
    return [(int(match[1]), match[0]) for match in matches if match]
