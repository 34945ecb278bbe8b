"""The list of images: every kind, what a look into a folder tells, and what is no image."""

import itertools
import os
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_tf.images import image_list
from slurm_tf.images.image_list import ListedImage
from slurm_tf.run import image_kind
from slurm_tf.run.image_kind import ImageKind

SIF = b"#!/usr/bin/env run-singularity\n\0SIF_MAGIC\x0001\0"


def make_root(root: Path, packages: str = "", dist_info: str = "", python: str = "") -> Path:
    """Make an image's folder. `python`: where its python3 leads to, `packages`: where its TensorFlow is."""
    for name in ("bin", "etc", "usr/bin"):
        (root / name).mkdir(parents=True)
    (root / "etc/hosts").write_text("127.0.0.1 localhost\n")
    if dist_info:
        (root / packages / dist_info).mkdir(parents=True)
    if python:
        (root / "usr/bin/python3").symlink_to(python)
    return root


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with an image of each kind, and with other things."""
    folder = tmp_path / "images"
    make_root(folder / "debian", python="python3.11")
    make_root(folder / "tf/2.18", "usr/local/lib/python3.12/dist-packages", "tensorflow-2.18.0.dist-info")
    make_root(folder / "bundle/rootfs", "opt/conda/lib/python3.10/site-packages", "tensorflow_cpu-2.16.1.dist-info")
    (folder / "bundle/config.json").write_text("{}")
    make_root(folder / ".build-x/half")
    (folder / "a.sqfs").write_bytes(b"hsqs" + bytes(100))
    (folder / "b.sif").write_bytes(SIF + bytes(200))
    (folder / "newest").symlink_to("tf/2.18")
    (folder / "gone.sif").symlink_to("nowhere")
    (folder / "venv/bin").mkdir(parents=True)
    (folder / "b.def").write_text("Bootstrap: docker\n")
    (folder / "loop").symlink_to(".")
    os.mkfifo(folder / "pipe")
    for path in (folder / "debian", folder / "tf/2.18", folder / "bundle", folder / "a.sqfs", folder / "b.sif"):
        os.utime(path, (7, 7))
    return folder


def test_every_kind_is_listed_and_nothing_else(folder: Path) -> None:
    found = [replace(each, path=os.path.relpath(each.path, folder)) for each in image_list.images(str(folder))]
    assert found == [
        ListedImage("a.sqfs", "a.sqfs", "squashfs", 104, 7.0),
        ListedImage("b.sif", "b.sif", "SIF", 245, 7.0),
        ListedImage("bundle", "bundle", "OCI bundle", 22, 7.0, "3.10", "2.16.1"),
        ListedImage("debian", "debian", "folder", 30, 7.0, "3.11"),
        ListedImage("gone.sif", "gone.sif", None, problem="No such file or directory"),
        ListedImage("newest", "newest", "folder", 20, 7.0, "3.12", "2.18.0"),
        ListedImage("tf/2.18", "tf/2.18", "folder", 20, 7.0, "3.12", "2.18.0"),
    ]
    assert [each.is_file for each in ImageKind] == [False, True, True, False]


def test_sizes_that_take_too_long_are_unknown(folder: Path) -> None:
    ticks = itertools.count(0, 6)
    sizes = {each.name: each.size for each in image_list.images(str(folder), lambda: next(ticks))}
    assert (sizes["a.sqfs"], sizes["b.sif"], sizes["tf/2.18"], sizes["newest"]) == (104, 245, None, None)


@pytest.mark.parametrize(
    ("made", "versions"),
    [
        ({"python": "/usr/bin/python3.9"}, ("3.9", None)),
        ({"python": "pypy"}, (None, None)),
        ({}, (None, None)),
        ({"packages": "usr/lib/python3/dist-packages", "dist_info": "tf_nightly-2.22.0.dev1.dist-info",
          "python": "python3.13"}, ("3.13", "2.22.0.dev1")),
        ({"packages": "opt/tf/lib/python3.11/site-packages", "dist_info": "tensorflow-2.15.0+nv23.11.dist-info"},
         ("3.11", "2.15.0+nv23.11")),
        ({"packages": "usr/lib/python3/dist-packages", "dist_info": "tensorflow_hub-0.16.1.dist-info"}, (None, None)),
    ],
)  # fmt: skip
def test_versions_in_a_folder(made: dict[str, str], versions: tuple[str | None, str | None], tmp_path: Path) -> None:
    assert image_list.versions(make_root(tmp_path / "root", **made)) == versions


def test_a_look_into_an_image_does_not_leave_it(tmp_path: Path) -> None:
    outside = tmp_path / "host/python3.11/site-packages/tensorflow-2.21.0.dist-info"
    outside.mkdir(parents=True)
    root = make_root(tmp_path / "root")
    (root / "usr/local").mkdir()
    (root / "usr/local/lib").symlink_to(tmp_path / "host")
    assert image_list.versions(root) == (None, None)


def test_what_is_no_image_has_no_kind(tmp_path: Path) -> None:
    (tmp_path / "short").write_bytes(b"hs")
    assert image_kind.of(str(tmp_path)) is None
    assert image_kind.of(str(tmp_path / "short")) is None
    with pytest.raises(FileNotFoundError):
        image_kind.of(str(tmp_path / "absent"))
