"""Finds the one line that says why a program failed in the last of what it printed to stderr: mostly its exception.

Python's tracebacks are read, with what Keras and TensorFlow make of their messages, and the last words of programs that
a signal ends. The texts were printed by Python 3.11, TensorFlow 2.21 and Keras 3.
"""

import re
from typing import Iterator, List, NamedTuple, Optional, Tuple

# Printed before a traceback: Python's own, of multiprocessing's workers and of groups as well.
MARK = b"Traceback (most recent call last):"
_MARK = MARK.decode()
_LONGEST = 300
_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_FRAME = re.compile(r'\s+File "(?P<file>[^"]+)", line (?P<line>\d+)')
# Before the exceptions of a group stands a margin.
_MARGIN = re.compile(r"^\s*(\| |\+ )")
_EXCEPTION = re.compile(r"(?P<type>[^\W\d]\w*(\.[^\W\d]\w*)*)(: (?P<message>.*))?")
# Files of Python and of packages: the user's own line is of more use.
_NOT_THE_USERS = re.compile(r"/(site|dist)-packages/|/lib/python3[^/]*/|^<|\.pyz/")
# What TensorFlow puts before and after the message of an operation.
_NODE = re.compile(r"^\{\{\w+ [^}]*\}\}\s*|\s*\[Op:[^]]*\](\s*name:.*)?$")
# Messages whose first line says nothing: the words are further down.
_LATER = ("Exception encountered when calling ", "Graph execution error:")
# What a handler prints after an exception that ended nothing.
_IGNORED = ("Exception ignored ", "--- Logging error ---")
_IN_A_THREAD = "Exception in thread "
# The last words of a program that a signal ends: Python's, those of C++ and of TensorFlow's checks.
_FATAL = re.compile(
    r"Fatal Python error: .*|terminate called .*|\s*what\(\): .*|.*error while loading shared libraries: .*|"
    r"F\d{4} [\d:.]+\s+\d+ \S+\] .*|\d{4}-\d\d-\d\d [\d:.]+: F .*"
)
# Lines that say nothing of an end: logs of TensorFlow and absl, and of slurm-tf.
_LOG = re.compile(
    r"[IWE]\d{4} |\d{4}-\d\d-\d\d [\d:.]+: [IWE] |WARNING|INFO|DEBUG|To enable the following instructions|slurm-tf: "
)


class _Traceback(NamedTuple):
    """One traceback: the line before it, its frames, and where the line of its exception is."""

    before: str
    frames: List[Tuple[str, int]]
    end: int


def find(stderr: str, by_signal: bool) -> str:
    """Return why a program failed whose last output was `stderr`; "" where it does not say.

    `by_signal`: whether a signal ended it, which no exception does.
    """
    lines = [_MARGIN.sub("", _COLOUR.sub("", line)) for line in stderr.replace("\r", "\n").split("\n")]
    fatal = [line.strip() for line in lines if _FATAL.fullmatch(line)]
    if by_signal:
        return _cut("; ".join(fatal[-2:]))
    found = _exception(lines)
    if found or fatal:
        return _cut(found or fatal[-1])
    last = next((line.strip() for line in reversed(lines) if line.strip() and not _LOG.match(line)), "")
    return _cut(f"its last line: {last}") if last else ""


def _exception(lines: List[str]) -> str:
    """Return the exception of the last traceback, those of threads only if there is no other."""
    found = [each for each in _tracebacks(lines) if not each.before.startswith(_IGNORED)]
    main = [each for each in found if not each.before.startswith(_IN_A_THREAD)]
    for each in reversed(main or found):
        match = _EXCEPTION.fullmatch(lines[each.end])
        if match:
            words = "" if match["message"] is None else _message(match["message"], lines[each.end + 1 :])
            name = match["type"].rpartition(".")[2]
            return (f"{name}: {words}" if words else name) + _where(each.frames)
    return ""


def _tracebacks(lines: List[str]) -> Iterator[_Traceback]:
    """Yield the tracebacks; a SyntaxError of the program itself has a frame, and no line that announces it."""
    frames: List[Tuple[str, int]] = []
    before, is_inside = "", False
    for number, line in enumerate(lines):
        frame = _FRAME.match(line)
        if line.endswith(_MARK) or (frame and not is_inside):
            before, frames, is_inside = (lines[number - 1] if number else ""), [], True
        if frame:
            frames.append((frame["file"], int(frame["line"])))
        elif is_inside and line and not line[0].isspace() and not line.endswith(_MARK):
            yield _Traceback(before, frames, number)
            is_inside = False


def _message(first: str, rest: List[str]) -> str:
    """Return the words of an exception's message, of which `rest` may be the further lines."""
    if not first or first.startswith(_LATER[0]):
        first = next((line for line in rest if line.strip()), first)
    elif first.startswith(_LATER[1]):
        own = [line for line in rest if line.strip() and not line[0].isspace() and not line.startswith("Detected at")]
        first = own[0] if own else first
    return _NODE.sub("", first.strip())


def _where(frames: List[Tuple[str, int]]) -> str:
    """Return the last line of the user's own code that was running."""
    own: Optional[Tuple[str, int]] = next(
        (each for each in reversed(frames) if not _NOT_THE_USERS.search(each[0])), None
    )
    return f" ({own[0].rpartition('/')[2]}, line {own[1]})" if own else ""


def _cut(text: str) -> str:
    """Return the text as one line of at most so many characters, without what would move a terminal's cursor."""
    words = "".join(each if each.isprintable() else " " for each in text)
    return words if len(words) <= _LONGEST else f"{words[: _LONGEST - 3]}..."
