"""The name and comment of a job name its run, for accounting, and its job template: else the `name` of its job file."""

from typing import Tuple

# A job's name is this and the `name` of its job file.
JOB_NAME = "stf-"
COMMENT = "slurm-tf run="


def comment(run: str, template: str) -> str:
    """Return the comment of a job. A run's name has no slash, as it is a folder's."""
    return f"{COMMENT}{run}/template={template}"


def read_comment(text: str) -> Tuple[str, str]:
    """Return the run and the template that a comment names; "" for both if slurm-tf did not write it."""
    run, slash, template = text.partition("/template=")
    return (run[len(COMMENT) :], template) if slash and run.startswith(COMMENT) else ("", "")
