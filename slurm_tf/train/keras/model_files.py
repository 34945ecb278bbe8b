"""Puts the models that a program saves into the run's folder of exports, whole or not at all, by one task.

Every task runs the same program: all would write one file at once. Standard library only.
"""

import os
import shutil
import tempfile
from typing import Callable, Set

from slurm_tf import files
from slurm_tf.errors import UsageError
from slurm_tf.run import checkpoint_folder
from slurm_tf.train.train_log import log

# What Keras writes as one file; the rest are folders, or several files.
_WHOLE = (".keras", ".h5", ".hdf5")
_PARTIAL = ".partial-"
# The folder of exports of a program that slurm-tf has not started, in the one that it runs in.
OUTSIDE_OF_A_RUN = "export"


class ModelFiles:
    """Where models are saved, and by whom.

    `folder`: of exports, "" for none. `is_writer`: whether this task writes; the others write nothing. `check` raises
    an error where another attempt of the run has taken over.
    """

    def __init__(self, folder: str, is_writer: bool, check: checkpoint_folder.Fence) -> None:
        self._folder, self._is_writer, self._check = folder, is_writer, check
        self._named: Set[str] = set()

    def path(self, name: str) -> str:
        """Return the path of the model `name`; its folder is there. Raises UsageError for one elsewhere."""
        if os.path.isabs(name) or os.pardir in name.split(os.sep) or not os.path.basename(name):
            raise UsageError(f"found run.model_path({name!r})", "a file below the run's folder of exports")
        path = os.path.join(self._folder or OUTSIDE_OF_A_RUN, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path

    def save(self, write: Callable[[str], None], path: str, overwrite: bool, is_model: bool) -> None:
        """Save a model, or weights alone, by `write(path)`, in the one task that writes.

        A model goes to the folder of exports, and from there, as a link or a copy, to `path`. Weights go to `path`
        alone. Each task writes what is for the folder of temporary files of its node.
        """
        path = path.rstrip(os.sep) or path
        path = os.path.realpath(path) if os.path.islink(path) else path  # as opening it would write through the link
        if "://" not in path and not self._is_ours(path) and files.path_below(path, tempfile.gettempdir()):
            write(path)
        elif self._is_writer and ("://" in path or (os.path.exists(path) and not overwrite)):
            write(path)  # to a store that Keras knows; or Keras says that there is something
        elif self._is_writer:
            self._save(write, path, is_model)

    def _save(self, write: Callable[[str], None], path: str, is_model: bool) -> None:
        own = self._own_path(path) if is_model and self._folder else path
        if own != path:
            os.makedirs(os.path.dirname(own), exist_ok=True)
        self._write(write, own)
        if own != path:
            _put_beside(own, path)
        if is_model and own not in self._named:
            self._named.add(own)
            log(f"the model is in {own}")

    def _is_ours(self, path: str) -> bool:
        """Whether a path is in the folder of exports, or below the one that the program runs in."""
        places = [os.curdir, *filter(None, [self._folder])]
        return any(files.path_below(path, place) is not None for place in places)

    def _own_path(self, path: str) -> str:
        """Return where in the folder of exports a model is that the program saves as `path`."""
        if files.path_below(path, self._folder) is not None:
            return path
        name = files.path_below(path, os.curdir) or os.path.basename(path)
        return os.path.join(self._folder, name)

    def _write(self, write: Callable[[str], None], path: str) -> None:
        """Write `path` whole or not at all, if it is one file."""
        folder, name = os.path.split(path)
        self._check()
        if not name.endswith(_WHOLE) or not os.path.isdir(folder or os.curdir):
            write(path)
            return
        with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=folder or os.curdir) as partial:
            whole = os.path.join(partial, name)
            write(whole)
            checkpoint_folder.flush_files(partial)
            self._check()
            os.replace(whole, path)


def _put_beside(own: str, path: str) -> None:
    """Put what is at `own` at `path` too. It is no error where that cannot be: the model is saved."""
    try:
        if os.path.isdir(own):
            shutil.copytree(own, path, copy_function=_link_or_copy, dirs_exist_ok=True)
        else:
            _link_or_copy(own, path)
    except OSError as error:
        log(f"cannot put the model at {path} as well: {error.strerror or error}")


def _link_or_copy(source: str, target: str) -> None:
    with tempfile.TemporaryDirectory(prefix=_PARTIAL, dir=os.path.dirname(target) or os.curdir) as partial:
        whole = os.path.join(partial, os.path.basename(target))
        try:
            os.link(source, whole)
        except OSError:  # on another file system, or one that has no links
            shutil.copyfile(source, whole)
        os.replace(whole, target)
