"""Exports a version of a model from a run: what its program has exported, or a checkpoint by the program itself.

A checkpoint has values, and the program has the structure that they belong to. So the program is started again, alone
and on this machine, with the code of the run's newest submission: it builds its model, restores the checkpoint, trains
nothing, and ends in run.export.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from slurm_tf import files
from slurm_tf.errors import ModelError, UsageError
from slurm_tf.export import exporter
from slurm_tf.export.exporter import Exported, Origin
from slurm_tf.models import model_versions
from slurm_tf.models.model_versions import Version
from slurm_tf.run import env, job_chain, progress, settings, train_settings
from slurm_tf.run.folder import SubmissionFolder
from slurm_tf.run.settings import LaunchSettings
from slurm_tf.run.version import VERSION
from slurm_tf.watch import stored_checkpoints
from slurm_tf.watch.find_run import SelectedRun

# Set for a task of a job; the program is none here.
_OF_JOB = ("SLURM_", "SLURMD_", "HOROVOD_", "TF_CONFIG")


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be exported: the model after `step`, "" for the newest, to the model in the folder `to`.

    `to`: "" for where the run itself exports. `inputs`: an .npz file for the check, "" for made-up inputs. `python`: a
    Python with TensorFlow, for the check. `environ`: that of the program.
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
    found = _settings(request.selected)
    own = found[1].train.export.to or request.selected.folder.exports
    to = request.to or own
    version = _exported(own, request.step)
    if version is None:
        step = stored_checkpoints.find(request.selected.folder.checkpoints, request.step or "latest").step
        return _finish(request, to, _program(request, *found, step), _origin(request.selected, step), found[1])
    if files.identity(own) == files.identity(to):
        return Exported(version.path, version.number, "")
    model_versions.check_own(own, version.path)
    described = version.manifest
    origin = _origin(request.selected, described.step if described else None)
    if described:
        origin = Origin(described.run, described.run_folder, described.attempt, described.step, described.metrics)
    return _finish(request, to, exporter.copy_of(version.path), origin, found[1])


def _finish(
    request: Request, to: str, write: Callable[[str], None], origin: Origin, launched: LaunchSettings
) -> Exported:
    return exporter.export(to, write, origin, launched.train.export, inputs=request.inputs, python=request.python)


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


def _program(
    request: Request, submission: SubmissionFolder, launched: LaunchSettings, step: int
) -> Callable[[str], None]:
    """Return what has the run's program write the SavedModel of a checkpoint into a folder. Raises ModelError."""
    role = next(role for role in launched.roles if role.name == launched.lead.partition(":")[0])
    if role.container:
        name = request.selected.name
        found = f"the program of run {name} is in a container, and has exported nothing of step {step}"
        do = f"slurm-tf resubmit {name}: there it restores its newest checkpoint and ends in run.export"
        raise ModelError(found, "what it has exported there, or a program that is started here", do)
    if not os.path.isdir(launched.chdir):
        raise ModelError(f"there is no folder {launched.chdir}", "the code of the run, to build its model")

    def write(folder: str) -> None:
        with tempfile.TemporaryDirectory(prefix="slurm-tf-export-") as scratch:
            variables = _variables(request, submission, launched, step, folder, scratch)
            try:
                code = subprocess.run(
                    role.command, cwd=launched.chdir, env=variables, stdin=subprocess.DEVNULL,
                    stdout=sys.stderr.fileno(), check=False,
                ).returncode  # fmt: skip
            except OSError as error:
                found = f"the program of run {request.selected.name} cannot be started: {role.command[0]}"
                needed = "the environment that it runs in"
                raise ModelError(f"{found}: {error.strerror}", needed, "activate it and export again") from error
        if code or not os.path.exists(os.path.join(folder, model_versions.SAVED_MODEL[0])):
            found = f"the program of run {request.selected.name} ended with exit code {code} and exported nothing"
            raise ModelError(found, "one that calls run.export(model) after its training")

    return write


def _variables(
    request: Request, submission: SubmissionFolder, launched: LaunchSettings, step: int, folder: str, scratch: str
) -> dict[str, str]:
    """Return the environment of the program, as its agent gives it to a task that is alone."""
    outer = {name: value for name, value in request.environ.items() if not name.startswith(_OF_JOB)}
    path = {**outer, **launched.env}.get("PYTHONPATH", "")
    return {
        **outer,
        **launched.env,
        "PYTHONPATH": f"{path}:{submission.train_library}".lstrip(":"),
        env.CONTRACT: str(VERSION),
        env.STRATEGY: "single",
        env.TASK: "worker:0",
        env.RUN: request.selected.name,
        env.RUN_FOLDER: scratch,
        env.TENSORBOARD_FOLDER: scratch,
        env.CHECKPOINT_FOLDER: request.selected.folder.checkpoints,
        env.EXPORT_FOLDER: folder,
        env.EXPORT_STEP: str(step),
        env.TRAIN: train_settings.to_variable(launched.train),
        env.PARAMS: json.dumps(dict(launched.params)),
    }
