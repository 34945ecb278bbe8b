"""Finds the folder in which a job's programs run: that of the file that states the command, of several that merge."""

from pathlib import Path

from slurm_tf import files
from slurm_tf.errors import ConfigError
from slurm_tf.jobspec.job_file import JobSpec
from slurm_tf.jobspec.job_templates import JobFile
from slurm_tf.jobspec.layers import Resolved


def of(job_file: JobFile, resolved: Resolved[JobSpec]) -> Path:
    """Return the folder that a job's `chdir` starts from: where the file is that states it, else its program."""
    return next(iter(_folders(job_file, resolved).values()), job_file.path.parent)


def check(job_file: JobFile, resolved: Resolved[JobSpec]) -> None:
    """Raise ConfigError for roles whose commands are those of files in several folders: a job has one."""
    found = _folders(job_file, resolved)
    if "chdir" in found or len({files.absolute(str(each)) for each in found.values()}) < 2:
        return
    listed = "; ".join(f"{key} of {resolved.origins[key]}" for key in found)
    needed = "the commands of all roles in files of one folder, in which the programs run"
    raise ConfigError(f"found {listed}", needed, "say the folder: chdir = ...", f"{job_file.path}: chdir")


def _folders(job_file: JobFile, resolved: Resolved[JobSpec]) -> dict[str, Path]:
    """Return the folders of the files of a job file's chain that state `chdir` or a command, by the key."""
    spec, by_origin = resolved.spec, {each.origin: Path(each.origin).parent for each in job_file.layered}
    keys = ["chdir"]
    keys += [f"roles.{name}.command" if role.command else "command" for name, role in spec.roles.with_tasks.items()]
    origins = {key: resolved.origins.get(key, "") for key in keys}
    return {key: by_origin[origin] for key, origin in origins.items() if origin in by_origin}
