"""Asks how much of a quota a user's home folder has left: quota (Linux quota tools), and lfs quota on Lustre."""

import os
import re
import shutil
import subprocess
from typing import List, Mapping, Optional, Tuple

from slurm_tf.run.machine_facts import Quota

# A file server that does not answer must not hold up all else.
_SECONDS = 10.0
# "1234*": over the limit; "[1234]": a server of Lustre did not answer
_NUMBER = re.compile(r"\[?(\d+)\*?\]?\*?")
_KIB = 1024
# Of the columns behind the name: used, soft and hard limit, of KiB and of files.
_PLACES, _COLUMNS = (0, 1, 2, 4, 5, 6), 8


def of_home(home: str, environ: Mapping[str, str]) -> Tuple[Optional[Quota], str]:
    """Return the quota of a home folder; None, and why, where nothing says it or there is none."""
    answers, home = [], os.path.realpath(home)
    for command in _commands(home):
        program = shutil.which(command[0], path=environ.get("PATH", os.defpath))
        if program is None:
            continue
        text, problem = _run([program, *command[1:]], environ)
        found = parse(text, home)
        if found:
            return found, ""
        answers.append(f"{command[0]} {problem or 'names no quota of it'}")
    return None, "; ".join(answers) or "there is no program quota or lfs to ask"


def _commands(home: str) -> List[List[str]]:
    user = str(os.getuid())
    # one line for each file system, numbers without units, also of file systems that are below their limits
    return [
        ["lfs", "quota", "-u", user, home],
        ["quota", "--verbose", "--no-wrap", "--raw-grace", "--show-mntpoint", "--hide-device", "--user"],
    ]


def _run(argv: List[str], environ: Mapping[str, str]) -> Tuple[str, str]:
    """Return what a program prints, and why it may be nothing."""
    try:
        done = subprocess.run(
            argv, env={**environ, "LC_ALL": "C"}, stdin=subprocess.DEVNULL, capture_output=True,
            timeout=_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "", f"does not answer in {_SECONDS:.0f} s"
    except OSError as error:
        return "", f"cannot be started: {error.strerror}"
    # quota ends with 1 for a user who is over a limit
    last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
    return done.stdout.decode("utf-8", "replace"), f"says: {last[0][:200]}" if last else ""


def parse(text: str, home: str) -> Optional[Quota]:
    """Return the quota of the file system that holds `home`, of those that quota or lfs quota lists; None for none.

    Both print: file system, KiB used, soft limit, hard limit, grace, files, soft limit, hard limit, grace. The longest
    name that `home` is below counts. A name that is long has a line of its own.
    """
    best, found = -1, None
    for name, numbers in _rows(text):
        inside = home == name or home.startswith(f"{name.rstrip('/')}/")
        if inside and len(name) > best:
            used, soft, hard, files, files_soft, files_hard = numbers
            best, found = len(name), Quota(used * _KIB, (hard or soft) * _KIB, files, files_hard or files_soft)
    return found if found and (found.limit or found.files_limit) else None


def _rows(text: str) -> List[Tuple[str, List[int]]]:
    rows = []
    name = ""
    for line in text.splitlines():
        words = line.split()
        if words and words[0].startswith("/"):
            name, words = words[0], words[1:]
        # the fourth and the last word are times, or signs for none
        numbers = [_NUMBER.fullmatch(words[place]) for place in _PLACES] if len(words) == _COLUMNS else []
        values = [int(match[1]) for match in numbers if match]
        if name and len(values) == len(_PLACES):
            rows.append((name, values))
    return rows
