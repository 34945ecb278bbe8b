"""Starts the program of a run again to export a checkpoint: alone, on this machine, in its container if it has one."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from slurm_tf.errors import ModelError
from slurm_tf.models import model_versions
from slurm_tf.run import env, train_settings
from slurm_tf.run.folder import SubmissionFolder
from slurm_tf.run.settings import LaunchSettings, RoleSettings
from slurm_tf.run.version import VERSION
from slurm_tf.submit import program_files
from slurm_tf.watch.find_run import SelectedRun

# Set for a task of a job; the program is none here.
_OF_JOB = ("SLURM_", "SLURMD_", "HOROVOD_", "TF_CONFIG")
# Every container has the folder of temporary files of its machine, where that is this one.
_TEMPORARY = "/tmp"  # noqa: S108


@dataclass(frozen=True, slots=True)
class ExportingProgram:
    """The program of the leading task of a run. `launched`: what the submission was started with, of its point.

    `environ`: that of this process.
    """

    selected: SelectedRun
    submission: SubmissionFolder
    launched: LaunchSettings
    environ: Mapping[str, str]

    def check_python(self, *folders: str) -> tuple[str, list[str]]:
        """Return a Python with TensorFlow, and the words that start it: the program's own where it has a container.

        `folders`: what it is to see beside the run.
        """
        role = self._role
        if role.container and role.container.runtime.wraps and program_files.is_python(role.command[0]):
            return role.command[0], self._enter(*folders)
        return sys.executable, []

    def writer(self, step: int) -> Callable[[str], None]:
        """Return what has the program write the SavedModel of a checkpoint into a folder. Raises ModelError."""
        container = self._role.container
        if container and not container.runtime.wraps:
            name = self.selected.name
            found = f"the program of run {name} has exported nothing of step {step}, and its container is one of "
            do = f"slurm-tf resubmit {name}: there it restores its newest checkpoint and ends in run.export"
            needed = "what it has exported there, or a container that needs no srun"
            raise ModelError(f"{found}{container.runtime.value}, which only srun enters", needed, do)
        if not os.path.isdir(self.launched.chdir):
            raise ModelError(f"there is no folder {self.launched.chdir}", "the code of the run, to build its model")

        def write(folder: str) -> None:
            with tempfile.TemporaryDirectory(prefix="slurm-tf-export-") as scratch:
                code = self._run(step, folder, scratch)
            if code or not os.path.exists(os.path.join(folder, model_versions.SAVED_MODEL[0])):
                found = f"the program of run {self.selected.name} ended with exit code {code} and exported nothing"
                raise ModelError(found, "one that calls run.export(model) after its training")

        return write

    @property
    def _role(self) -> RoleSettings:
        return next(role for role in self.launched.roles if role.name == self.launched.lead.partition(":")[0])

    def _enter(self, *folders: str) -> list[str]:
        """Return the words that start a program in the container. `folders`: what it is to see beside the run."""
        temporary = tempfile.gettempdir()
        mounts = dict.fromkeys([*folders, *([temporary] if temporary != _TEMPORARY else [])])
        point = [] if self.selected.point is None else [f"--point={self.selected.point}"]
        words = [*point, *(f"--mount={each}" for each in mounts), "--"]
        return [sys.executable, self.submission.launcher, "enter", self.submission.path, self._role.name, *words]

    def _run(self, step: int, folder: str, scratch: str) -> int:
        """Run the program; return its exit code. Raises ModelError where it cannot be started."""
        enter = self._enter(os.path.dirname(folder)) if self._role.container else []
        try:
            return subprocess.run(
                [*enter, *self._role.command], cwd=self.launched.chdir, env=self._variables(step, folder, scratch),
                stdin=subprocess.DEVNULL, stdout=sys.stderr.fileno(), check=False,
            ).returncode  # fmt: skip
        except OSError as error:
            found = f"the program of run {self.selected.name} cannot be started: {self._role.command[0]}"
            needed = "the environment that it runs in"
            raise ModelError(f"{found}: {error.strerror}", needed, "activate it and export again") from error

    def _variables(self, step: int, folder: str, scratch: str) -> dict[str, str]:
        """Return the environment of the program, as its agent gives it to a task that is alone.

        In a container it starts from the variables of that: see launch/direct/contained_program.py.
        """
        launched = self.launched
        outer = {name: value for name, value in self.environ.items() if not name.startswith(_OF_JOB)}
        if not self._role.container:
            path = {**outer, **launched.env}.get("PYTHONPATH", "")
            outer |= {**launched.env, "PYTHONPATH": f"{path}:{self.submission.train_library}".lstrip(":")}
        return {
            **outer,
            env.CONTRACT: str(VERSION),
            env.STRATEGY: "single",
            env.TASK: "worker:0",
            env.RUN: self.selected.name,
            env.RUN_FOLDER: scratch,
            env.TENSORBOARD_FOLDER: scratch,
            env.CHECKPOINT_FOLDER: self.selected.folder.checkpoints,
            env.EXPORT_FOLDER: folder,
            env.EXPORT_STEP: str(step),
            env.TRAIN: train_settings.to_variable(launched.train),
            env.PARAMS: json.dumps(dict(launched.params)),
        }
