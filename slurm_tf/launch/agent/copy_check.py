"""Finds paths that lead out of the copy of the code, in the output of a program that failed in it.

A program that reads "../../data" finds it where it was written, and not where its copy runs.
"""

import os
import re
from typing import Optional

_LAST = 1 << 16  # how much of the output is read: an error is at its end
# "../" in front, or a whole path: what a program prints of a file that is not there
_PATH = re.compile(r"(?:\.\./|/)[^\s'\"`:,;()<>\[\]{}]+")


def explain(log: str, folder: str, code: str) -> Optional[str]:
    """Return a hint that names a path in the file `log` that leads from `folder` out of the copy; None without one.

    `folder`: where the program ran; `code`: the folder in which its submission has the copy, under the name of the
    original, and links to what is beside that.
    """
    folder, code = os.path.realpath(folder), os.path.realpath(code)
    name = os.path.relpath(folder, code).split(os.sep)[0]
    if name in (os.curdir, os.pardir):  # the program did not run in the copy
        return None
    for text in dict.fromkeys(_PATH.findall(_end_of(log))):
        if _leads_out(text, folder, code, name):
            return (
                f"{text} is not there: the program ran in {folder}, a copy of its code, and that path leads out of the "
                "copy; snapshot = false in the job file (--set snapshot=false) runs the original"
            )
    return None


def _leads_out(text: str, folder: str, code: str, name: str) -> bool:
    path = os.path.normpath(os.path.join(folder, text))
    if os.path.lexists(path) or (os.path.isabs(text) and not path.startswith(os.path.dirname(code) + os.sep)):
        return False
    first = os.path.relpath(path, code).split(os.sep)[0]
    # what is missing in the copy, or in what is linked beside it, is missing beside the original as well
    return first == os.pardir or (first != name and not os.path.lexists(os.path.join(code, first)))


def _end_of(log: str) -> str:
    try:
        with open(log, "rb") as file:
            file.seek(max(0, os.path.getsize(log) - _LAST))
            return file.read().decode("utf-8", "replace")
    except OSError:
        return ""
