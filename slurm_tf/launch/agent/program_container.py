"""Starts programs of a task in its container: what they see of the node, their variables, and a trial of both.

A container runtime that cannot start a program ends with a code that programs have as well, so it is tried first with
something that cannot fail.
"""

import contextlib
import json
import os
import pwd
import shutil
from dataclasses import replace
from typing import Dict, List, Mapping, Optional, Sequence, Tuple

from slurm_tf.errors import ContainerError
from slurm_tf.launch.agent import container_failure, program_python, program_sources, short_program
from slurm_tf.launch.agent.program_place import NODE, Leader, Place
from slurm_tf.launch.agent.short_program import Done
from slurm_tf.launch.mapping import container
from slurm_tf.launch.mapping.assignment import Assignment
from slurm_tf.launch.mapping.container import Entry
from slurm_tf.launch.transport.messages import ContainerTried
from slurm_tf.run import env
from slurm_tf.run.container_settings import ContainerSettings, Mount, Runtime
from slurm_tf.run.folder import SubmissionFolder

_MARK = "slurm-tf: "
# For any Python, also one that is too old for slurm_tf.train.
_VERSIONS = f"""
import json, sys
found = ""
try:
    from importlib import metadata
except ImportError:
    metadata = None
for name in ("tensorflow", "tensorflow-cpu", "tf-nightly") if metadata else ():
    try:
        found = found or metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print("{_MARK}" + json.dumps([".".join(map(str, sys.version_info[:3])), found]))
"""
_OLDEST_PYTHON = (3, 9)
# How long an image may take to say its variables when the program starts: the trial has shown that it can.
_SECONDS = 120.0


def place(
    assignment: Assignment,
    submission: SubmissionFolder,
    host: Mapping[str, str],
    job_env: Mapping[str, str],
) -> Place:
    """Return where the programs of a task run: in the container that its assignment describes, or on the node."""
    if assignment.container is None:
        return NODE
    staged = assignment.variables.get(env.STAGE_FOLDER, "")
    return ProgramContainer(assignment.container, submission, host, job_env, staged)


