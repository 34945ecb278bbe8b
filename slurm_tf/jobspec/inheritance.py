"""Finds site profiles and job templates by name, and what each of them inherits: one of a later folder wins.

A profile says `inherit`, a job file `extends`. The keys of the file that is named count where this one has none. A file
may name one of its own name: that is the one of an earlier folder.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm_tf import files, search_path
from slurm_tf.errors import ConfigError, UsageError
from slurm_tf.jobspec import layers
from slurm_tf.jobspec.layers import Layer

SUFFIX = ".toml"


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of files that inherit. `folder`: where they are; `key`: which names another one; `noun`: for messages.

    `own`: keys that are not inherited.
    """

    folder: str
    key: str
    noun: str
    own: tuple[str, ...]


SITE_PROFILES = Kind(search_path.SITE_CONFIGS, "inherit", "site profile", ("inherit", "recognise"))
JOB_TEMPLATES = Kind(search_path.JOBS, "extends", "job template", ("extends",))


def paths(kind: Kind, trusted: Collection[str] = ()) -> dict[str, Path]:
    """Return the files by name, those of later folders first. Raises ConfigError or UsageError."""
    found: dict[str, Path] = {}
    for folder in reversed(search_path.folders(kind.folder, trusted)):
        for name in search_path.names(folder):
            if name.endswith(SUFFIX):
                found.setdefault(name.removesuffix(SUFFIX), folder / name)
    return found


def find(kind: Kind, name: str, trusted: Collection[str] = ()) -> Path:
    """Return the file of a name. Raises UsageError, which names those that there are, or ConfigError."""
    known = paths(kind, trusted)
    if name not in known:
        raise unknown(kind, name, list(known))
    return known[name]


def unknown(kind: Kind, name: str, known: Collection[str], more: str = "") -> UsageError:
    """Return the error for a name that no file has; `more`: what else to know of those that there are."""
    names = sorted(set(known))
    return UsageError(f"no {kind.noun} {name!r}", _one_of(names) + more, layers.nearest(name, names))


def read(path: Path, trusted: Collection[str] = ()) -> dict[str, Any]:
    """Return the values of a file that nobody can have written whom we do not trust. Raises ConfigError."""
    return layers.parse_toml(search_path.read(path, trusted), path)


def chain(kind: Kind, path: Path, values: Mapping[str, Any], trusted: Collection[str] = ()) -> list[Layer]:
    """Return the values of the file at `path`, and of those that it inherits, as layers, the weakest first.

    `values`: those of the file itself, which keeps the keys that are not inherited. Raises ConfigError or UsageError.
    """
    found: dict[Path, Mapping[str, Any]] = {path: values}
    while parent := _parent(kind, path, found[path]):
        where = f"{path}: {kind.key}"
        path = _inherited(kind, parent, path, trusted)
        if path in found:
            way = " -> ".join(str(each) for each in (*found, path))
            needed = f"files that end in one without `{kind.key}`"
            raise ConfigError(f"it inherits itself: {way}", needed, where=where)
        found[path] = read(path, trusted)
    own, *inherited = found.items()
    layered = [
        Layer(str(each), {key: value for key, value in of_file.items() if key not in kind.own})
        for each, of_file in reversed(inherited)
    ]
    return [*layered, Layer(str(own[0]), own[1])]


def _parent(kind: Kind, path: Path, values: Mapping[str, Any]) -> str:
    """Return the name of what a file inherits, "" for nothing. Raises ConfigError."""
    name = values.get(kind.key, "")
    if not isinstance(name, str):
        raise ConfigError(f"found {name!r}", f"the name of a {kind.noun}", where=f"{path}: {kind.key}")
    return name


def _inherited(kind: Kind, name: str, path: Path, trusted: Collection[str]) -> Path:
    """Return the file `name` that the one at `path` inherits; of its own name, that of an earlier folder.

    A file that is in none of the folders inherits the one beside it first. Raises ConfigError or UsageError.
    """
    folders = search_path.folders(kind.folder, trusted)
    if files.identity(str(path.parent)) not in [files.identity(str(each)) for each in folders]:
        folders = [*folders, path.parent]
    found = [folder / f"{name}{SUFFIX}" for folder in folders]
    own = files.identity(str(path))
    earlier = next((number for number, each in enumerate(found) if files.identity(str(each)) == own), len(found))
    known = [each for each in found[:earlier] if files.identity(str(each))]
    if known and "/" not in name:
        return known[-1]
    names = [each for each in paths(kind, trusted) if each != path.stem]
    hint = layers.nearest(name, names)
    raise ConfigError(f"no {kind.noun} {name!r}", _one_of(names), hint, f"{path}: {kind.key}")


def _one_of(names: Collection[str]) -> str:
    return f"one of {', '.join(sorted(names))}"
