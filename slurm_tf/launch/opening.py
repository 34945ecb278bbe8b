"""An attempt takes its run: settings and folders, and a lock against another attempt."""

import fcntl
import os
from typing import Tuple

from slurm_tf import contract, files
from slurm_tf.errors import RunError


def lock(folder: contract.RunFolder) -> int:
    """Hold the run for this process's life; raises RunError if another living coordinator holds it."""
    handle = os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.read(handle, 200).decode("utf-8", "replace")
        raise RunError(
            f"run {folder.name} is being run by {owner}",
            "a run of which no other attempt lives",
            "wait, or use another --name",
        ) from None
    os.ftruncate(handle, 0)
    os.write(handle, f"process {os.getpid()} on {os.uname().nodename}".encode())
    return handle


def open_run(path: str, point: str) -> Tuple[contract.RunFolder, contract.LaunchSettings]:
    """Return the run, or one point of it, whose folders are made here: nobody waits for 1,000 of them at submission."""
    group = contract.RunFolder(os.path.abspath(path))
    with open(group.settings, encoding="utf-8") as file:
        settings = contract.LaunchSettings.from_json(file.read())
    folder = group
    if point:
        settings, folder = settings.of_point(int(point)), group.point(int(point))
        for each in (folder.path, *folder.folders):
            files.own_folder(each)
    for marker in (group.cancelled, folder.cancelled):
        if os.path.exists(marker):
            raise RunError(f"run {settings.run} was cancelled", "one that is to go on", "submit it again")
    return folder, settings
