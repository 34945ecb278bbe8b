"""Builds the packages that are installed: from what git has or would add, in a folder of its own; fetches others."""

import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT

# Where the machine's own `python3` is, not the one of the tests.
_PLAIN = {"PATH": "/usr/local/bin:/usr/bin:/bin"}


def committed(*folders: str) -> set[str]:
    """Return the files of this checkout below `folders`, or all of them."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", *folders],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    return set(listed.stdout.split())


def build(source: Path, folder: Path) -> None:
    """Put an sdist of this checkout and the wheel that is built from it into `folder`; `source` is for a copy."""
    for name in committed():
        if (ROOT / name).exists():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    subprocess.run(
        [sys.executable, "-m", "build", "--outdir", folder, source], check=True, timeout=280, capture_output=True
    )


def download(environment: Path, packages: Path, *wanted: str) -> None:
    """Put what `pip install WANTED` needs into the folder `packages`, for the Python of this machine's `python3`.

    `environment`: a folder for the environment whose pip does it.
    """
    subprocess.run(["python3", "-m", "venv", environment], check=True, timeout=120, env=_PLAIN)
    fetched = subprocess.run(
        [environment / "bin" / "pip", "download", "--quiet", "--dest", packages, *wanted],
        check=False, timeout=1200, capture_output=True, text=True,
    )  # fmt: skip
    assert fetched.returncode == 0, fetched.stderr
