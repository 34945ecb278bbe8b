"""The commands with which a runtime builds an image from a definition file, or takes it from a registry."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from slurm_tf.errors import UsageError
from slurm_tf.run.container_settings import Runtime
from slurm_tf.run.image_kind import ImageKind

_ENROOT = "enroot"
# A name below the folder of images, in parts: each is a file's name everywhere, and no option.
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]{0,99}", re.ASCII)
_ADDRESS = re.compile(r"([a-z][a-z0-9+.-]*)://(\S+)", re.ASCII)
# user:password@ of an address; a digest follows "@" as well, perhaps behind a port or a tag
_PASSWORD = re.compile(r":[^@]*@(?!sha\d+:)")
_SIF = {ImageKind.SIF: ".sif", ImageKind.FOLDER: ""}
# The kinds that a runtime makes, the usual one first, each with the end of its name. None: it makes no images.
KINDS: Mapping[Runtime, Mapping[ImageKind, str]] = {
    Runtime.APPTAINER: _SIF,
    Runtime.SINGULARITY: _SIF,
    Runtime.CHARLIECLOUD: {ImageKind.FOLDER: "", ImageKind.SQUASHFS: ".sqfs"},
    Runtime.PYXIS: {ImageKind.SQUASHFS: ".sqsh"},
    Runtime.OCI: {},
}
# The kinds of addresses that each takes images from.
_SCHEMES: Mapping[Runtime, Sequence[str]] = {
    Runtime.APPTAINER: ("docker", "oras", "library"),
    Runtime.SINGULARITY: ("docker", "oras", "library"),
    Runtime.CHARLIECLOUD: ("docker",),
    Runtime.PYXIS: ("docker",),
}
# How one logs in to a registry, so that no password is typed into a command line.
_LOGIN: Mapping[Runtime, str] = {
    Runtime.APPTAINER: "apptainer registry login, or apptainer remote login, keeps it",
    Runtime.SINGULARITY: "singularity remote login keeps it",
    Runtime.CHARLIECLOUD: "ch-image asks for it: CH_IMAGE_AUTH=yes, or CH_IMAGE_USERNAME and CH_IMAGE_PASSWORD",
    Runtime.PYXIS: "enroot reads it from ~/.config/enroot/.credentials",
}


@dataclass(frozen=True, slots=True)
class Source:
    """Where an image comes from: the path of a definition file, or an address of a registry.

    `scheme`: that of an address, such as "docker", "" for a file.
    """

    scheme: str
    place: str


@dataclass(frozen=True, slots=True)
class Recipe:
    """The commands that make an image, in their order; `clearing`: one that is run after them in any case."""

    steps: tuple[tuple[str, ...], ...]
    clearing: tuple[str, ...] = ()


def read_source(text: str, runtime: Runtime) -> Source:
    """Return what an image is to be made from, as a runtime can. Raises UsageError."""
    if not KINDS[runtime]:
        do = "make a bundle of an image with umoci, or of a folder with `crun spec`"
        raise UsageError("the site's runtime is oci: crun and runc build no images", "another program for it", do)
    if "://" not in text:
        return _file(text, runtime)
    match = _ADDRESS.fullmatch(text)
    if match and _PASSWORD.search(match[2]):  # not shown again
        found = "found a password in the address, which others see in the list of processes"
        raise UsageError(found, "an address without it", _LOGIN[runtime])
    known = [f"{scheme}://" for scheme in _SCHEMES[runtime]]
    if match is None or not text.isprintable() or f"{match[1]}://" not in known or match[2].startswith("-"):
        example = "such as docker://tensorflow/tensorflow:2.18.0"
        raise UsageError(f"found {text!r}", f"an address that begins with {' or '.join(known)}", example)
    return Source(match[1], match[2])


def _file(text: str, runtime: Runtime) -> Source:
    if runtime is Runtime.PYXIS:
        found = f"found {text!r}, and enroot, which makes images for pyxis, reads no definition files"
        do = "build it elsewhere, push it to a registry, and name its address"
        raise UsageError(found, "an address such as docker://tensorflow/tensorflow:2.18.0", do)
    if not text.isprintable():
        raise UsageError(f"found {text!r}", "a path without control characters")
    path = os.path.abspath(text)
    if not os.path.isfile(path) or not os.access(path, os.R_OK):
        do = "an address of a registry begins with docker://"
        raise UsageError(f"{path} is no file that can be read", f"a definition file for {runtime.value}", do)
    return Source("", path)


def read_name(text: str, runtime: Runtime, kind: ImageKind | None) -> tuple[str, ImageKind]:
    """Return the name of the image's file or folder, with the usual end, and its kind. Raises UsageError."""
    parts = text.split("/")
    if not all(map(_PART.fullmatch, parts)):
        needed = "a name of letters, digits and . _ + -, perhaps in folders with such names"
        raise UsageError(f"found the name {text!r}", needed, "such as tensorflow-2.18")
    kinds = KINDS[runtime]
    by_end = next((each for each, end in kinds.items() if end and text.endswith(end)), None)
    chosen = kind or by_end or next(iter(kinds))
    if chosen not in kinds:
        made = " or ".join(each.value for each in kinds)
        raise UsageError(f"{runtime.value} makes no {chosen.value}", made)
    if by_end not in (None, chosen):
        raise UsageError(f"found the name {text!r} for a {chosen.value}", f"one that does not end with {kinds[by_end]}")
    return (text if by_end else text + kinds[chosen]), chosen


def recipe(
    runtime: Runtime, program: str, source: Source, kind: ImageKind, target: str, tag: str, options: Sequence[str] = ()
) -> Recipe:
    """Return the commands that make an image at `target`, a path from the root at which nothing is.

    `program`: the runtime's; `tag`: the image's name in the builder's own storage, where there is one, until it is
    made; `options`: for the command that builds or pulls.
    """
    if runtime is Runtime.CHARLIECLOUD:
        return _charliecloud(program, source, kind, target, tag, options)
    if runtime is Runtime.PYXIS:
        return Recipe(((_ENROOT, "import", *options, "--output", target, _enroot_address(source)),))
    place = f"{source.scheme}://{source.place}" if source.scheme else source.place
    sandbox = ("--sandbox",) if kind is ImageKind.FOLDER else ()
    return Recipe(((program, "build", *sandbox, *options, target, place),))


def _charliecloud(
    program: str, source: Source, kind: ImageKind, target: str, tag: str, options: Sequence[str]
) -> Recipe:
    image, convert = _beside(program, "ch-image"), _beside(program, "ch-convert")
    if source.scheme:
        make = (image, "pull", *options, source.place, tag)
    else:
        make = (image, "build", *options, "--tag", tag, "--file", source.place, os.path.dirname(source.place))
    made = "squash" if kind is ImageKind.SQUASHFS else "dir"
    return Recipe((make, (convert, "-i", "ch-image", "-o", made, tag, target)), (image, "delete", tag))


def _beside(program: str, name: str) -> str:
    """Return the path of a program that is installed together with another one."""
    return os.path.join(os.path.dirname(program), name)


def _enroot_address(source: Source) -> str:
    """Return an address as enroot has it: docker://REGISTRY#IMAGE, where others have REGISTRY/IMAGE."""
    first, slash, rest = source.place.partition("/")
    is_host = slash and ("." in first or ":" in first or first == "localhost")
    return f"docker://{first}#{rest}" if is_host and "#" not in source.place else f"docker://{source.place}"
