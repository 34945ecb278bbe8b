"""Matches paths against files of patterns in the form of .gitignore, so that they also work where there is no git.

Source: gitignore(5). A pattern that ends in a backslash, or whose brackets are not closed, matches nothing.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from slurm_tf.errors import RunError

_BRACKETS = re.compile(r"\[(?P<not>[!^]?)(?P<inside>\]?[^\]]*)\]")


@dataclass(frozen=True, slots=True)
class _Pattern:
    """One line: what it matches below the file's `folder`; `keeps`: it begins with "!"; `folders`: it ends in "/"."""

    folder: str
    path: "re.Pattern[str]"
    keeps: bool
    folders: bool


class IgnorePatterns:
    """The patterns of files, of which a later one outranks an earlier one, as a later line does within a file."""

    def __init__(self) -> None:
        self._patterns: list[_Pattern] = []

    def add_file(self, path: Path, folder: str) -> None:
        """Add the patterns of the file `path`, if there is one, for paths below `folder` ("" for all).

        Raises RunError for a file that is no UTF-8, and OSError for one that cannot be read.
        """
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except FileNotFoundError:
            return
        except UnicodeDecodeError as error:
            raise RunError(f"{path}: byte {error.start} is no UTF-8", "patterns as UTF-8 text") from error
        self._patterns += [pattern for line in lines if (pattern := _parse(line, folder))]

    def match(self, path: str, is_folder: bool) -> bool:
        """Whether the last pattern that matches `path` itself, not a folder around it, ignores it."""
        for pattern in reversed(self._patterns):
            if pattern.folders and not is_folder:
                continue
            below = path if not pattern.folder else path.removeprefix(f"{pattern.folder}/")
            if (below != path or not pattern.folder) and pattern.path.fullmatch(below):
                return not pattern.keeps
        return False


def _parse(line: str, folder: str) -> _Pattern | None:
    text = re.sub(r"(?<!\\) +$", "", line)
    if not text or text.startswith("#"):
        return None
    keeps, folders = text.startswith("!"), text.endswith("/")
    text = text[keeps:].removesuffix("/")
    anchored = "/" in text
    expression = _expression(text.removeprefix("/"))
    if expression is None:
        return None
    return _Pattern(folder, re.compile(expression if anchored else f"(?:.*/)?{expression}", re.DOTALL), keeps, folders)


def _expression(text: str) -> str | None:
    """Return the regular expression of a pattern, None for one that matches nothing."""
    found, at = "", 0
    while at < len(text):
        rest = text[at:]
        brackets = _BRACKETS.match(rest)
        if rest.startswith("**/") and (at == 0 or text[at - 1] == "/"):
            found, at = f"{found}(?:.*/)?", at + 3
        elif rest == "**" and text[at - 1 : at] == "/":
            found, at = f"{found}.+", at + 2
        elif rest[0] == "*":
            found, at = f"{found}[^/]*", at + len(rest) - len(rest.lstrip("*"))
        elif rest[0] == "?":
            found, at = f"{found}[^/]", at + 1
        elif brackets:
            inside = brackets["inside"].replace("\\", "\\\\").replace("[", "\\[").replace("]", "\\]")
            found, at = f"{found}(?!/)[{'^' if brackets['not'] else ''}{inside}]", at + brackets.end()
        elif rest[0] == "[" or rest == "\\":
            return None
        else:
            at += rest[0] == "\\"
            found, at = found + re.escape(text[at]), at + 1
    return found
