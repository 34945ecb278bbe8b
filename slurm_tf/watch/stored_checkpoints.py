"""Lists, verifies and copies the checkpoints of a run, for `slurm-tf checkpoints`."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from slurm_tf.errors import CheckpointError, UsageError
from slurm_tf.run import checkpoint_folder

_PACKAGE = Path(__file__).resolve().parents[2]
# The file in which TensorFlow looks up the newest checkpoint of a folder
# (tensorflow/python/training/checkpoint_state.proto).
_STATE = 'model_checkpoint_path: "checkpoint"\nall_model_checkpoint_paths: "checkpoint"\n'


def describe(folder: str) -> list[dict[str, object]]:
    """Return a row for each checkpoint, newest first; `written` in seconds since the epoch, `size` in bytes.

    `problem`: why the checkpoint is not whole; None if it is whole.
    """
    found: list[dict[str, object]] = []
    for step, path, each in checkpoint_folder.listed(folder):
        row: dict[str, object] = {"step": step, "path": path, "written": None, "size": None, "problem": None}
        if isinstance(each, checkpoint_folder.Committed):
            row.update(written=each.manifest["written"], size=each.size)
        else:
            row["problem"] = each
        found.append(row)
    return found


def find(folder: str, step: str) -> checkpoint_folder.Committed:
    """Return the whole checkpoint of `step`, a number or "latest". Raises UsageError."""
    whole = {str(found.step): found for found in checkpoint_folder.complete(folder)}
    found = next(iter(whole.values()), None) if step == "latest" else whole.get(step.lstrip("0") or "0")
    if found is None:
        known = f"one of {', '.join(whole)}" if whole else "a run that has written one"
        raise UsageError(f"no whole checkpoint {step!r} in {folder}", known)
    return found


def verify(folder: str, steps: list[int], python: str) -> Iterator[tuple[int, str | None]]:
    """Compare the checkpoints of `steps` with their checksums; yield each step with what is wrong, None if nothing is.

    `python`: a Python with TensorFlow, since only TensorFlow can read the checksums. Raises UsageError if it has none,
    CheckpointError if it fails.
    """
    argv = [python, "-m", "slurm_tf.train.checkpoint.verify", folder, *map(str, steps)]
    path = f"{_PACKAGE}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        try:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors, text=True,
                env={**os.environ, "PYTHONPATH": path},
            )  # fmt: skip
        except OSError as error:
            raise UsageError(f"{python}: {error.strerror}", "a Python with TensorFlow", "--python names one") from error
        with process:
            for line in process.stdout or ():
                step, wrong = json.loads(line)
                yield step, wrong
        errors.seek(0)
        last = errors.read().strip().splitlines()[-1:]
    if process.returncode == os.EX_UNAVAILABLE:
        raise UsageError(f"{python} has no TensorFlow", "a Python that has it", "--python names one")
    if process.returncode:
        raise CheckpointError(f"{python} ended with exit code {process.returncode} ({''.join(last)})")


def export(found: checkpoint_folder.Committed, target: str) -> None:
    """Copy a checkpoint into the new folder `target`, from which tf.train.load_checkpoint(target) reads it.

    Raises UsageError, CheckpointError or OSError.
    """
    if os.path.lexists(target):
        raise UsageError(f"{target} exists", "a folder that does not exist yet")
    parent = os.path.dirname(os.path.abspath(target))
    if not os.path.isdir(parent):
        raise UsageError(f"there is no folder {parent}", "a folder to copy into")
    aside = tempfile.mkdtemp(prefix=f".{os.path.basename(target)}-", dir=parent)
    try:
        for name, size in found.manifest["files"].items():
            shutil.copyfile(os.path.join(found.path, name), os.path.join(aside, name))
            if os.path.getsize(os.path.join(aside, name)) != size:
                raise CheckpointError(f"{name} of {found.path} was changed while it was copied")
        Path(aside, "checkpoint").write_text(_STATE, encoding="ascii")
        os.rename(aside, target)
    except BaseException:
        shutil.rmtree(aside, ignore_errors=True)
        raise
