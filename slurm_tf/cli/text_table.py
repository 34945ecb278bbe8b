"""Tables as text that fit the terminal: columns are folded, or left out and named, and nothing is cut."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TextIO

import click
from rich.cells import cell_len, chop_cells

from slurm_tf.cli import terminal
from slurm_tf.cli.terminal import Screen, printable

_GAP = "  "
# Columns of names, folded after a sign or anywhere, and of phrases and sentences, folded between words.
_NAMES = ("RUN", "NODES", "FOLDER")
_PHRASES = ("ASKED", "CAUSE", "MEANING", "NEXT TIME", "PARAMS", "STATE", "USED")
_SENTENCES = ("REASON", "WHY")
_SHORTEST_NAME, _SHORTEST_SENTENCE = 12, 24
# Names are folded further where nothing else is left to do.
_NARROWEST = 4
_LONGEST_HEAD = 16
_PART_OF_NAME = re.compile(r"\s+|[^\s,/_.=:-]+[,/_.=:-]*|[,/_.=:-]+")
_WORD = re.compile(r"\s+|\S+")
# Columns whose cells say a state.
_STATES = ("STATE", "State")


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a table; `right`: its cells stand at its right edge, as numbers do."""

    head: str
    cells: Sequence[str]
    is_name: bool = False
    right: bool = False

    @property
    def width(self) -> int:
        """The width at which nothing is folded."""
        return max(cell_len(cell) for cell in (self.head, *self.cells))

    @property
    def least(self) -> int:
        """The width to which it may be folded."""
        if self.is_name:
            return min(self.width, max(cell_len(self.head), _SHORTEST_NAME))
        if self.head in _SENTENCES:
            return min(self.width, _SHORTEST_SENTENCE)
        if self.head in _PHRASES:  # a number is a word, and stays whole
            return max(cell_len(word) for cell in (self.head, *self.cells) for word in cell.split() or [""])
        return self.width


def table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    leave_out: Sequence[str] = (),
    more: str = "",
    names: Sequence[str] = _NAMES,
    right: Sequence[str] = (),
    screen: Screen | None = None,
) -> str:
    """Return a table without borders that fits `screen`, else the terminal; where there is none, each row is a line.

    `leave_out`: heads of columns that may be left out, the first of them first; a line below names them, and `more`,
    which says what has them. `names`, `right`: heads of columns of names, and of numbers, which stand on the right.
    """
    where = screen or terminal.screen()
    cells = list(zip(*([printable(cell) for cell in row] for row in rows), strict=True)) or [()] * len(heads)
    columns = [
        Column(printable(head), column, head in names, head in right) for head, column in zip(heads, cells, strict=True)
    ]
    kept, left_out = _fitting(columns, leave_out, where.width)
    widths = _widths(kept, where.width)
    lines = _row(kept, [each.head for each in kept], widths, False)
    for number in range(len(rows)):
        lines += _row(kept, [each.cells[number] for each in kept], widths, where.colour)
    if left_out:
        said = f"Not shown here: {', '.join(left_out)}; {more}."
        lines += folded(said, where.width or cell_len(said))
    return "\n".join(lines) + "\n"


def folded(text: str, width: int, is_name: bool = False, breaks: bool = True) -> list[str]:
    """Return `text` in lines of at most `width` columns; a name is folded after a sign, all else between words.

    `breaks`: whether a word that is too long is broken; one that somebody copies, such as a path, should not be.
    """
    lines, line = [], ""
    for part in (_PART_OF_NAME if is_name else _WORD).findall(text):
        if cell_len((line + part).rstrip()) <= width:
            line += part
            continue
        if line.strip():
            lines.append(line.rstrip())
        *whole, line = (chop_cells(part.lstrip(), width) if breaks else [part.lstrip()]) or [""]
        lines += whole
    return [*lines, line.rstrip()] if line.strip() or not lines else lines


def _fitting(columns: Sequence[Column], leave_out: Sequence[str], width: int | None) -> tuple[list[Column], list[str]]:
    """Return the columns that fit into `width` where they are folded, and the heads of the others."""
    kept, left_out = list(columns), list[str]()
    droppable = [each for head in leave_out for each in columns if each.head == head]
    while width is not None and droppable and _taken([each.least for each in kept]) > width:
        dropped = droppable.pop(0)
        kept = [each for each in kept if each is not dropped]
        left_out.append(dropped.head)
    return kept, [each.head for each in columns if each.head in left_out]


def _widths(columns: Sequence[Column], width: int | None) -> list[int]:
    """Return the width of each column: the widest is folded first, until all fit into `width`."""
    widths = [each.width for each in columns]
    for least in (
        [each.least for each in columns],
        [min(each.width, _NARROWEST) if each.is_name else each.least for each in columns],
    ):
        while width is not None and _taken(widths) > width:
            foldable = [number for number, each in enumerate(widths) if each > least[number]]
            if not foldable:
                break
            widths[max(foldable, key=lambda number: widths[number])] -= 1
    return widths


def _taken(widths: Sequence[int]) -> int:
    return sum(widths) + len(_GAP) * (len(widths) - 1)


def _row(columns: Sequence[Column], cells: Sequence[str], widths: Sequence[int], colour: bool) -> list[str]:
    """Return the lines of one row."""
    parts = [folded(cell, width, each.is_name) for each, cell, width in zip(columns, cells, widths, strict=True)]
    colours = [
        terminal.state_colour(cell) if colour and each.head in _STATES else ""
        for each, cell in zip(columns, cells, strict=True)
    ]
    lines = []
    for at in range(max(map(len, parts), default=1)):
        texts = [part[at] if at < len(part) else "" for part in parts]
        spaces = [" " * (width - cell_len(text)) for text, width in zip(texts, widths, strict=True)]
        shown = map(terminal.coloured, texts, colours)
        line = [
            space + text if each.right else text + space
            for each, text, space in zip(columns, shown, spaces, strict=True)
        ]
        lines.append(_GAP.join(line).rstrip())
    return lines


def summary(rows: Sequence[tuple[str, str]], name_width: int) -> str:
    """Return a line for each name and its value; a value that is too long goes on below itself."""
    screen, lines = terminal.screen(), []
    for name, value in rows:
        room = max(_SHORTEST_SENTENCE, (screen.width or 0) - name_width - 1)
        parts = folded(printable(value), room, breaks=False) if screen.width else [printable(value)]
        colour = terminal.state_colour(value) if screen.colour and name in ("Job", "State") else ""
        heads = [name, *[""] * len(parts)]
        lines += [
            f"{head:{name_width}} {terminal.coloured(part, colour)}" for head, part in zip(heads, parts, strict=False)
        ]
    return "".join(f"{line}\n" for line in lines)


def hanging(head: str, text: str, stream: TextIO) -> str:
    """Return `text` behind `head`; where the terminal is too narrow, folded below itself, or below a long head."""
    width, taken = terminal.screen(stream).width, cell_len(click.unstyle(head))
    if width is None or taken + cell_len(text) <= width:
        return head + text
    indent = taken if taken <= _LONGEST_HEAD else 4
    parts = folded(text, max(_SHORTEST_SENTENCE, width - indent), breaks=False)
    first = [head + parts.pop(0)] if indent == taken else [head.rstrip()]
    return f"\n{'':{indent}}".join([*first, *parts])


def sentences(lines: Sequence[str]) -> str:
    """Return lines of text, folded where the terminal is too narrow."""
    width = terminal.screen().width
    parts = [part for line in lines for part in (folded(printable(line), width) if width else [printable(line)])]
    return "".join(f"{part}\n" for part in parts)
