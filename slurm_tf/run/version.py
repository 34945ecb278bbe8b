"""The version of all that a run keeps on storage and passes on. Standard library, Python 3.9."""

from slurm_tf.errors import RunError

VERSION = 1
# What the user can do where two releases meet.
ONE_RELEASE = (
    "use one release of slurm-tf for submission and in the job's Python, or have none there: a job brings its own"
)


def check_version(found: object, name: str) -> None:
    """Raise RunError unless `found` is the version of this release; `name`: the program or message that said it."""
    if str(found) != str(VERSION):
        raise RunError(
            f"{name} is of another release of slurm-tf (contract version {found})",
            f"contract version {VERSION}",
            ONE_RELEASE,
        )
