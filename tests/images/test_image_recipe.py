"""The commands that make an image with each runtime, and what is refused before one is run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import UsageError
from slurm_tf.images import image_recipe
from slurm_tf.run.container_settings import Runtime
from slurm_tf.run.image_kind import ImageKind

TARGET = "/images/.build-1/x"
# runtime, its program, what from, kind, options
MADE = [
    (Runtime.APPTAINER, "/opt/a/bin/apptainer", "a b;$(x).def", None, ("--fakeroot",)),
    (Runtime.SINGULARITY, "singularity", "docker://nvcr.io/nvidia/tensorflow:25.01-tf2-py3", ImageKind.FOLDER, ()),
    (Runtime.APPTAINER, "apptainer", "oras://ghcr.io/x/y:1", None, ()),
    (Runtime.CHARLIECLOUD, "/opt/ch/bin/ch-run", "a b;$(x).def", None, ("--force", "--build-arg=X=1")),
    (Runtime.CHARLIECLOUD, "ch-run", "docker://tensorflow/tensorflow:2.18.0", ImageKind.SQUASHFS, ()),
    (Runtime.PYXIS, "", "docker://tensorflow/tensorflow:2.18.0", None, ()),
    (Runtime.PYXIS, "", "docker://nvcr.io/nvidia/tensorflow:25.01-tf2-py3", None, ("--arch", "x86_64")),
    (Runtime.PYXIS, "", "docker://localhost:5000/tf@sha256:0123", None, ()),
]
SOURCES = [
    (Runtime.OCI, "Dockerfile"),
    (Runtime.PYXIS, "Dockerfile"),
    (Runtime.CHARLIECLOUD, "absent"),
    (Runtime.APPTAINER, "."),
    (Runtime.APPTAINER, "a\nb"),
    (Runtime.CHARLIECLOUD, "oras://ghcr.io/x/y"),
    (Runtime.APPTAINER, "docker://"),
    (Runtime.APPTAINER, "docker://a b"),
    (Runtime.APPTAINER, "docker://a\x1b[31m"),
    (Runtime.CHARLIECLOUD, "docker://--help"),
    *((runtime, "docker://ann:s3cret@registry.org/tf") for runtime in Runtime if runtime is not Runtime.OCI),
]
NAMES = [
    ("", None), ("../x", None), ("/x", None), ("a/../b", None), ("a//b", None), (".x", None), ("-x", None),
    ("a b", None), ("a\n", None), ("x" * 101, None), ("ü", None), ("x.sqfs", ImageKind.FOLDER), ("x", ImageKind.SIF),
]  # fmt: skip


def test_commands_of_each_runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Callable[..., None]) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a b;$(x).def").write_text("")
    text = ""
    for runtime, program, given, kind, options in MADE:
        source = image_recipe.read_source(given, runtime)
        name, chosen = image_recipe.read_name("x", runtime, kind)
        recipe = image_recipe.recipe(runtime, program, source, chosen, TARGET, "slurm-tf-1", options)
        text += f"{runtime.value} {name} ({chosen.value}) from {given}\n"
        text += "".join(f"  {list(argv)}\n" for argv in (*recipe.steps, recipe.clearing) if argv)
    golden("images/commands.txt", text.replace(str(tmp_path), "/home/ann"))


def test_what_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, golden: Callable[..., None]) -> None:
    monkeypatch.chdir(tmp_path)
    text = ""
    for runtime, given in SOURCES:
        with pytest.raises(UsageError) as caught:
            image_recipe.read_source(given, runtime)
        text += f"{runtime.value}: {caught.value}\n"
    for name, kind in NAMES:
        with pytest.raises(UsageError) as caught:
            image_recipe.read_name(name, Runtime.CHARLIECLOUD, kind)
        text += f"{caught.value}\n"
    assert "s3cret" not in text
    golden("images/refused.txt", text.replace(str(tmp_path), "/home/ann"))


def test_an_end_of_a_name_says_the_kind() -> None:
    kinds = [image_recipe.read_name(name, Runtime.CHARLIECLOUD, None) for name in ("tf/2.18", "tf-2.18.sqfs")]
    assert kinds == [("tf/2.18", ImageKind.FOLDER), ("tf-2.18.sqfs", ImageKind.SQUASHFS)]
    assert image_recipe.read_name("tf.sif", Runtime.APPTAINER, ImageKind.SIF) == ("tf.sif", ImageKind.SIF)
