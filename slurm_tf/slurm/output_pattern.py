"""Reads the job's id from the name of its output file, by the pattern that sbatch got for it (--output)."""

import os
import re

from slurm_tf.errors import UsageError

# What sbatch puts there, as far as a job's id is in it. Source: sbatch(1) of Slurm 22.05, "filename pattern".
_JOB, _TASK = {"j": "job", "J": "job", "A": "array"}, {"a": "task"}
_SIGN = re.compile(r"%(?P<width>\d*)(?P<letter>.)", re.ASCII)


class OutputPattern:
    """The pattern of output files of jobs: "slurm-%j.out", "%x_%A_%a.out"."""

    def __init__(self, text: str) -> None:
        """Raises UsageError for a pattern without the id of a job."""
        self._text, self._seen = text, set[str]()
        self._pattern = re.compile(self._expression(), re.ASCII | re.DOTALL)
        if not {"job", "array"} & self._seen:
            raise UsageError(f"found the pattern {text!r}", "%j, or %A and %a of an array, as the file names of jobs")

    def job(self, path: str) -> str:
        """Return the id of the job that wrote a file. Raises UsageError if its name does not have this pattern."""
        found = self._pattern.fullmatch(os.path.basename(path))
        if found is None:
            raise UsageError(f"found the file name {os.path.basename(path)!r}", f"one of the pattern {self._text}")
        known = {name: text.lstrip("0") or "0" for name, text in found.groupdict().items()}
        job = known.get("array") or known["job"]
        return f"{job}_{known['task']}" if "task" in known else job

    def _expression(self) -> str:
        pieces, at = [], 0
        name = os.path.basename(self._text)
        for sign in _SIGN.finditer(name):
            pieces += [re.escape(name[at : sign.start()]), self._group(sign["letter"])]
            at = sign.end()
        return "".join([*pieces, re.escape(name[at:])])

    def _group(self, letter: str) -> str:
        name = {**_JOB, **_TASK}.get(letter)
        if letter == "%":
            return "%"
        if name is None:
            return ".*"
        if name in self._seen:
            return rf"(?P={name})"
        self._seen.add(name)
        return rf"(?P<{name}>[0-9]+)"