class ProgramContainer:
    """The container in which the programs of one task run."""

    def __init__(
        self,
        settings: ContainerSettings,
        submission: SubmissionFolder,
        host: Mapping[str, str],
        job_env: Mapping[str, str],
        staged: str = "",
    ) -> None:
        """`host`: the agent's variables; `job_env`: those of the job file, which win over those of the image.

        `staged`: the folder of what was staged for the task, "" for none.
        """
        user = _user()
        self._settings, self._host, self._job_env = settings, {"USER": user.pw_name, **host}, job_env
        own = [submission.run.path, os.getcwd(), *([staged] if staged else [])]
        self._mounts = container.all_mounts(settings, own, user.pw_dir)
        self._mount_points = submission.mount_points
        self._of_image: Optional[Dict[str, str]] = None

    @property
    def leader(self) -> Leader:
        """ch-run (0.31) serves the files of a squashfs, which it does not mount by the kernel."""
        is_of_charliecloud = self._settings.runtime is Runtime.CHARLIECLOUD
        return Leader.FILE_SERVER if is_of_charliecloud and os.path.isfile(self._settings.image) else Leader.RUNTIME

    def inherited(self, host: Mapping[str, str]) -> Dict[str, str]:
        """Return the variables that programs in it start from; the image is asked once. Raises ContainerError."""
        if self._of_image is None:
            self._of_image = self._image_environ(_SECONDS)
        return container.inherited(host, self._of_image, self._settings.env_from_host)

    def enter(self, argv: Sequence[str], environ: Mapping[str, str]) -> Tuple[List[str], Dict[str, str]]:
        """Return the command and the environment that run `argv` in it with the variables `environ`.

        Raises ContainerError where this node has no such runtime or image, or OSError.
        """
        settings = self._checked()
        for mount in settings.mounts:
            if not os.path.exists(mount.source):
                raise ContainerError(f"there is no {mount.source}, which is to be mounted at {mount.target}")
        entry = Entry(settings, self._mounts, os.getcwd(), self._covers(settings))
        exact = {*self._job_env, *settings.env_from_host}
        return container.enter(entry, argv, environ, self._host, exact)

    def ask(self, argv: Sequence[str], environ: Mapping[str, str], seconds: float) -> Done:
        """Run a short program in it. Raises ContainerError or OSError."""
        return short_program.run(*self.enter(argv, environ), seconds)

    def try_command(self, command: Sequence[str], seconds: float) -> ContainerTried:
        """Start something trivial with what the command `command` would start with; say how that went."""
        try:
            self._of_image = self._image_environ(seconds)
            environ = {**self.inherited(self._host), **self._job_env}
            if program_python.is_python(command[0]):
                return self._try_python(command, environ, seconds)
            return self._try_program(command[0], environ, seconds)
        except ContainerError as error:
            return ContainerTried(error.found, error.do)
        except OSError as error:
            return ContainerTried(f"cannot start anything in {self._settings.image}: {error}")

    def _try_python(self, command: Sequence[str], environ: Mapping[str, str], seconds: float) -> ContainerTried:
        done = self.ask([command[0], "-c", _VERSIONS], environ, seconds)
        said = next((line for line in done.stdout.splitlines() if line.startswith(_MARK)), "")
        if done.code != 0 or not said:
            raise self._failure(command[0], done)
        python, tensorflow = map(str, json.loads(said[len(_MARK) :]))
        version = tuple(map(int, python.split(".")[:2]))
        if version < _OLDEST_PYTHON and program_sources.read(command, (), ("slurm_tf.train",)).packages:
            raise ContainerError(
                f"{command[0]} of {self._settings.image} is Python {python}, and the program imports slurm_tf.train",
                do=f"an image with Python {'.'.join(map(str, _OLDEST_PYTHON))} or later",
            )
        return ContainerTried("", "", python, tensorflow)

    def _try_program(self, program: str, environ: Mapping[str, str], seconds: float) -> ContainerTried:
        """Look for a program that may do anything when it is started."""
        done = self.ask(["/bin/sh", "-c", 'command -v -- "$1"', "sh", program], environ, seconds)
        if done.code != 0 and not done.stderr.strip():
            raise ContainerError(f"{self._settings.image} has no program {program!r}; PATH there is {environ['PATH']}")
        if done.code != 0:
            raise self._failure("/bin/sh", done)
        return ContainerTried("")

    def _image_environ(self, seconds: float) -> Dict[str, str]:
        settings, ask = self._checked(), ["env", "-0"]
        done = short_program.run(*container.in_image(settings, ask, self._host), seconds)
        if done.code != 0 and settings.runtime is Runtime.CHARLIECLOUD:  # not every image has a file of variables
            done = short_program.run(*container.in_image(settings, ask, self._host, sets_variables=False), seconds)
        if done.code != 0:
            raise self._failure("env", done)
        pairs = (each.partition("=") for each in done.stdout.split("\0"))
        return {name: value for name, equals, value in pairs if equals}

    def _checked(self) -> ContainerSettings:
        """Return the settings with the runtime's whole path, as the image has another PATH. Raises ContainerError."""
        settings = self._settings
        program = shutil.which(settings.command[0], path=self._host.get("PATH", os.defpath))
        if program is None:
            searched = "" if "/" in settings.command[0] else f" in PATH={self._host.get('PATH', os.defpath)}"
            do = "the site's profile names it: command or modules below [container]"
            raise ContainerError(f"there is no program {settings.command[0]}{searched}", do=do)
        problem = _image_problem(settings.image)
        if problem:
            raise ContainerError(problem)
        return replace(settings, command=(os.path.abspath(program), *settings.command[1:]))

    def _failure(self, program: str, done: Done) -> ContainerError:
        return container_failure.explain(self._settings, program, done.code, done.stderr)

    def _covers(self, settings: ContainerSettings) -> Tuple[Mount, ...]:
        """Make the mount points that an image of Charliecloud lacks; return the mounts that bring them."""
        if settings.runtime is not Runtime.CHARLIECLOUD:
            return ()
        found = []
        not_empty = _not_empty(settings.image)
        for top, mounts in container.covered(self._mounts, not_empty).items():
            cover = os.path.join(self._mount_points, top)
            for mount in mounts:
                _make_mount_point(self._mount_points + mount.target, os.path.isdir(mount.source))
            found.append(Mount(cover, f"/{top}"))
        return tuple(found)


def _user() -> pwd.struct_passwd:
    """Return who this is; somebody without a home where the node's users cannot be looked up."""
    number = os.getuid()
    try:
        return pwd.getpwuid(number)
    except KeyError:
        return pwd.struct_passwd((str(number), "", number, os.getgid(), "", "", ""))


def _make_mount_point(path: str, is_folder: bool) -> None:
    """Make an empty folder, or an empty file to mount a file at; other tasks make the same. Raises OSError."""
    os.makedirs(path if is_folder else os.path.dirname(path), mode=0o700, exist_ok=True)
    if not is_folder:
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600))


def _not_empty(image: str) -> List[str]:
    """Return the folders at the top of an image that have something in them; none of an image that is a file."""
    found = []
    with contextlib.suppress(OSError):
        for name in os.listdir(image):
            with contextlib.suppress(OSError):
                if os.listdir(os.path.join(image, name)):
                    found.append(name)
    return found


def _image_problem(image: str) -> str:
    """Return what is wrong with an image as this node sees it, "" for nothing."""
    try:
        if os.path.isdir(image):
            os.listdir(image)
        else:
            os.close(os.open(image, os.O_RDONLY))
    except OSError as error:
        return f"the image {image} cannot be read: {error.strerror}"
    return ""
