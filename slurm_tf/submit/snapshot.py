"""Copies the program's code for one submission, so that a requeue days later runs what was submitted.

Files that git would track (without git: every small file) are copied. Everything else is a symbolic link to the
original: data, environments, checkpoints, large files, and what is beside the code, as programs read "../data".
"""

import contextlib
import glob
import os
import re
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from slurm_tf import files
from slurm_tf.errors import RunError
from slurm_tf.run.folder import RunFolder
from slurm_tf.submit import git
from slurm_tf.submit.ignore_patterns import IgnorePatterns

_LARGE = 16 << 20
_MOST_FILES, _MOST_BYTES = 10_000, 256 << 20
# Folders that never hold code, by their names, and by what they hold: venv's and conda's environments.
_NEVER = frozenset({"__pycache__", "node_modules", "renv", "site-packages", "dist-packages"})
_OF_ENVIRONMENTS = ("pyvenv.cfg", "conda-meta")
IGNORE_FILE = ".slurm-tf-ignore"
# A checkpoint of TensorFlow: files of one prefix, and the list of them in a file "checkpoint"; or a file of Keras.
_CHECKPOINT = re.compile(r"(?P<prefix>.+)\.(index|meta|data-\d{5}-of-\d{5})", re.DOTALL)
_OF_KERAS = (".keras", ".weights.h5")
_CHECKPOINT_LIST, _LIST_BEGINS = "checkpoint", b"model_checkpoint_path:"
# More than this many files and folders beside the code are no project's: a folder of all users, or a /tmp.
_MOST_SIBLINGS = 1000


@dataclass(frozen=True, slots=True)
class Source:
    """The code around a working directory: `files` are those to copy, of `size` bytes.

    They, `chdir`, and `checkpoints`, the folders that hold files of checkpoints, are relative to `root`.
    """

    root: Path
    chdir: Path
    files: tuple[Path, ...]
    commit: str
    dirty: bool | None
    size: int
    checkpoints: tuple[Path, ...] = ()

    @property
    def name(self) -> str:
        """The name of the root's folder, whatever link leads to it: that is where a program's ".." looks from."""
        return os.path.basename(os.path.realpath(self.root)) or "root"


def find(chdir: Path, runs: Path, alone: bool = False) -> Source:
    """Return the code around `chdir`: its git work tree, or the folder itself, without the runs in it.

    `alone`: the folder itself in any case, as that of a template that came with slurm-tf: what is around it belongs to
    an installation, or to a project that has an environment in it. `runs` is the folder of runs; other folders that
    hold a run are left out, too. `commit` is "" and `dirty` None without git. Raises RunError if there are too many
    files or bytes for code.
    """
    tree = None if alone else git.work_tree(chdir)
    root = _root(chdir, tree) if tree else chdir
    not_code = _NotCode(root, runs, _ignore_patterns(root, tree.folder if tree else ""))
    names = tree.files if tree else _small_files(root, not_code)
    chosen, size, checkpoints = [], 0, set()
    for name in names:
        path = root / name
        if not_code.contains(name) or path.is_symlink() or not path.is_file():
            continue
        length = path.stat().st_size
        if is_of_checkpoint(path):
            checkpoints.add(Path(os.path.dirname(name)))
        elif length <= _LARGE:
            chosen.append(path.relative_to(root))
            size += length
    if len(chosen) > _MOST_FILES or size > _MOST_BYTES:
        raise RunError(
            f"the code in {root} has {len(chosen)} files of {size >> 20} MiB",
            f"at most {_MOST_FILES} files of {_MOST_BYTES >> 20} MiB to copy",
            f"name what is no code in {root}/{IGNORE_FILE}, whose lines are as those of .gitignore, such as data/; or "
            "set `snapshot = false` in the job file",
        )
    return Source(
        root=root,
        chdir=Path(tree.folder if tree else "."),
        files=tuple(chosen),
        commit=tree.commit if tree else "",
        dirty=tree.dirty if tree else None,
        size=size,
        checkpoints=tuple(sorted(checkpoints)),
    )


def is_of_checkpoint(path: Path) -> bool:
    """Return whether a file is part of a checkpoint of TensorFlow or Keras, which is data. Raises OSError."""
    match = _CHECKPOINT.fullmatch(path.name)
    if match:
        return any(path.parent.glob(f"{glob.escape(match['prefix'])}.data-*-of-*"))
    if path.name != _CHECKPOINT_LIST:
        return path.name.endswith(_OF_KERAS)
    with path.open("rb") as file:
        return file.read(len(_LIST_BEGINS)) == _LIST_BEGINS


