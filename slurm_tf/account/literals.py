"""Writes values as literals of SQL."""

from collections.abc import Iterable, Sequence


def literal(text: str) -> str:
    """Return a text as a literal."""
    return "'" + text.replace("'", "''") + "'"


def one_of(expressions: Sequence[str], values: Iterable[str]) -> list[str]:
    """Return the condition that one of the expressions is one of the values; none if there are no values."""
    found = ", ".join(map(literal, values))
    return [f"({' or '.join(f'{each} in ({found})' for each in expressions)})"] if found else []
