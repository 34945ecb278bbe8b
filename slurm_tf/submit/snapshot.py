"""Copies the program's code for one submission, so that a requeue days later runs what was submitted.

Files that git would track (without git: every small file) are copied. Everything else is a symbolic link to the
original: data, environments, large files.
"""

import os
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from slurm_tf import files
from slurm_tf.errors import RunError
from slurm_tf.run.folder import RunFolder
from slurm_tf.submit import git

_LARGE = 16 << 20
_MOST_FILES, _MOST_BYTES = 10_000, 256 << 20
# Folders that never hold code.
_NEVER = frozenset({"__pycache__", "node_modules"})


@dataclass(frozen=True, slots=True)
class Source:
    """The code around a working directory: `files` are those to copy; they and `chdir` are relative to `root`."""

    root: Path
    chdir: Path
    files: tuple[Path, ...]
    commit: str
    dirty: bool | None


def find(chdir: Path, runs: Path) -> Source:
    """Return the code around `chdir`: its git work tree, or the folder itself, without the runs in it.

    `runs` is the folder of runs; other folders that hold a run are left out, too. `commit` is "" and `dirty` None
    without git. Raises RunError if there are too many files or bytes for code.
    """
    tree = git.work_tree(chdir)
    root = _root(chdir, tree) if tree else chdir
    of_runs = _FoldersOfRuns(root, runs)
    names = tree.files if tree else _small_files(root, of_runs)
    chosen, size = [], 0
    for name in names:
        path = root / name
        if of_runs.contain(os.path.dirname(name)) or path.is_symlink() or not path.is_file():
            continue
        length = path.stat().st_size
        if length <= _LARGE:
            chosen.append(path.relative_to(root))
            size += length
    if len(chosen) > _MOST_FILES or size > _MOST_BYTES:
        raise RunError(
            f"the code in {root} has {len(chosen)} files of {size >> 20} MiB",
            f"at most {_MOST_FILES} files of {_MOST_BYTES >> 20} MiB to copy",
            "keep data out of it (.gitignore), or set `snapshot = false` in the job file",
        )
    if tree is None:
        return Source(root, Path("."), tuple(chosen), "", None)
    return Source(root, Path(tree.folder), tuple(chosen), tree.commit, tree.dirty)


def _root(chdir: Path, tree: git.WorkTree) -> Path:
    """Return the tree's root as a folder around `chdir` as it is spelled: git names what is behind symbolic links."""
    wanted = files.identity(tree.root)
    for folder in (chdir, *chdir.parents):
        if files.identity(str(folder)) == wanted:
            return folder
    return chdir.joinpath(*[".."] * len(Path(tree.folder).parts))


def copy(source: Source, target: Path) -> None:
    """Copy the code to `target`, which must not exist; only its owner can read it. Raises OSError."""
    folders: dict[Path, set[str]] = {Path("."): set()}
    for file in source.files:
        folders.setdefault(file.parent, set()).add(file.name)
        for parent in file.parents[:-1]:
            folders.setdefault(parent.parent, set()).add(parent.name)
    for parent in (source.chdir, *source.chdir.parents)[:-1]:
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


@dataclass
class _FoldersOfRuns:
    """Tells folders below `root` that hold runs from those that hold code.

    The folder of runs is known by its device and inode: it may be reached through symbolic links, "..", or a mount of
    it or of a folder around it. Runs that lie elsewhere are known by what is in their folders.
    """

    root: Path
    runs: Path
    _known: dict[str, bool] = field(default_factory=lambda: {"": False})

    def __post_init__(self) -> None:
        self._identity = files.identity(str(self.runs))

    def contain(self, folder: str) -> bool:
        """Whether `folder`, relative to the root, is the folder of runs, a run, or inside one."""
        if folder not in self._known:
            self._known[folder] = self.contain(os.path.dirname(folder)) or self._is_one(str(self.root / folder))
        return self._known[folder]

    def _is_one(self, path: str) -> bool:
        run = RunFolder(path)
        if self._identity is not None and files.identity(path) == self._identity:
            return True
        return os.path.isfile(run.manifest) and all(map(os.path.isdir, run.folders))


def _small_files(root: Path, of_runs: _FoldersOfRuns) -> list[str]:
    """Return every file below `root` that may be code: not hidden, not of an environment or a run."""
    found: list[str] = []
    for path, folders, names in os.walk(root):
        folder = os.path.relpath(path, root)
        folder = "" if folder == "." else folder
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".")
            and name not in _NEVER
            and not os.path.exists(f"{path}/{name}/pyvenv.cfg")
            and not of_runs.contain(os.path.join(folder, name))
        )
        found += [os.path.join(folder, name) for name in sorted(names) if name[0] != "."]
        if len(found) > 10 * _MOST_FILES:
            break
    return found
