"""An attempt opens its run: settings and folders."""

import os
from typing import Tuple

from slurm_tf import contract, files
from slurm_tf.errors import RunError


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
        if files.is_shared(group.path):
            for each in (folder.path, folder.checkpoints):
                files.share(each)
    for marker in (group.cancelled, folder.cancelled):
        if os.path.exists(marker):
            raise RunError(f"run {settings.run} was cancelled", "one that is to go on", "submit it again")
    return folder, settings
