"""Copies a job template with its programs, as the start of a folder of the user's own: nothing follows the template."""

import ast
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from slurm_tf import search_path
from slurm_tf.jobspec import configuration, job_templates, layers, plan, toml_entries
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.job_templates import TemplateFile
from slurm_tf.jobspec.toml_entries import Entry

# Which are written elsewhere, or not at all.
_NOT_COPIED = ("extends", "chdir")


@dataclass(frozen=True, slots=True)
class TemplateCopy:
    """What a copy consists of: the job file's name and text, and the programs, by their paths below the folder.

    `chdir`: where the programs are that are not copied, "" if they are.
    """

    name: str
    text: bytes
    programs: Mapping[str, bytes]
    chdir: str


def of(template: TemplateFile, trusted: tuple[str, ...]) -> TemplateCopy:
    """Return the copy of a template. Raises ConfigError or UsageError."""
    job = configuration.alone(template, trusted)
    folder = Path(plan.source_folder(job))
    chdir = str(folder) if job.spec.chdir else ""
    chain = job_templates.read(template, trusted).layered
    if len(chain) == 1 and not chdir:  # with its comments
        text = search_path.read(template.path, trusted)
    else:
        text = _merged(template, layers.merged(chain), chdir).encode()
    names = [] if chdir else sorted(set(_programs(job, folder)))
    return TemplateCopy(
        f"{template.name}.toml", text, {name: search_path.read(folder / name, trusted) for name in names}, chdir
    )


def _merged(template: TemplateFile, values: Mapping[str, Any], chdir: str) -> str:
    """Return as one job file what a template and those that it extends state."""
    lines = [toml_entries.comment(f"The job template {template.name} of {template.path}, with what it extends.")]
    own = {key: value for key, value in values.items() if key not in _NOT_COPIED}
    lines += _table("", {**own, **({"chdir": chdir} if chdir else {})})
    return "\n".join(lines) + "\n"


def _table(path: str, values: Mapping[str, Any]) -> list[str]:
    """Return the lines of a table: its values, then the tables in it; a param is a line of its own."""
    tables = {key: value for key, value in values.items() if isinstance(value, Mapping) and path != "params"}
    plain = [Entry(key, value) for key, value in values.items() if key not in tables]
    lines = ["", f"[{path}]"] if path and plain else []
    lines += toml_entries.lines(plain)
    for key, table in tables.items():
        inner = toml_entries.key(key)
        lines += _table(f"{path}.{inner}" if path else inner, table)
    return lines


def _programs(job: Job, folder: Path) -> Iterator[str]:
    """Yield the files in `folder` that the commands name, and the modules there that Python programs import."""
    words = [word for role in job.spec.roles.with_tasks.values() for word in job.spec.command_of(role)]
    modules = [word for word, before in zip(words[1:], words, strict=False) if before == "-m"]
    waiting = [name for word in words for name in _named(word, folder)]
    waiting += [name for module in modules for name in _module(module, folder)]
    seen: set[str] = set()
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            yield name
            waiting += _imports(folder, name) if name.endswith(".py") else []


def _named(word: str, folder: Path) -> list[str]:
    """Return the file in `folder` that a word of a command names, also as --config=FILE."""
    for name in (word, word.partition("=")[2]):
        path = os.path.normpath(name) if name else ".."
        if not os.path.isabs(path) and not path.startswith("..") and (folder / path).is_file():
            return [path]
    return []


def _module(name: str, folder: Path) -> list[str]:
    """Return the files of a module or package in `folder`."""
    top = name.partition(".")[0]
    if (folder / f"{top}.py").is_file():
        return [f"{top}.py"]
    if not (folder / top).is_dir():
        return []
    return [str(path.relative_to(folder)) for path in (folder / top).rglob("*.py")]


def _imports(folder: Path, name: str) -> Sequence[str]:
    """Return the files in `folder` of what a program there imports."""
    try:
        tree = ast.parse((folder / name).read_bytes())
    except (SyntaxError, ValueError):
        return ()
    modules = {name for node in ast.walk(tree) for name in _modules(node)}
    return [path for each in sorted(modules) for path in _module(each, folder)]


def _modules(node: ast.AST) -> list[str]:
    """Return the modules that a statement imports, none for any other one."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module] if isinstance(node, ast.ImportFrom) and node.module and not node.level else []
