"""What a user is told once, as it is the same for each job: an empty file for each, in the user's state folder."""

import contextlib
import os

from slurm_tf import files, search_path
from slurm_tf.errors import RunError


def is_first(what: str, site: str) -> bool:
    """Return whether the user has not been told `what` about `site` yet, and record that it is said now.

    It is said again where that cannot be recorded.
    """
    folder = search_path.user_state() / "said-once"
    said = folder / f"{what}-{site}"
    with contextlib.suppress(OSError, RunError):
        if said.exists():
            return False
        files.own_folder(str(folder.parent))
        files.own_folder(str(folder))
        os.close(os.open(said, os.O_CREAT | os.O_WRONLY, 0o600))
    return True
