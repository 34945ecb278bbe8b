"""What a job's name and comment say of its run, for accounting. A template is the `name` of a job file."""

from typing import Tuple

# before the template, in the job's name
JOB_NAME = "stf-"
COMMENT = "slurm-tf run="


def comment(run: str, template: str) -> str:
    """Return the comment of a job; a run's name, which is a folder's, has no slash."""
    return f"{COMMENT}{run}/template={template}"


def read_comment(text: str) -> Tuple[str, str]:
    """Return the run and the template that a comment names, "" for both where it is none of ours."""
    run, slash, template = text.partition("/template=")
    return (run[len(COMMENT) :], template) if slash and run.startswith(COMMENT) else ("", "")
