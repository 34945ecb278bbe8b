"""Packages: a wheel, an sdist, an editable install and a bare checkout all find templates and site profiles."""

import os
import re
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path

import pytest

from tests import snippets, wheel
from tests.conftest import ROOT

pytestmark = pytest.mark.slow

RENDER = ["-m", "slurm_tf", "render", "-", "--name", "x"]
JOB = 'name = "a"\nstrategy = "single"\ncommand = ["python", "train.py"]\nsnapshot = false\n[roles.worker]\n'


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sdist of this checkout and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("dist")
    wheel.build(tmp_path_factory.mktemp("source"), folder)
    return folder


def test_the_wheel_holds_what_git_holds(built: Path) -> None:
    (package,) = built.glob("*.whl")
    packed = {name for name in zipfile.ZipFile(package).namelist() if ".dist-info" not in name}
    assert {name.partition(".data/data/")[2] for name in packed} == {"", "share/man/man1/slurm-tf.1"}
    packed = {name for name in packed if ".data/" not in name}
    wanted = {f"slurm_tf/{name}" for name in wheel.committed("templates", "site_configs", "docs", "jobs")}
    wanted |= wheel.committed("slurm_tf")
    assert packed == wanted
    (info,) = (name for name in zipfile.ZipFile(package).namelist() if name.endswith("/METADATA"))
    about = zipfile.ZipFile(package).read(info).decode()
    assert re.findall(r"^License-.*", about, re.MULTILINE) == [
        "License-Expression: Apache-2.0",
        "License-File: LICENSE",
    ]


def test_the_sdist_holds_what_the_wheel_needs(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        packed = {name.partition("/")[2] for name in archive.getnames()}
    assert wheel.committed("templates", "site_configs", "docs", "jobs", "man", "slurm_tf", "LICENSE") <= packed


def clean(path: str) -> dict[str, str]:
    return {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"], "PYTHONPATH": path}


def rendered(python: str, path: str = "") -> str:
    done = subprocess.run(
        [python, *RENDER], input=JOB, capture_output=True, text=True, timeout=60, cwd="/", env=clean(path), check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_all_ways_of_installing_render_the_same(built: Path, tmp_path: Path) -> None:
    """The editable install is that of the environment which runs the tests."""
    (package,) = built.glob("*.whl")
    libraries = next(path for path in sys.path if path.endswith("site-packages"))
    checkout = rendered(sys.executable, f"{ROOT}{os.pathsep}{libraries}")
    assert checkout.startswith("#!/bin/bash\n")
    venv.create(tmp_path)
    installed = str(tmp_path / "bin" / "python")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", installed, "install", "--quiet", "--no-deps", str(package)],
        check=True, timeout=280,
    )  # fmt: skip
    for python, path, top in ((installed, libraries, tmp_path), (sys.executable, "", ROOT)):
        assert rendered(python, path) == checkout
        where = subprocess.run(
            [python, "-c", "import slurm_tf; print(slurm_tf.__file__)"],
            capture_output=True, text=True, timeout=60, cwd="/", env=clean(""), check=True,
        )  # fmt: skip
        assert str(top) in where.stdout


@pytest.mark.long
def test_what_the_page_says_installs_it(built: Path, tmp_path: Path) -> None:
    """Without what slurm-tf depends on, which the environment of the tests has."""
    (package,) = built.glob("*.whl")
    values = {"REPOSITORY": str(package), "/proj": f"{tmp_path}/proj", "/opt": f"{tmp_path}/opt"}
    chosen = snippets.of("sh install")
    (tmp_path / "home").mkdir()
    environ = {
        "HOME": f"{tmp_path}/home", "PATH": f"{tmp_path}/home/.local/bin:{Path(sys.executable).parent}:/usr/bin:/bin",
        "PYTHONPATH": next(path for path in sys.path if path.endswith("site-packages")),
        "PIP_NO_DEPS": "1", "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    }  # fmt: skip
    lines = [*(snippets.filled(snippet.text, values) for snippet in chosen), "complete -p slurm-tf"]
    done = subprocess.run(
        ["bash", "-ec", "\n".join(lines)], cwd=tmp_path,
        capture_output=True, text=True, timeout=280, check=False, env=environ,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    commands = "".join(snippet.text for snippet in chosen)
    assert done.stdout.count("slurm-tf, version 0.1.0\n") == commands.count("slurm-tf --version\n") > 0
    assert "# Submitting and watching jobs" in done.stdout
    assert done.stdout.endswith("-F _slurm_tf_completion slurm-tf\n")
    assert (tmp_path / "jobs" / "wide_and_deep.py").read_bytes() == (ROOT / "jobs" / "wide_and_deep.py").read_bytes()
    # where man looks for what is in PATH: beside the folder of the program
    for folder in ("home/.local", "proj/vision/slurm-tf", "opt/slurm-tf/0.1.0"):
        page = tmp_path / folder / "share" / "man" / "man1" / "slurm-tf.1"
        assert page.read_bytes() == (ROOT / "man" / "slurm-tf.1").read_bytes()
