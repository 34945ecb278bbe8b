"""Makes the folder of a new data set: private, ours, and not yet a data set."""

import os

from slurm_tf import files
from slurm_tf.dataset import dataset_manifest
from slurm_tf.errors import DatasetError, RunError


def make(folder: str) -> None:
    """Make the folder with mode 0700, or go on in one of ours, which a preparation that was stopped has left.

    Raises DatasetError for a folder that holds a data set, and for one, or a link to one, that another user could
    change or lead elsewhere; StorageError if it cannot be made.
    """
    new = "name a new folder"
    with files.explained("make the folder of the data set", folder):
        try:
            files.own_folder(folder)
        except RunError as error:
            raise DatasetError(error.found, error.needed, error.do or new, folder) from error
        if not os.path.isdir(folder):
            raise DatasetError("it is no folder", "a folder for the data set", new, folder)
        if os.path.lexists(dataset_manifest.path(folder)):
            raise DatasetError("it is a data set already, which never changes", "a new folder", new, folder)
