"""Job templates, which are job files in the folders `jobs/` of the search path, and what job files extend.

Not to be confused with the script templates (templates/), by which submit/render.py renders all of them.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from slurm_tf import files, search_path
from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import inheritance, layers
from slurm_tf.jobspec.inheritance import JOB_TEMPLATES, SUFFIX
from slurm_tf.jobspec.layers import Layer
from slurm_tf.run.manifest import TemplateOrigin
from slurm_tf.search_path import JOBS, Scope

# -t NAME is a template, and -t 30 a time: no name begins with a digit.
NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]*", re.ASCII)
# Which are times as well.
_TIMES = ("UNLIMITED", "INFINITE")


@dataclass(frozen=True, slots=True)
class TemplateFile:
    """The file of a job template: `scope`: whose it is."""

    name: str
    scope: Scope
    path: Path


@dataclass(frozen=True, slots=True)
class JobFile:
    """A job file with what it extends: `layered`, the weakest first, with a table for each param.

    `template`: None if it is no template, and extends none.
    """

    path: Path
    layered: tuple[Layer, ...]
    template: TemplateOrigin | None


def template_files(trusted: Collection[str] = (), refused: list[ConfigError] | None = None) -> list[TemplateFile]:
    """Return all files of templates by their names; of one name the strongest first, which shadows the others.

    `refused`: takes why folders are left out; without it one that cannot be read raises ConfigError. Raises UsageError.
    """
    found: list[TemplateFile] = []
    for scope, folder in reversed(search_path.scopes(JOBS, trusted, refused)):
        try:
            names = search_path.names(folder)
        except ConfigError as error:
            if refused is None:
                raise
            refused.append(error)
            continue
        found += [
            TemplateFile(name.removesuffix(SUFFIX), scope, folder / name) for name in names if name.endswith(SUFFIX)
        ]
    return sorted(found, key=lambda each: each.name)


def find(name: str, trusted: Collection[str] = ()) -> TemplateFile:
    """Return the template that a name means. Raises UsageError or ConfigError."""
    known = template_files(trusted)
    found = next((each for each in known if each.name == name), None)
    if found is None:
        refused: list[ConfigError] = []
        template_files(trusted, refused)
        left_out = "".join(f"; a folder is left out: {each}" for each in refused)
        raise inheritance.unknown(JOB_TEMPLATES, name, [each.name for each in known], left_out)
    check_name(name, found.path)
    return found


def check_name(name: str, path: Path) -> None:
    """Raise ConfigError for a template that cannot be named on the command line."""
    if not NAME.fullmatch(name) or name.upper() in _TIMES:
        needed = "letters, digits and ._- for a job template, a letter first, and no time"
        raise ConfigError(f"found the name {name!r}", needed, "rename the file", str(path))


def read(source: Path | TemplateFile, trusted: Collection[str] = ()) -> JobFile:
    """Return the job file at a path, which may be "-", or that of a template, with what it extends.

    A file that the user typed may be anybody's; a template, and what is extended, only a trusted user's. Raises
    ConfigError or UsageError.
    """
    path = source.path if isinstance(source, TemplateFile) else source
    values = inheritance.read(path, trusted) if isinstance(source, TemplateFile) else layers.read_toml(path)
    chain = inheritance.chain(JOB_TEMPLATES, path, values, trusted)
    layered = tuple(map(with_params, chain))
    return JobFile(path, layered, _origin(layered, trusted))


def with_params(layer: Layer) -> Layer:
    """Return the layer with a table for each of its params: a value alone is a default."""
    params = layer.values.get("params")
    if not isinstance(params, Mapping):
        return layer
    tables = {name: each if isinstance(each, Mapping) else {"default": each} for name, each in params.items()}
    return Layer(layer.origin, {**layer.values, "params": tables})


def _origin(layered: Sequence[Layer], trusted: Collection[str]) -> TemplateOrigin | None:
    """Return the template that a job file is, else the nearest one that it extends."""
    for number in range(len(layered), 0, -1):
        found = _of_path(Path(layered[number - 1].origin), trusted)
        if found:
            return TemplateOrigin(found.name, found.scope.value, str(found.path), digest(layered[:number]))
    return None


def digest(layered: Sequence[Layer]) -> str:
    """Return the SHA-256 of what layers state together: it changes with every value, and with no comment."""
    merged = layers.merged(layered)
    merged.pop(JOB_TEMPLATES.key, None)
    return hashlib.sha256(json.dumps(merged, sort_keys=True).encode()).hexdigest()


def _of_path(path: Path, trusted: Collection[str]) -> TemplateFile | None:
    """Return the template of a file in one of the folders, None for any other file."""
    folder = files.identity(str(path.parent))
    for scope, each in search_path.scopes(JOBS, trusted):
        if folder == files.identity(str(each)) and path.name.endswith(SUFFIX):
            return TemplateFile(path.stem, scope, each / path.name)
    return None
