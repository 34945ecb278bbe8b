"""Patterns in the form of .gitignore: what git ignores is ignored without git."""

import random
import subprocess
from pathlib import Path

import pytest

from slurm_tf.errors import RunError
from slurm_tf.submit.ignore_patterns import IgnorePatterns

PATHS = [
    "a", "b", "a/b", "a/b/c", "a/x.py", "x.py", "x.pyc", "data/a", "data/b/x.py", "sub/data/x", "sub/a/b/x.py", "# a",
    "!x", "a b ", "[x]", "[x", "a*b", "ab", "aXb", "x-1", "x-2/y",
]  # fmt: skip
PIECES = [
    "a",
    "b",
    "x",
    "*",
    "**",
    "?",
    "/",
    "/",
    ".py",
    "data",
    "[ab]",
    "[!a]",
    "[a-x]",
    "[]x]",
    "\\*",
    "\\#",
    "!",
    " ",
]
WRITTEN = [
    "data/", "/data", "data/*", "!data/b", "**/x.py", "a/**", "a/**/x.py", "*.py", "!x.py", "# a", "\\# a", "\\!x",
    "a b\\ ",
    "[x]", "[[]x]", "a\\*b", "a?b", "sub/data", "x-[0-9]", "x-[!1]", "", "/", "**", "*", "[x", "x\\",
]  # fmt: skip


def git_ignores(folder: Path, patterns: list[str]) -> set[str]:
    """Return which of the paths git ignores, files and folders."""
    (folder / ".gitignore").write_text("\n".join(patterns) + "\n")
    paths = sorted({str(each) for path in PATHS for each in (Path(path), *Path(path).parents)} - {"."})
    done = subprocess.run(
        ["git", "-C", str(folder), "check-ignore", "--no-index", "--stdin", "-z"],
        input="\0".join(paths), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return set(filter(None, done.stdout.split("\0")))


def ours(folder: Path, file: Path) -> set[str]:
    """Return which of the paths are ignored by themselves or with a folder around them."""
    patterns = IgnorePatterns()
    patterns.add_file(file, "")
    found: set[str] = set()
    for path in PATHS:
        parts = Path(path).parts
        for length in range(1, len(parts) + 1):
            each = str(Path(*parts[:length]))
            if str(Path(each).parent) in found or patterns.match(each, (folder / each).is_dir()):
                found.add(each)
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True, timeout=60)
    for path in sorted(PATHS, key=len, reverse=True):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        if not (tmp_path / path).exists():
            (tmp_path / path).touch()
    return tmp_path


@pytest.mark.slow
def test_what_git_ignores_is_ignored(folder: Path) -> None:
    choose = random.Random(14)
    cases = [[line] for line in WRITTEN]
    cases += [choose.sample(WRITTEN, 3) for _ in range(40)]
    cases += [["".join(choose.choices(PIECES, k=choose.randint(1, 5))) for _ in range(2)] for _ in range(120)]
    for patterns in cases:
        expected = git_ignores(folder, patterns)
        assert ours(folder, folder / ".gitignore") == expected, patterns


def test_a_file_counts_below_its_folder(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("x\n/y\n")
    (tmp_path / "two").write_bytes("\ufeff!x\n".encode())
    patterns = IgnorePatterns()
    patterns.add_file(tmp_path / "none", "")
    patterns.add_file(tmp_path / "one", "sub")
    assert [patterns.match(path, False) for path in ("x", "y", "sub/x", "sub/y", "sub/a/x", "sub/a/y")] == [
        False, False, True, True, True, False,
    ]  # fmt: skip
    patterns.add_file(tmp_path / "two", "sub/a")
    assert not patterns.match("sub/a/x", False)
    (tmp_path / "bad").write_bytes(b"\xff")
    with pytest.raises(RunError, match="byte 0 is no UTF-8"):
        patterns.add_file(tmp_path / "bad", "")
