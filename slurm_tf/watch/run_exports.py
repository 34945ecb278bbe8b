"""Exports a version of a model from a run: what its program has exported, or a checkpoint by the program itself.

A checkpoint has values, and the program has the structure that they belong to. So the program is started again, alone
and on this machine, with the code of the run's newest submission, and in its container if it has one: it builds its
model, restores the checkpoint, trains nothing, and ends in run.export.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from slurm_tf import files
from slurm_tf.errors import UsageError
from slurm_tf.export import exporter
from slurm_tf.export.exporter import Exported, Origin
from slurm_tf.models import model_versions
from slurm_tf.models.model_versions import Version
from slurm_tf.run import job_chain, progress, settings
from slurm_tf.run.folder import SubmissionFolder
from slurm_tf.run.settings import LaunchSettings
from slurm_tf.watch import stored_checkpoints
from slurm_tf.watch.exporting_program import ExportingProgram
from slurm_tf.watch.find_run import SelectedRun


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be exported: the model after `step`, "" for the newest, to the model in the folder `to`.

    `to`: "" for where the run itself exports. `inputs`: an .npz file for the check, "" for made-up inputs. `python`: a
    Python with TensorFlow on this machine, for the check; "" for that of the program's container, or of slurm-tf.
    `environ`: that of the program.
    """

    selected: SelectedRun
    step: str
    to: str
    inputs: str
    python: str
    environ: Mapping[str, str]


def export(request: Request) -> Exported:
    """Export a version; one that is in the folder already is returned as it is.

    Raises ModelError, UsageError, StorageError.
    """
    program = ExportingProgram(request.selected, *_settings(request.selected), request.environ)
    own = program.launched.train.export.to or request.selected.folder.exports
    to = request.to or own
    version = _exported(own, request.step)
    if version is None:
        step = stored_checkpoints.find(request.selected.folder.checkpoints, request.step or "latest").step
        return _finish(request, to, program.writer(step), _origin(request.selected, step), program)
    if files.identity(own) == files.identity(to):
        return Exported(version.path, version.number, "")
    model_versions.check_own(own, version.path)
    described = version.manifest
    origin = _origin(request.selected, described.step if described else None)
    if described:
        origin = Origin(described.run, described.run_folder, described.attempt, described.step, described.metrics)
    return _finish(request, to, exporter.copy_of(version.path), origin, program)


def _finish(
    request: Request, to: str, write: Callable[[str], None], origin: Origin, program: ExportingProgram
) -> Exported:
    base = [to, *([os.path.dirname(request.inputs)] if request.inputs else [])]
    python, enter = (request.python, []) if request.python else program.check_python(*base)
    settings = program.launched.train.export
    return exporter.export(to, write, origin, settings, inputs=request.inputs, python=python, enter=enter)


def _exported(base: str, step: str) -> Version | None:
    """Return the newest version that the run's program has exported, or that of a step; None for none."""
    for version in model_versions.versions(base) if os.path.isdir(base) else ():
        if not step or (version.manifest and str(version.manifest.step) == step):
            return version
    return None


def _settings(selected: SelectedRun) -> tuple[SubmissionFolder, LaunchSettings]:
    """Return the newest submission of a run or sweep point, and what it was started with. Raises UsageError."""
    submission = job_chain.submissions(selected.run).get(selected.point)
    submission = submission or next(iter(selected.run.submissions[::-1]), None)
    if submission is None:
        raise UsageError(f"run {selected.name} has no submission", "a run that was submitted, or run here")
    found = settings.read_settings(submission)
    return submission, found.of_point(selected.point) if found.points and selected.point is not None else found


def _origin(selected: SelectedRun, step: int | None) -> Origin:
    """Return where the model after `step` comes from, with what the program reported of that step."""
    folder = selected.folder
    reports = [each for each in progress.read(folder.progress) if each.step == step]
    values = {name: value for each in reports for name, value in each.values.items() if value is not None}
    attempt = reports[-1].attempt.partition("/")[0] if reports else ""
    return Origin(selected.name, folder.path, attempt, step, values)
