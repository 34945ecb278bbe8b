"""A container image for tests, a small Debian with Python 3: folder, squashfs, bundle of OCI; made once, as root.

It has no TensorFlow: `site_mount` is the mount that puts the packages of the tests' own Python into it. Its programs
are those of `PACKAGES` alone: no ps, no grep. Images with a defect: a `copy`, from which something is removed.
"""

import contextlib
import fcntl
import functools
import json
import os
import shutil
import subprocess
import sys
import sysconfig
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

# every host of a sandbox sees it at this path, and only root may write there
CACHE = Path("/var/cache/slurm-tf-tests")
# program: the Debian package that contains it
PROGRAMS = {
    "mmdebstrap": "mmdebstrap",
    "mksquashfs": "squashfs-tools",
    "ch-run": "charliecloud",
    "crun": "crun",
}
# TensorFlow 2.18 imports distutils; Debian splits it off where Python has it
_DISTUTILS = ("python3-distutils",) if sys.version_info < (3, 12) else ()
PACKAGES = ("base-files", "bash", "coreutils", "dash", "libc-bin", "libgomp1", "libstdc++6", "python3", *_DISTUTILS)
# where the packages of the tests' Python are mounted; Python in the image imports from there
SITE = "/opt/site"
# what the image sets, as Charliecloud (--set-env) and OCI runtimes read it: all of it is what slurm-tf sets itself
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "7",
    "FROM_IMAGE": "yes",
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "PYTHONPATH": "/of/the/image",
    "TF_CONFIG": '{"cluster": {"worker": ["of-the-image:1"]}}',
}
_BUILD_TIMEOUT = 200  # seconds; on an idle machine it takes 10
_UNUSED = 7 * 86400.0  # seconds after which the image of another recipe goes


def require() -> None:
    """Skip the test where there is no image, or no program to run it; fail it on CI, where both have to be."""
    lacking = _lacking()
    if lacking and os.environ.get("CI") == "true":
        pytest.fail(lacking)
    if lacking:
        pytest.skip(lacking)


def folder() -> Path:
    """Return the image's folder: test for `require` first. Read only: another test has the same."""
    return bundle() / "rootfs"


def bundle() -> Path:
    """Return the image as a bundle of OCI, with the config.json that its tools make."""
    return _built() / "bundle"


def squashfs() -> Path:
    """Return the image as one file."""
    return _built() / "root.squashfs"


def site_mount() -> str:
    """Return the mount that gives the image the packages of the tests' own Python, TensorFlow among them."""
    return f"{sysconfig.get_path('purelib')}:{SITE}:ro"


def copy(target: Path) -> Path:
    """Copy the image's folder to `target`, a path on the shared storage of a sandbox, to break something in it."""
    subprocess.run(["cp", "-a", str(folder()), str(target)], timeout=60, check=True)
    return target


@functools.cache
def _lacking() -> str:
    """Return what this machine lacks for an image, or an empty string."""
    if os.geteuid() != 0:
        return f"found user id {os.geteuid()}; needed root, who makes the test image"
    absent = [package for program, package in PROGRAMS.items() if not shutil.which(program)]
    if absent:
        return f"needed: apt-get install --no-install-recommends {' '.join(absent)}"
    try:
        root = folder()
    except subprocess.CalledProcessError as error:
        return f"{' '.join(error.cmd)} ended with {error.returncode}; needed a mirror of Debian:\n{error.stderr}"
    python = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if not (root / "usr/bin" / python).exists():
        return f"needed: the tests on the Python of this Debian's package python3, which is not {python}"
    return ""


def _sources(release: str) -> list[str]:
    """Return the host's own lines for apt of a release of Debian, without its updates and other archives."""
    fields = "$(RELEASE) $(COMPONENT) $(REPO_URI)"
    found = _run("apt-get", "indextargets", "--format", fields, "Created-By: Packages", f"Release: {release}")
    lines = (line.split() for line in found.splitlines())
    return sorted({f"deb {uri} {suite} {component}" for suite, component, uri in lines if component == "main"})


def _os_release(name: str) -> str:
    lines = Path("/etc/os-release").read_text().splitlines()
    return next(line.partition("=")[2].strip('"') for line in lines if line.startswith(f"{name}="))


@functools.cache
def _built() -> Path:
    """Return the folder with all forms of the image, and make it if nobody has."""
    recipe = Path(__file__).read_bytes() + Path("/etc/os-release").read_bytes()
    built = CACHE / f"image-{zlib.crc32(recipe):08x}"
    CACHE.mkdir(mode=0o755, exist_ok=True)
    with _lock():
        if not built.exists():
            _clean(keep=built.name)
            unfinished = CACHE / "unfinished"
            unfinished.mkdir(mode=0o755)
            _make(unfinished)
            unfinished.rename(built)
        os.utime(built)
    return built


@contextlib.contextmanager
def _lock() -> Iterator[None]:
    """Wait until no other process builds; a process that is killed holds nothing."""
    with (CACHE / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _clean(keep: str) -> None:
    """Remove what a killed process left, and images that nobody has used for a while."""
    for path in CACHE.iterdir():
        old = path.name.startswith("image-") and time.time() - path.stat().st_mtime > _UNUSED
        if path.name != keep and (old or path.name == "unfinished"):
            shutil.rmtree(path)


def _make(target: Path) -> None:
    """Make all forms of the image. Raises CalledProcessError."""
    root, release = target / "bundle" / "rootfs", _os_release("VERSION_CODENAME")
    root.mkdir(mode=0o755, parents=True)
    # extracted, not configured: no program of the image runs, so it takes seconds
    how = ["--quiet", "--variant=extract", "--mode=root", f"--include={','.join(PACKAGES)}"]
    _run("mmdebstrap", *how, release, str(root), *_sources(release))
    for name in ("doc", "locale", "man", "perl"):
        shutil.rmtree(root / "usr/share" / name, ignore_errors=True)
    _complete(root)
    _run("mksquashfs", str(root), str(target / "root.squashfs"), "-comp", "lz4", "-no-progress", "-quiet")
    _run("crun", "spec", "--rootless", f"--bundle={root.parent}")
    configuration = root.parent / "config.json"
    config = json.loads(configuration.read_text())
    config["process"]["env"] = [f"{name}={value}" for name, value in ENVIRONMENT.items()]
    configuration.write_text(json.dumps(config))


def _complete(root: Path) -> None:
    """Add what packages do not contain: files and mount points that runtimes need, and the image's environment."""
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/hosts").touch()  # without it Charliecloud's container knows no host by name
    (root / "etc/resolv.conf").touch()
    for name in (SITE, "/etc/slurm", "/mnt/data"):
        (root / name.lstrip("/")).mkdir(parents=True)
    (root / "usr/lib/python3/dist-packages/site.pth").write_text(f"{SITE}\n")
    (root / "ch").mkdir()
    (root / "ch/environment").write_text("".join(f"{name}={value}\n" for name, value in ENVIRONMENT.items()))


def _run(*command: str) -> str:
    """Return what a command prints. Raises CalledProcessError, also when it is too slow."""
    bounded = ["timeout", str(_BUILD_TIMEOUT), *command]
    return subprocess.run(bounded, capture_output=True, text=True, check=True).stdout
