"""Asks Slurm for the working directories of the user's own jobs."""

import os
import pwd

from slurm_tf.errors import SlurmError, UnreachableError
from slurm_tf.slurm import client, command_output

# How far back accounting is asked.
_SINCE = "now-365days"


def of_own_jobs() -> set[tuple[str, str]]:
    """Return the (working directory, comment) of each job, of the last year; not all sites keep comments.

    slurmctld and accounting are asked. Raises UnreachableError if neither answers.
    """
    user = pwd.getpwuid(os.getuid()).pw_name
    squeue = ["squeue", "--noheader", "--all", "--states=all", f"--user={user}"]
    squeue.append(command_output.columns(("WorkDir", "Comment")))
    sacct = ["sacct", "--noheader", "--parsable", f"--delimiter={command_output.SEPARATOR}", "--allocations"]
    sacct += [f"--user={user}", f"--starttime={_SINCE}", "--format=WorkDir,Comment"]
    found: set[tuple[str, str]] = set()
    problems = []
    for argv in (squeue, sacct):
        try:
            rows = command_output.rows(client.run(argv).stdout, 2)
        except SlurmError as error:
            problems.append(error.found)
            continue
        found |= {(folder, comment) for folder, comment in rows}
    if len(problems) == 2:
        raise UnreachableError("; ".join(problems))
    return found
