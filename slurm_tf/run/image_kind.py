"""Tells the kind of a container image, by its first bytes or by what a folder holds. Standard library, Python 3.9."""

import os
from enum import Enum
from typing import Optional


class ImageKind(Enum):
    """What an image is on disk."""

    FOLDER = "folder"
    SQUASHFS = "squashfs"
    SIF = "SIF"
    OCI_BUNDLE = "OCI bundle"

    @property
    def is_file(self) -> bool:
        """Whether it is one file, which a runtime mounts through /dev/fuse, or unpacks."""
        return self in (ImageKind.SQUASHFS, ImageKind.SIF)


_SQUASHFS = b"hsqs"
# A SIF begins with 32 bytes for the kernel (#!...), then its magic: sif.go of sylabs and apptainer.
_SIF, _SIF_AT = b"SIF_MAGIC", 32
# Of the folders of a root file system; a virtual environment has one of them.
_ROOT = {"bin", "etc", "usr"}


def of(path: str) -> Optional[ImageKind]:
    """Return the kind of the image at `path`, None if that is no image. Raises OSError."""
    return _of_folder(path) if os.path.isdir(path) else _of_file(path)


def _of_folder(path: str) -> Optional[ImageKind]:
    names = set(os.listdir(path))
    if {"config.json", "rootfs"} <= names:
        return ImageKind.OCI_BUNDLE
    return ImageKind.FOLDER if len(_ROOT & names) > 1 else None


def _of_file(path: str) -> Optional[ImageKind]:
    # a named pipe must not be waited for
    with open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
        start = file.read(_SIF_AT + len(_SIF)) if os.path.isfile(path) else b""
    if start.startswith(_SQUASHFS):
        return ImageKind.SQUASHFS
    return ImageKind.SIF if start[_SIF_AT:] == _SIF else None
