"""Runs another program whose checkpoints are plain writes: plain.py PROGRAM ARGUMENT...

What the fault matrix must not let pass: each checkpoint is written where it stays, and nothing is renamed.
"""

import json
import os
import runpy
import sys
import time
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path

from slurm_tf.run import checkpoint_folder


def begin(folder: str, step: int, _fence: object = None) -> str:
    final = os.path.join(folder, f"step-{step:010}")
    os.makedirs(final, exist_ok=True)
    return os.path.join(final, "checkpoint")


def finish(
    prefix: str,
    step: int,
    tensors: Mapping[str, int],
    flush: Callable[[str], None],
    extras: Mapping[str, bytes],
    _fence: object,
) -> checkpoint_folder.Committed:
    final = Path(prefix).parent
    for name, data in extras.items():
        (final / name).write_bytes(data)
    flush(str(final))
    sizes = {path.name: path.stat().st_size for path in final.iterdir() if path.name != checkpoint_folder.MANIFEST}
    checksums = {name: zlib.crc32(data) for name, data in extras.items()}
    manifest = {
        "version": 1, "step": step, "written": time.time(), "files": sizes, "crc32c": dict(tensors),
        "extras": checksums,
    }  # fmt: skip
    (final.parent / checkpoint_folder.POINTER).write_text(f"{final.name}\n")
    (final / checkpoint_folder.MANIFEST).write_text(json.dumps(manifest))
    return checkpoint_folder.Committed(str(final), step, manifest)


checkpoint_folder.begin, checkpoint_folder.finish = begin, finish  # type: ignore[assignment]
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