def _ignore_patterns(root: Path, folder: str) -> IgnorePatterns:
    """Return the patterns of the root and of each folder on the way to the working directory, `folder`."""
    patterns = IgnorePatterns()
    parts = Path(folder).parts
    for length in range(len(parts) + 1):
        each = "/".join(parts[:length])
        patterns.add_file(root / each / IGNORE_FILE, each)
    return patterns


def _root(chdir: Path, tree: git.WorkTree) -> Path:
    """Return the tree's root as a folder around `chdir` as it is spelled: git names what is behind symbolic links."""
    wanted = files.identity(tree.root)
    for folder in (chdir, *chdir.parents):
        if files.identity(str(folder)) == wanted:
            return folder
    return chdir.joinpath(*[".."] * len(Path(tree.folder).parts))


def copy(source: Source, target: Path) -> None:
    """Copy the code into the new folder `target`, as `source.name`; only its owner can read it. Raises OSError."""
    os.mkdir(target, 0o700)
    _link_siblings(source, target)
    target /= source.name
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


def link_checkpoints(source: Source, former: Path, target: Path) -> tuple[Path, ...]:
    """Link the checkpoints that a program wrote into the copy `former` into the copy `target` of a later submission.

    So a program that writes to "./checkpoints" finds them again when its run is resumed. Nothing that is in `target` is
    replaced. Returns their folders, relative to the code's. Raises OSError.
    """
    found = []
    old, new = former / source.name, target / source.name
    for path, folders, names in os.walk(old):
        folder = Path(path).relative_to(old)
        wanted = [each for name in names if (each := Path(path, name)).is_file() and is_of_checkpoint(each)]
        # of an earlier submission still
        wanted += [Path(path, name) for name in folders if _leads_below(Path(path, name), former.parent.parent)]
        if wanted and not os.path.lexists(new / folder):
            folders.clear()
            os.makedirs((new / folder).parent, 0o700, exist_ok=True)
            os.symlink(path, new / folder)
            found.append(folder)
        elif wanted and not (new / folder).is_symlink():
            missing = [each for each in wanted if not os.path.lexists(new / folder / each.name)]
            for each in missing:
                os.symlink(os.readlink(each) if each.is_symlink() else each, new / folder / each.name)
            found += [folder] if missing else []
    return tuple(found)


def _leads_below(link: Path, folder: Path) -> bool:
    return link.is_symlink() and Path(os.readlink(link)).is_relative_to(folder)


def _link_siblings(source: Source, target: Path) -> None:
    """Link what is beside the code, as a program that reads "../data" finds it there."""
    around = source.root.parent
    if files.identity(str(around)) != files.identity(str(source.root / "..")):  # the root is a link itself
        around = source.root / ".."
    names: list[str] = []
    with contextlib.suppress(PermissionError):
        names = os.listdir(around)
    for name in names if len(names) <= _MOST_SIBLINGS else ():
        if name != source.name:
            os.symlink(around / name, target / name)


@dataclass
class _NotCode:
    """Tells what is below `root` and no code: runs, environments, and what `patterns` name.

    The folder of runs is known by its device and inode: it may be reached through symbolic links, "..", or a mount of
    it or of a folder around it. Runs that lie elsewhere are known by what is in their folders.
    """

    root: Path
    runs: Path
    patterns: IgnorePatterns
    _known: dict[str, bool] = field(default_factory=lambda: {"": False})

    def __post_init__(self) -> None:
        self._identity = files.identity(str(self.runs))

    def contains(self, file: str) -> bool:
        """Whether a file, by its path relative to the root, is no code."""
        return self.contains_folder(os.path.dirname(file)) or self.patterns.match(file, is_folder=False)

    def contains_folder(self, folder: str) -> bool:
        """Whether a folder, relative to the root, is no code, or inside one that is none."""
        if folder not in self._known:
            self._known[folder] = self.contains_folder(os.path.dirname(folder)) or self._is_one(folder)
        return self._known[folder]

    def _is_one(self, folder: str) -> bool:
        path = str(self.root / folder)
        run = RunFolder(path)
        return (
            os.path.basename(folder) in _NEVER
            or any(os.path.exists(f"{path}/{name}") for name in _OF_ENVIRONMENTS)
            or self.patterns.match(folder, is_folder=True)
            or (self._identity is not None and files.identity(path) == self._identity)
            or (os.path.isfile(run.manifest) and all(map(os.path.isdir, run.folders)))
        )


def _small_files(root: Path, not_code: _NotCode) -> list[str]:
    """Return every file below `root` that may be code: not hidden, and in no folder that holds none."""
    found: list[str] = []
    for path, folders, names in os.walk(root):
        folder = os.path.relpath(path, root)
        folder = "" if folder == "." else folder
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and not not_code.contains_folder(os.path.join(folder, name))
        )
        found += [os.path.join(folder, name) for name in sorted(names) if name[0] != "."]
        if len(found) > 10 * _MOST_FILES:
            break
    return found
