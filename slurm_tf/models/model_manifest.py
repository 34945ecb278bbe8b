"""The manifest of a version of a model: assets.extra/slurm_tf.json in its folder. Standard library, Python 3.9.

TensorFlow Serving and tf.saved_model.load do not look at it. A SavedModel that slurm-tf has not exported has none.
"""

import os
from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

from slurm_tf.errors import ModelError
from slurm_tf.run.json_format import JsonFormat

FORMAT = "1.0"
EXTRA = "assets.extra"
NAME = os.path.join(EXTRA, "slurm_tf.json")
# What a replica runs when it has loaded the version (TensorFlow Serving, g3doc/saved_model_warmup.md).
WARMUP_REQUESTS = os.path.join(EXTRA, "tf_serving_warmup_requests")
# The signature, and its only input, that takes files of PNG or JPEG.
IMAGE_BYTES = "image_bytes"
_JSON = JsonFormat("version of a model", FORMAT, ModelError, "export the version again")


@dataclass(frozen=True)
class FileDigest:
    """One file of a version: its size, and the SHA-256 of its bytes."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class TensorSpec:
    """A tensor of a signature. `shape` is None where its rank is not known; a dimension of any size is None."""

    dtype: str
    shape: Optional[Tuple[Optional[int], ...]]


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a signature, by the names that a client uses."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True)
class ModelManifest:
    """What a version of a model is, and what it was made from.

    `run`: the name of the run, whose folder is `run_folder`; `attempt`, `step`: where in the run the model is from,
    None for a step that is not known. `commit`, `dirty`: the state of the program's code, "" and None where git does
    not know it. `written`: when, in ISO 8601. `metrics`: what the program measured, by name. `signatures`: those that
    the check has run. `rejected`: why this version is not served, "" for one that passed. `files`: every file of the
    version but this one, by its path below the version's folder.
    """

    run: str
    run_folder: str
    attempt: str
    step: Optional[int]
    commit: str
    dirty: Optional[bool]
    written: str
    metrics: Mapping[str, float]
    signatures: Mapping[str, Signature]
    rejected: str
    versions: Mapping[str, str]
    files: Mapping[str, FileDigest]


def path(version: str) -> str:
    """Return the path of the manifest of the version in the folder `version`."""
    return os.path.join(version, NAME)


def read(version: str) -> Optional[ModelManifest]:
    """Return the manifest of the version in a folder, None if it has none. Raises ModelError, OSError."""
    try:
        manifest = _JSON.read(path(version), ModelManifest)
    except (FileNotFoundError, NotADirectoryError):
        return None
    for name in manifest.files:
        if os.path.isabs(name) or os.pardir in name.split("/"):
            raise ModelError(f"found the file {name!r}", "one below the version's folder", where=path(version))
    return manifest


def write(version: str, manifest: ModelManifest, mode: int = 0o600) -> None:
    """Write the manifest of a version; it is the last of its files. Raises OSError."""
    _JSON.write(path(version), manifest, mode=mode)
