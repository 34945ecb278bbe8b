"""Jobs that wait for a job of the run (--dependency): they are to wait for the job that goes on with it.

A job that is put back into the queue keeps its id, and others go on waiting for it. Where another one follows it, it
ends with exit code 75, and others would start too soon, or never. A user may change the jobs that are their own.
"""

import os
import re
from typing import List, Mapping, Optional

from slurm_tf.slurm import in_job

# "afterok:12(unfulfilled),afterany:13_*(unfulfilled)?singleton(unfulfilled)": %E of squeue (22.05.8)
_PART = re.compile(r"(?P<kind>[a-z]+)(?::(?P<job>\d+(?:_(?:\d+|\*))?)(?P<delay>\+\d+)?)?(?:\((?P<state>[a-z]+)\))?")
# "after" is about a start, which was
_END = ("afterok", "afterany", "afternotok", "aftercorr", "afterburstbuffer")


def follow(old: str, new: str, environ: Mapping[str, str]) -> List[str]:
    """Have all jobs of this user that wait for the end of job `old` wait for that of `new`; return that in words."""
    command = ["squeue", "--noheader", "--all", "--states=PENDING", f"--user={os.getuid()}", "--format=%F|%E|%i"]
    answer = in_job.ask(command, environ)
    if answer.code != 0:
        return [f"jobs that wait for job {old} may not wait for job {new}: {answer.words}"]
    words = []
    rows = [line.split("|") for line in answer.output.splitlines()]
    # an array has a row for each task that stands apart, a heterogeneous job one for each component
    waiting = {(own.partition("+")[0] if "+" in own else job, text) for job, text, own in rows}
    for job, text in sorted(waiting):
        if job == new.partition("_")[0]:
            continue
        moved = move(text, old, new)
        if moved:
            change = in_job.ask(["scontrol", "update", f"JobId={job}", f"Dependency={moved}"], environ)
            how = "waits now" if change.code == 0 else f"should wait ({change.words})"
            words.append(f"job {job} {how} for job {new}, not for job {old}")
        elif "_" in old and f":{old.partition('_')[0]}_*" in text:
            words.append(f"job {job} waits for all of array {old.partition('_')[0]}, and not for job {new}")
    return words


def move(text: str, old: str, new: str) -> Optional[str]:
    """Return a job's dependencies with those on `old` made ones on `new`; None if there are none, or none we know of.

    What is fulfilled is left out: Slurm may have forgotten that job.
    """
    parts: List[str] = []
    moved, separator = False, ""
    for piece in re.split(r"([,?])", text.strip()):
        found = _PART.fullmatch(piece)
        if piece in (",", "?"):
            separator = piece
            continue
        if found is None:
            return None
        if found["state"] == "fulfilled":
            continue
        job = found["job"]
        if job == old and found["kind"] in _END:
            job, moved = new, True
        whole = found["kind"] + (f":{job}{found['delay'] or ''}" if job else "")
        parts += [*([separator] if parts else []), whole]
    return "".join(parts) if moved else None
