"""An image is built aside and then named: builders that work, fail, make nothing, or are told to replace another."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from slurm_tf.errors import ImageError, UsageError
from slurm_tf.images import image_build, image_list
from slurm_tf.images.image_build import Builder, Order
from slurm_tf.run.container_settings import Runtime
from slurm_tf.run.image_kind import ImageKind
from tests import container_image

# ch-image, ch-convert and apptainer, which note their arguments and do what $DOES says with the last one or two
PROGRAM = """#!/bin/sh
echo "$(basename "$0") $* USER=$USER" >> "$CALLS"
if [ "$(basename "$0")" = ch-convert ]; then eval "$DOES"; fi
if [ "$(basename "$0")" = apptainer ]; then
    while [ $# -gt 2 ]; do shift; done
    printf '#!/usr/bin/env run-singularity\\n\\0SIF_MAGIC' > "$1"
fi
exit $CODE
"""
FOLDER = (
    'while [ $# -gt 1 ]; do shift; done; mkdir -p "$1/etc" "$1/usr/bin"; echo $$ > "$1/etc/made"; chmod 500 "$1/etc"'
)


@pytest.fixture
def builder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Builder:
    """Return a builder whose programs do what the environment says, in a folder with a definition file."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("ch-image", "ch-convert", "apptainer"):
        (tools / name).write_text(PROGRAM)
        (tools / name).chmod(0o755)
    (tmp_path / "Dockerfile").write_text("FROM base\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("USER", raising=False)
    for name, value in {"DOES": FOLDER, "CODE": "0", "CALLS": str(tmp_path / "calls")}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    return Builder(Runtime.CHARLIECLOUD, "ch-run", (), str(tmp_path / "images"))


def make(builder: Builder, name: str = "tf/2.18", **more: bool | ImageKind) -> tuple[str, list[str]]:
    """Make an image; return its path below the folder of images, and what is said."""
    said: list[str] = []
    path = image_build.build(builder, Order(name, "Dockerfile", **more), said.append)  # type: ignore[arg-type]
    return os.path.relpath(path, builder.folder), said


def left(builder: Builder) -> list[str]:
    """Return the files and folders that are below the folder of images, two levels of them."""
    folder = Path(builder.folder)
    return sorted(str(path.relative_to(folder)) for pattern in ("*", "*/*") for path in folder.glob(pattern))


def test_a_folder_is_made_aside_and_named_at_the_end(builder: Builder, tmp_path: Path) -> None:
    path, said = make(builder)
    assert path == "tf/2.18"
    assert left(builder) == ["tf", "tf/2.18"]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [line.split()[:2] for line in calls] == [["ch-image", "build"], ["ch-convert", "-i"], ["ch-image", "delete"]]
    assert all(" USER=" in line and not line.endswith("USER=") for line in calls)
    assert f"{builder.folder}/tf/.build-" in calls[1]
    assert said == [f"{command} for {builder.folder}/tf/2.18" for command in ("ch-image build", "ch-convert")]


def test_a_file_gets_the_mode_that_its_builder_gave_it(builder: Builder, tmp_path: Path) -> None:
    old = os.umask(0o022)
    try:
        apptainer = Builder(Runtime.APPTAINER, str(tmp_path / "bin/apptainer"), (), builder.folder)
        assert make(apptainer, "tf-2.18")[0] == "tf-2.18.sif"
    finally:
        os.umask(old)
    assert (tmp_path / "images/tf-2.18.sif").stat().st_mode & 0o777 == 0o644
    assert left(builder) == ["tf-2.18.sif"]


@pytest.mark.parametrize(
    ("code", "does", "error"),
    [
        ("7", FOLDER, r"ch-image build ended with exit code 7; needed an image\nHINT: it says why above"),
        ("0", "kill -9 $$", r"ch-convert was ended by signal 9"),
        ("0", "true", r"ch-convert ended without an error, and has made no folder"),
        ("0", FOLDER.replace("etc", "x").replace("usr/", "y/"), r"ch-convert ended without an error"),
    ],
)
def test_nothing_is_left_of_an_image_that_cannot_be_made(
    code: str, does: str, error: str, builder: Builder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CODE", code)
    monkeypatch.setenv("DOES", does)
    with pytest.raises(ImageError, match=error) as caught:
        make(builder)
    assert caught.value.exit_code == {"7": 7}.get(code, 137 if "kill" in does else 1)
    assert left(builder) == ["tf"]
    assert not list((tmp_path / "images/tf").iterdir())
    assert (tmp_path / "calls").read_text().splitlines()[-1].startswith("ch-image delete slurm-tf-")


def test_an_image_is_replaced_only_if_that_was_asked_for(builder: Builder, tmp_path: Path) -> None:
    make(builder)
    made = tmp_path / "images/tf/2.18/etc/made"
    before = made.read_text()
    with pytest.raises(UsageError, match=r"there is an image .*/images/tf/2\.18; .*\nHINT: --replace takes it"):
        make(builder)
    assert made.read_text() == before
    make(builder, replace=True)
    assert made.read_text() != before
    assert left(builder) == ["tf", "tf/2.18"]
    with pytest.raises(UsageError, match="/images/tf is no image; needed a name that is not used"):
        make(builder, "tf", replace=True)


def test_what_stands_at_the_name_meanwhile_stays(
    builder: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOES", f'{FOLDER}; mkdir -p "{tmp_path}/images/tf/2.18/theirs"')
    with pytest.raises(UsageError, match="there is an image"):
        make(builder)
    assert left(builder) == ["tf", "tf/2.18"]
    assert os.listdir(tmp_path / "images/tf/2.18") == ["theirs"]


def test_a_program_that_is_missing_is_named_with_the_modules(
    builder: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.rmtree(tmp_path / "bin")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    modules = Builder(Runtime.CHARLIECLOUD, "ch-run", ("charliecloud/0.31",), builder.folder)
    with pytest.raises(UsageError, match=r"no program ch-image here; .*\nHINT: module load charliecloud/0\.31"):
        make(modules)
    assert left(builder) == ["tf"]


@pytest.fixture
def ch_image() -> None:
    """Skip the test where ch-image lacks packages of the machine's own Python; fail it on CI, which has them."""
    container_image.require()
    done = subprocess.run(["/usr/bin/python3", "-c", "import lark, requests"], timeout=60, check=False)
    lacking = "needed: apt-get install --no-install-recommends python3-lark python3-requests"
    if done.returncode and os.environ.get("CI") == "true":
        pytest.fail(lacking)
    if done.returncode:
        pytest.skip(lacking)


@pytest.mark.long
@pytest.mark.usefixtures("ch_image")
def test_charliecloud_builds_from_a_local_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "base"
    for name in ("bin", "etc", "usr/bin"):
        (base / name).mkdir(parents=True)
    (tmp_path / "Dockerfile").write_text("FROM base\nCOPY Dockerfile /etc/made\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("USER", "root")
    monkeypatch.setenv("PATH", "/usr/bin:/bin")  # ch-image needs the packages of the machine's own Python
    monkeypatch.setenv("CH_IMAGE_STORAGE", str(tmp_path / "storage"))
    subprocess.run(["tar", "-C", str(base), "-cf", "base.tar", "."], timeout=30, check=True)
    subprocess.run(["ch-image", "import", "base.tar", "base"], timeout=60, check=True)
    builder = Builder(Runtime.CHARLIECLOUD, "ch-run", (), str(tmp_path / "images"))
    for name in ("folder", "file.sqfs"):
        make(builder, name)
    assert (tmp_path / "images/folder/etc/made").read_text() == (tmp_path / "Dockerfile").read_text()
    kinds = {each.name: each.kind for each in image_list.images(builder.folder)}
    assert kinds == {"folder": "folder", "file.sqfs": "squashfs"}
    with pytest.raises(ImageError, match="ch-image build ended with exit code 1"):
        (tmp_path / "Dockerfile").write_text("FROM base\nCOPY absent /etc/made\n")
        make(builder, "broken")
    assert sorted(os.listdir(builder.folder)) == ["file.sqfs", "folder"]
