"""The version of all that a run keeps on storage and passes on. Standard library, Python 3.9."""

from slurm_tf.errors import RunError

VERSION = 1


def check_version(found: object, what: str) -> None:
    """Raise RunError unless `found` is this contract's version."""
    if str(found) != str(VERSION):
        raise RunError(
            f"{what} is of contract version {found}",
            f"version {VERSION}",
            "use one release of slurm-tf for submission and for slurm_tf.train in the job's Python",
        )
