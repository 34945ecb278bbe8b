"""Reads the source of a program and of the modules beside it that it imports: which names of libraries it uses.

It is parsed, not run. What cannot be read, such as a program inside a shell script, uses nothing.
"""

import ast
import os
from dataclasses import dataclass, field
from typing import Dict, Iterator, List, Mapping, Sequence, Set, Tuple

# limits in case the program imports from a very large folder; its own files are few and small
_MAX_FILES, _MAX_BYTES = 100, 4 << 20


@dataclass
class Sources:
    """What the source files of a program use.

    `used`: "file:line" of the first use of each name that was asked for; `packages`: those of the packages that were
    asked for. `called`: "file:line" of the first call of each method, of whatever object. `constants`: texts, numbers.
    """

    used: Dict[str, str] = field(default_factory=dict)
    packages: Set[str] = field(default_factory=set)
    called: Dict[str, str] = field(default_factory=dict)
    constants: Set[object] = field(default_factory=set)

    def first_use(self, names: Sequence[str]) -> str:
        """Return "file:line" of the first of `names` that is used, "" if none is."""
        return next((where for name, where in self.used.items() if name in names), "")


def read(argv: Sequence[str], names: Sequence[str], packages: Sequence[str]) -> Sources:
    """Read the program that `argv` names, and the modules beside it that it imports; look for names and packages."""
    sources = Sources()
    roots, waiting = _program(argv)
    known, left = set(waiting), _MAX_BYTES
    while waiting and left > 0:
        path = waiting.pop(0)
        try:
            with open(path, "rb") as file:
                text = file.read(left)
                left -= len(text)
                tree = ast.parse(text)
        except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
            continue  # not Python, or of a newer version than this one
        for module in _read(tree, os.path.basename(path), names, packages, sources):
            for found in _files(roots, module, path):
                if found not in known and len(known) < _MAX_FILES:
                    known.add(found)
                    waiting.append(found)
    return sources


def _program(argv: Sequence[str]) -> Tuple[str, List[str]]:
    """Return the folder that the program imports from, and its file: that of `python -m`, or the first *.py."""
    for before, argument in zip(["", *argv], argv):
        if before == "-m":
            return os.curdir, list(_files(os.curdir, argument, ""))
        if argument.endswith(".py") and os.path.isfile(argument):
            return os.path.dirname(argument) or os.curdir, [argument]
    return os.curdir, []


def _files(root: str, module: str, importer: str) -> Iterator[str]:
    """Yield the files of `module` that are there: itself, and `a/b.py` of `from a import b`."""
    dots = len(module) - len(module.lstrip("."))
    folder = importer if dots else root
    for _ in range(dots):
        folder = os.path.dirname(folder)
    stem = os.path.join(folder, *module[dots:].split("."))
    for path in (f"{stem}.py", os.path.join(stem, "__main__.py"), os.path.join(stem, "__init__.py")):
        if os.path.isfile(path):
            yield os.path.normpath(path)


def _read(tree: ast.AST, file: str, names: Sequence[str], packages: Sequence[str], sources: Sources) -> List[str]:
    """Add what one file shows to `sources`; return the modules that it imports."""
    imported, modules = _imports(tree)
    dotted = sorted(
        (node.lineno, _dotted(node, imported)) for node in ast.walk(tree) if isinstance(node, (ast.Attribute, ast.Name))
    )
    for line, name in dotted:
        if name in names:
            sources.used.setdefault(name, f"{file}:{line}")
    for name in [*modules, *(name for _, name in dotted)]:
        sources.packages |= {package for package in packages if f"{name}.".startswith(f"{package}.")}
    sources.constants |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    calls = [node.func for node in ast.walk(tree) if isinstance(node, ast.Call)]
    for method in sorted((each for each in calls if isinstance(each, ast.Attribute)), key=lambda each: each.lineno):
        if _dotted(method, imported) != "re.compile":
            sources.called.setdefault(method.attr, f"{file}:{method.lineno}")
    return modules


def _imports(tree: ast.AST) -> Tuple[Dict[str, str], List[str]]:
    """Return the full name of each imported name, and the name of every module that may be imported."""
    names: Dict[str, str] = {}
    modules: List[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                first = alias.name.partition(".")[0]
                names[alias.asname or first] = alias.name if alias.asname else first
                modules.append(alias.name)
        elif isinstance(node, ast.ImportFrom):
            parent = "." * node.level + (node.module or "")
            modules.append(parent)
            for alias in node.names:
                whole = f"{parent}{'' if parent.endswith('.') else '.'}{alias.name}"
                names[alias.asname or alias.name] = whole
                modules.append(whole)
    return names, modules


def _dotted(node: ast.AST, names: Mapping[str, str]) -> str:
    """Return the full name of a name such as `hvd.DistributedOptimizer`; "" if it begins with no imported one."""
    parts: List[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name) or node.id not in names:
        return ""
    return ".".join([names[node.id], *reversed(parts)])
