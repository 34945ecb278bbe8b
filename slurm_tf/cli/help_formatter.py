"""Formats help such that what somebody types stays whole: --older-than, [SBATCH OPTIONS]."""

import re
from collections.abc import Iterable

import click

# click breaks lines at spaces and behind hyphens, but not at these.
_NO_BREAK = {" ": "\N{NO-BREAK SPACE}", "-": "\N{NON-BREAKING HYPHEN}"}
_BRACKETS = re.compile(r"\[[^][]*\]")


class HelpFormatter(click.HelpFormatter):
    """Breaks no line behind a hyphen, and none of the usage line within brackets."""

    def write_usage(self, prog: str, args: str = "", prefix: str | None = None) -> None:
        """Write the usage line."""
        super().write_usage(prog, _BRACKETS.sub(lambda found: _whole(found[0], " "), _whole(args, "-")), prefix)

    def write_text(self, text: str) -> None:
        """Write paragraphs."""
        super().write_text(_whole(text, "-"))

    def write_dl(self, rows: Iterable[tuple[str, str]], col_max: int = 30, col_spacing: int = 2) -> None:
        """Write terms, each with its text."""
        super().write_dl([(term, _whole(text, "-")) for term, text in rows], col_max, col_spacing)

    def write(self, string: str) -> None:
        """Write a piece of text, with plain spaces and hyphens."""
        for plain, whole in _NO_BREAK.items():
            string = string.replace(whole, plain)
        super().write(string)


def _whole(text: str, sign: str) -> str:
    """Return `text` that is not broken at a sign."""
    return text.replace(sign, _NO_BREAK[sign])
