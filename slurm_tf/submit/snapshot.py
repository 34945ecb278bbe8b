"""A copy of the program's code for one submission: a requeue days later runs what was submitted, not what was edited.

What git would track (or, without git, every small file) is copied; everything else is there as a link to the original:
data, environments, large files.
"""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from slurm_tf.errors import RunError
from slurm_tf.submit import git

_LARGE = 16 << 20
_MOST_FILES, _MOST_BYTES = 10_000, 256 << 20
# Folders whose contents nobody edits as code.
_NEVER = frozenset({"__pycache__", "node_modules"})


@dataclass(frozen=True, slots=True)
class Source:
    """The code around a working directory: `files` below `root` are to be copied; `chdir` is below `root` too."""

    root: Path
    chdir: Path
    files: tuple[Path, ...]
    commit: str
    dirty: bool | None


def find(chdir: Path, runs: Path) -> Source:
    """Return the code around `chdir`: its git work tree, or the folder itself; `runs` is never part of it.

    `commit` is "" and `dirty` None without git. Raises RunError if it is more than code can be.
    """
    tree = git.work_tree(chdir)
    root = Path(tree.root) if tree else chdir
    names = tree.files if tree else _small_files(root)
    chosen, size = [], 0
    for name in names:
        path = root / name
        if path.is_relative_to(runs) or path.is_symlink() or not path.is_file():
            continue
        length = path.stat().st_size
        if length <= _LARGE:
            chosen.append(path.relative_to(root))
            size += length
    if len(chosen) > _MOST_FILES or size > _MOST_BYTES:
        raise RunError(
            f"the code in {root} has {len(chosen)} files of {size >> 20} MiB",
            f"at most {_MOST_FILES} files of {_MOST_BYTES >> 20} MiB to copy",
            "keep data out of it (.gitignore), or say `snapshot = false` in the job file",
        )
    return Source(root, chdir, tuple(chosen), tree.commit if tree else "", tree.dirty if tree else None)


def copy(source: Source, target: Path) -> None:
    """Copy the code to `target`, which must not exist; readable by its owner alone. Raises OSError."""
    folders: dict[Path, set[str]] = {Path("."): set()}
    for file in source.files:
        folders.setdefault(file.parent, set()).add(file.name)
        for parent in file.parents[:-1]:
            folders.setdefault(parent.parent, set()).add(parent.name)
    chdir = source.chdir.relative_to(source.root)
    for parent in (chdir, *chdir.parents)[:-1]:
        folders.setdefault(parent, set())
        folders.setdefault(parent.parent, set()).add(parent.name)
    for folder in sorted(folders):
        os.mkdir(target / folder, 0o700)
        for entry in os.scandir(source.root / folder):
            if entry.name not in folders[folder]:
                os.symlink(entry.path, target / folder / entry.name)
    for file in source.files:
        shutil.copyfile(source.root / file, target / file)
        executable = os.access(source.root / file, os.X_OK)
        os.chmod(target / file, 0o700 if executable else 0o600)


def _small_files(root: Path) -> list[str]:
    """Return every file below `root` that may be code: not hidden, not of an environment."""
    found: list[str] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and name not in _NEVER and not os.path.exists(f"{folder}/{name}/pyvenv.cfg")
        )
        found += [os.path.relpath(os.path.join(folder, name), root) for name in sorted(names) if name[0] != "."]
        if len(found) > 10 * _MOST_FILES:
            break
    return found
