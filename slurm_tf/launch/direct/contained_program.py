"""Becomes a program in the container of a run's role, without a job: `slurm-tf export` has it make its model there."""

import argparse
import os
import sys
from dataclasses import replace
from typing import Dict, List, Mapping, NoReturn, Sequence, Tuple

from slurm_tf.errors import ContainerError, SlurmTfError
from slurm_tf.launch.agent.program_container import ProgramContainer
from slurm_tf.launch.log import say
from slurm_tf.run import settings
from slurm_tf.run.container_settings import Mount
from slurm_tf.run.folder import SubmissionFolder


def main(arguments: Sequence[str]) -> NoReturn:
    """enter SUBMISSION_FOLDER ROLE [--point N] [--mount FOLDER]... -- COMMAND..."""
    parser = argparse.ArgumentParser(prog="launch.pyz enter", allow_abbrev=False)
    parser.add_argument("submission")
    parser.add_argument("role")
    parser.add_argument("--point", type=int, default=None)
    parser.add_argument("--mount", action="append", default=[])
    end = arguments.index("--")
    options = parser.parse_args(arguments[:end])
    try:
        argv, environ = entered(options, arguments[end + 1 :], os.environ)
        os.execve(argv[0], argv, environ)  # noqa: S606
    except SlurmTfError as error:
        say(str(error))
        sys.exit(error.exit_code)
    except OSError as error:
        say(f"cannot enter the container of {options.role}: {error}")
        sys.exit(ContainerError.exit_code)


def entered(
    options: argparse.Namespace, command: Sequence[str], host: Mapping[str, str]
) -> Tuple[List[str], Dict[str, str]]:
    """Return the command and the environment that run `command` in the container of a role.

    It has the role's variables, and SLURM_TF_* of `host`. Raises RunError, ContainerError or OSError.
    """
    submission = SubmissionFolder(options.submission)
    launched = settings.read_settings(submission)
    launched = launched if options.point is None else launched.of_point(options.point)
    container = next((role.container for role in launched.roles if role.name == options.role), None)
    if container is None or not container.runtime.wraps:
        raise ContainerError(f"role {options.role} of {submission.path} has no container that can be entered here")
    mounts = (*container.mounts, *(Mount(folder, folder) for folder in options.mount))
    place = ProgramContainer(replace(container, mounts=mounts), submission, host, launched.env)
    environ = {**place.inherited(host), **launched.env}
    path = environ.get("PYTHONPATH", "")
    environ["PYTHONPATH"] = f"{path}:{submission.train_library}".lstrip(":")
    return place.enter(command, environ)
