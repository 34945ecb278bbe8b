"""Fills values into text that names them in braces: {epochs}. Standard library, Python 3.9.

{{epochs}} stands for the text {epochs} itself. Variables of a shell, ${epochs}, and all other braces stay as they are.
"""

import re
from typing import List, Mapping

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*", re.ASCII)
# all braces on both sides, as {"a":{b}} of JSON has more after the name than before it
_PLACEHOLDER = re.compile(rf"(\$?)(\{{+)({NAME.pattern})(\}}+)", re.ASCII)


def names(text: str) -> List[str]:
    """Return the names in `text` that stand for values, in their order."""
    return [match[3] for match in _PLACEHOLDER.finditer(text) if _is_filled(match)]


def value_text(value: object) -> str:
    """Return a value of a param as it is filled in: text as it is, all else as TOML writes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with the value of each name, in one pass: a value that looks like a name stays as it is.

    A name without a value stays, too.
    """

    def replacement(match: "re.Match[str]") -> str:
        shell, before, name, after = match.groups()
        if shell:
            return match[0]
        inner = values.get(name, f"{{{name}}}") if _is_filled(match) else name
        return f"{before[1:]}{inner}{after[1:]}"

    return _PLACEHOLDER.sub(replacement, text)


def literal(text: str) -> str:
    """Return what `fill` turns into `text`, whatever the values are."""
    return _PLACEHOLDER.sub(lambda match: match[0] if match[1] else f"{{{match[0]}}}", text)


def _is_filled(match: "re.Match[str]") -> bool:
    return not match[1] and 1 in (len(match[2]), len(match[4]))
