"""Makes a new version of a model of what a program, or a copy of its files, writes. Standard library, Python 3.9."""

import contextlib
import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass, field
from typing import Callable, Dict, Mapping, Optional, Sequence, Tuple

import slurm_tf
from slurm_tf import files
from slurm_tf.dataset import dataset_manifest
from slurm_tf.errors import ModelError, RunError
from slurm_tf.export import served_metric, version_check
from slurm_tf.models import model_manifest, model_versions, new_version, old_versions
from slurm_tf.models.model_manifest import ModelManifest
from slurm_tf.models.new_version import NewVersion
from slurm_tf.models.old_versions import Removal
from slurm_tf.run import manifest
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.train_settings import ExportSettings

# The folder in assets.extra that has the manifest and the assets of the data set: it is read as that of a data set.
DATA_SET = os.path.join(model_manifest.EXTRA, "dataset")


@dataclass(frozen=True)
class Origin:
    """Where a model comes from: its run and attempt, "" outside of a run, its step, None if that is not known.

    `metrics`: what the program measured of it, by name.
    """

    run: str = ""
    run_folder: str = ""
    attempt: str = ""
    step: Optional[int] = None
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Exported:
    """A version that was exported. `rejected`: why it is kept aside, "" for one that is served from now on.

    `removed`: the old versions that were removed then; `not_removed`: why some could not be.
    """

    path: str
    number: int
    rejected: str
    removed: Tuple[int, ...] = ()
    not_removed: Tuple[str, ...] = ()

    def removal_words(self) -> Tuple[str, ...]:
        """Return which versions were removed, and which could not be, each in words; nothing for nothing."""
        text = "removed old versions: " + ", ".join(map(str, self.removed))
        problems = tuple(f"could not remove old versions: {each}" for each in self.not_removed)
        return ((text,) if self.removed else ()) + problems


def export(
    base: str,
    write: Callable[[str], None],
    origin: Origin,
    settings: ExportSettings,
    data_sets: Sequence[str] = (),
    inputs: str = "",
    python: str = sys.executable,
    enter: Sequence[str] = (),
    fence: Callable[[], None] = lambda: None,
) -> Exported:
    """Make a new version of the model in the folder `base` of what `write(folder)` writes; see `finish`."""
    return finish(begin(base, write), origin, settings, data_sets, inputs, python, enter, fence)


def begin(base: str, write: Callable[[str], None]) -> NewVersion:
    """Return a new version of the model in the folder `base`, which `write(folder)` has written aside.

    Raises what `write` raises, ModelError for a base that others can change, StorageError.
    """
    with files.explained("export the model", base):
        new = new_version.begin(base)
        try:
            write(new.path)
        except BaseException:
            new.abandon()
            raise
    return new


def finish(
    new: NewVersion,
    origin: Origin,
    settings: ExportSettings,
    data_sets: Sequence[str] = (),
    inputs: str = "",
    python: str = sys.executable,
    enter: Sequence[str] = (),
    fence: Callable[[], None] = lambda: None,
) -> Exported:
    """Check a version that was written, compare it with the one that is served, and rename it, or keep it aside.

    `data_sets`: the folders of prepared data sets whose schema and assets the version gets. `inputs`, `python`,
    `enter`: see version_check.check. `fence` raises an error where the run has another attempt. Raises ModelError,
    StorageError, FencedError; then there is no new version.
    """
    try:
        with files.explained("export the model", new.path):
            for each in data_sets:
                add_data_set(each, new.path)
            report = version_check.check(new.path, os.path.basename(os.path.abspath(new.base)), inputs, python, enter)
            rejected = report.problem or served_metric.problem(settings, origin.metrics, new.base)
            commit, dirty = _code(origin.run_folder)
            described = ModelManifest(
                run=origin.run,
                run_folder=origin.run_folder,
                attempt=origin.attempt,
                step=origin.step,
                commit=commit,
                dirty=dirty,
                written=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
                metrics=dict(origin.metrics),
                signatures=report.signatures,
                rejected=rejected,
                versions=_versions(report.tensorflow),
                files=dict(model_versions.digests(new.path)),
            )
            path = new.commit(described, fence)
    except BaseException:
        new.abandon()
        raise
    removal = old_versions.remove(new.base, settings.keep) if settings.keep else Removal()
    return Exported(path, new.number, rejected, removal.removed, removal.problems)


def words(exported: Exported) -> str:
    """Return in words what became of a version."""
    if exported.rejected:
        text = f"version {exported.number} is kept aside in {exported.path}: {exported.rejected}"
    else:
        text = f"version {exported.number} of the model is in {exported.path}"
    return "; ".join((text, *exported.removal_words()))


def copy_of(version: str) -> Callable[[str], None]:
    """Return what writes a copy of a version, without its manifest and warm-up requests."""

    def write(folder: str) -> None:
        shutil.copytree(version, folder, dirs_exist_ok=True)
        for name in (model_manifest.NAME, model_manifest.WARMUP_REQUESTS):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(os.path.join(folder, name))

    return write


def add_data_set(data_set: str, version: str) -> None:
    """Copy the manifest and the assets of a data set into a version. Raises DatasetError, ModelError, OSError."""
    target = os.path.join(version, DATA_SET)
    dataset_manifest.read(data_set)
    if os.path.exists(target):
        kept, more = dataset_manifest.read(target), dataset_manifest.read(data_set)
        if (kept.schema, kept.assets) != (more.schema, more.assets):
            found = f"found two data sets, of which {data_set} has another schema or other assets"
            raise ModelError(found, "one data set that a model is trained on")
        return
    os.makedirs(target)
    shutil.copyfile(dataset_manifest.path(data_set), dataset_manifest.path(target))
    assets = os.path.join(data_set, dataset_manifest.ASSETS)
    if os.path.isdir(assets):
        shutil.copytree(assets, os.path.join(target, dataset_manifest.ASSETS))


def _code(run_folder: str) -> Tuple[str, Optional[bool]]:
    """Return the commit of a run's code and whether it had changes, "" and None if that is not known."""
    if not run_folder:
        return "", None
    try:
        origin = manifest.read(RunFolder(run_folder).manifest).code
    except RunError:  # a sweep point has none of its own
        return "", None
    return (origin.commit, origin.dirty) if origin else ("", None)


def _versions(tensorflow: str) -> Dict[str, str]:
    return {"slurm-tf": slurm_tf.__version__, "python": platform.python_version(), "tensorflow": tensorflow}
