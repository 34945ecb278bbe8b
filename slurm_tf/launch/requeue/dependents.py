"""Updates the dependencies (--dependency) of jobs that wait for a job of the run which another job follows.

A requeued job keeps its id, and dependent jobs go on waiting for it. A job that another one follows ends with exit code
75, and dependent jobs would start too soon, or never. A user may update their own jobs.
"""

import os
import re
from typing import List, Mapping, Optional

from slurm_tf.slurm import in_job

# "afterok:12(unfulfilled),afterany:13_*(unfulfilled)?singleton(unfulfilled)": %E of squeue (22.05.8)
_PART = re.compile(r"(?P<kind>[a-z]+)(?::(?P<job>\d+(?:_(?:\d+|\*))?)(?P<delay>\+\d+)?)?(?:\((?P<state>[a-z]+)\))?")
# kinds that wait for the end of a job; "after" waits for its start, which has been
_AFTER_END = ("afterok", "afterany", "afternotok", "aftercorr", "afterburstbuffer")


def wait_for_successor(old: str, new: str, environ: Mapping[str, str]) -> List[str]:
    """Have all jobs of this user that wait for the end of job `old` wait for the end of `new`; describe each change."""
    command = ["squeue", "--noheader", "--all", "--states=PENDING", f"--user={os.getuid()}", "--format=%F|%E|%i"]
    answer = in_job.ask(command, environ)
    if answer.code != 0:
        return [f"jobs that wait for job {old} may not wait for job {new}: {answer.failure}"]
    changes = []
    rows = [line.split("|") for line in answer.output.splitlines()]
    # an array has several rows where its tasks differ, a heterogeneous job one for each component
    waiting = {(row_id.partition("+")[0] if "+" in row_id else job, text) for job, text, row_id in rows}
    # by number: 99 before 100
    for job, text in sorted(waiting, key=lambda each: (len(each[0]), each)):
        if job == new.partition("_")[0]:
            continue
        replaced = replace(text, old, new)
        if replaced:
            update = in_job.ask(["scontrol", "update", f"JobId={job}", f"Dependency={replaced}"], environ)
            how = "waits now" if update.code == 0 else f"should wait ({update.failure})"
            changes.append(f"job {job} {how} for job {new}, not for job {old}")
        elif "_" in old and f":{old.partition('_')[0]}_*" in text:
            changes.append(f"job {job} waits for all of array {old.partition('_')[0]}, and not for job {new}")
    return changes


def replace(text: str, old: str, new: str) -> Optional[str]:
    """Return a job's dependencies with `new` in place of `old`; None without a dependency on the end of `old`.

    None also for a text of another form. Fulfilled dependencies are left out: Slurm may have forgotten that job.
    """
    parts: List[str] = []
    is_replaced, separator = False, ""
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
        if job == old and found["kind"] in _AFTER_END:
            job, is_replaced = new, True
        whole = found["kind"] + (f":{job}{found['delay'] or ''}" if job else "")
        parts += [*([separator] if parts else []), whole]
    return "".join(parts) if is_replaced else None
