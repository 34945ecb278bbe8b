"""Says what to write in a job file for a word of sbatch, or of another tool, that stands where it has no meaning."""

import re
from collections.abc import Mapping

from slurm_tf.jobspec import sbatch_table
from slurm_tf.jobspec.error_list import Advice
from slurm_tf.jobspec.job_file import ROLES, JobSpec, Role
from slurm_tf.jobspec.sbatch_table import Use
from slurm_tf.jobspec.toml_values import EXAMPLE_OF_COMMAND, toml

# Words of other tools, and what sbatch or a job file calls them.
_OTHER_WORDS: Mapping[str, str] = {
    "args": "command", "arguments": "command", "cmd": "command", "conda": "setup", "cpu": "cpus-per-task",
    "cpus": "cpus-per-task", "cwd": "chdir", "entrypoint": "command", "environment": "env", "gpu": "gpus",
    "grid": "sweep", "hparams": "params", "hyperparameters": "params", "matrix": "sweep", "memory": "mem",
    "module": "setup", "modules": "setup", "ngpus": "gpus", "num-gpus": "gpus", "num-nodes": "nodes",
    "num-workers": "ntasks", "parameters": "params", "program": "command", "python": "command", "queue": "partition",
    "replicas": "ntasks", "script": "command", "tasks": "ntasks", "variables": "params", "venv": "setup",
    "virtualenv": "setup", "walltime": "time", "workdir": "chdir", "workers": "ntasks", "working-dir": "chdir",
    "wrap": "command",
}  # fmt: skip
# Words of other tools for a container, and the keys of [container].
_CONTAINER_WORDS: Mapping[str, str] = {
    "apptainer": "image", "bind": "mounts", "bind-mounts": "mounts", "binds": "mounts",
    "container-env": "env-from-host", "container-image": "image", "container-mounts": "mounts", "docker": "image",
    "docker-image": "image", "image": "image", "mount": "mounts", "mounts": "mounts", "sif": "image",
    "singularity": "image", "volumes": "mounts",
}  # fmt: skip
_EXAMPLES: Mapping[str, str] = {
    "command": EXAMPLE_OF_COMMAND,
    "env": 'below [env]: OMP_NUM_THREADS = "4"',
    "params": 'below [params]: rate = 0.1, and "--rate={rate}" in command',
    "setup": 'setup = "source ~/venv/bin/activate"; or, of modules: setup = "module load NAME"',
    "sweep": 'below [sweep]: rate = [0.1, 0.01], and "--rate={rate}" in command',
}
# Of --gres and --tres-per-task; these may have gres: or gres/ in front.
_GPU = re.compile(r"(gres[/:])?gpu(?=[:=]|$)", re.ASCII | re.IGNORECASE)
# The key of a role's table for the GPUs in an option.
GPU_KEYS: Mapping[str, str] = {"gres": "gpus-per-node", "tres-per-task": "gpus-per-task"}


def of_key(path: str, value: object) -> Advice | None:
    """Return what to write for a key at `path` that job files do not have there; None where nobody knows."""
    table, _, key = path.rpartition(".")
    word = key.replace("_", "-")
    if table == "container" or table.endswith(".container"):
        return _of_container(word, value)
    role = table.removeprefix("roles.") if table.startswith("roles.") else ""
    if table and not role:
        return None
    if word in (_keys(Role) if role else _keys(JobSpec)):
        return None  # its own spelling: it is the nearest key
    if not role and word in ROLES:
        count = f", and below it: count = {toml(value)}" if isinstance(value, int) else ""
        return Advice(f"the table [roles.{word}]", f"[roles.{word}] in a line of its own{count}")
    return of_word(word, value, role)


def of_word(word: str, value: object, role: str = "") -> Advice | None:
    """Return what to write for an option of sbatch, or a word of another tool; None for any other word.

    `role`: in whose table it stands, "" for none.
    """
    if word in _CONTAINER_WORDS:
        key = _CONTAINER_WORDS[word]
        table = f"roles.{role}.container" if role else "container"
        return Advice(f"`{key}` in the table [{table}]", f"below [{table}]: {key} = {_as_list(key, value)}")
    name = _OTHER_WORDS.get(word, word)
    name = sbatch_table.ALIASES.get(name, name)
    if name == "nodes":
        return _nodes(value, role or "worker")
    gpus, rest = gpus_and_rest(str(value)) if name in GPU_KEYS else ("", "")
    if gpus:
        more = f"; below [sbatch]: {name} = {toml(rest)}" if rest else ""
        found = _of_role(GPU_KEYS[name], gpus, role or "worker")
        return Advice(f"{found.needed} for GPUs", found.example + more)
    option = sbatch_table.OPTIONS.get(name)
    if name == "ntasks":
        return _of_role("count", value, role or "worker")
    if name in _keys(Role) and name not in _keys(JobSpec):
        return _of_role(name, value, role or "worker")
    key = option.instead if option and option.use is Use.KEY else name
    if key in _keys(JobSpec):
        where = ", above all tables" if role else ""
        return Advice(f"the key `{key}`, for the whole job", _EXAMPLES.get(key, f"{key} = {toml(value)}{where}"))
    if option is None:
        return None
    if option.use is Use.KEPT:
        return Advice("the table [sbatch] for it", f"below [sbatch]: {name} = {toml(value)}")
    return Advice(option.instead, "") if option.use is Use.REFUSED else None


def _of_container(word: str, value: object) -> Advice | None:
    """Return what to write for a key that [container] does not have; None where nobody knows."""
    if word in ("env", "environment"):
        return Advice("the table [env] for it, or env-from-host", f"[env] in a line of its own; {_EXAMPLES['env']}")
    if word in ("runtime", "command", "modules", "images", "gpu-options"):
        return Advice("it in the site's profile, below its [container]", f"{word} = {toml(value)}")
    if word in ("workdir", "cwd", "working-dir", "container-workdir"):
        return Advice("the key `chdir`, for the whole job", f"chdir = {toml(value)}, above all tables")
    key = _CONTAINER_WORDS.get(word, word)
    return None if key == word else Advice(f"`{key}` for it", f"{key} = {_as_list(key, value)}")


def _as_list(key: str, value: object) -> str:
    return toml(value if key == "image" or isinstance(value, list) else [value])


def as_set(name: str, value: object) -> str:
    """Return what to say on the command line for an option of sbatch that a role's table has, "" for any other."""
    if name == "nodes":
        return f"{value} nodes with a task each: --set roles.worker.count={value} --set roles.worker.ntasks-per-node=1"
    key = "count" if name == "ntasks" else name
    return f"say --set roles.worker.{key}={value}" if key in _keys(Role) - _keys(JobSpec) else ""


def gpus_and_rest(value: str) -> tuple[str, str]:
    """Return the GPUs in a value of --gres or --tres-per-task as --gpus has them, and all else in it."""
    entries = [entry.strip() for entry in value.split(",")]
    gpus = [_GPU.sub("", entry).lstrip(":=").replace("=", ":") or "1" for entry in entries if _GPU.match(entry)]
    return ",".join(gpus), ",".join(entry for entry in entries if not _GPU.match(entry))


def _keys(spec: type[JobSpec] | type[Role]) -> frozenset[str]:
    return frozenset(name.replace("_", "-") for name in spec.__struct_fields__)


def _of_role(key: str, value: object, role: str) -> Advice:
    return Advice(f"`{key}` in a role's table", f"below [roles.{role}]: {key} = {toml(value)}")


def _nodes(value: object, role: str) -> Advice:
    number = value if isinstance(value, int) and not isinstance(value, bool) else 2
    if isinstance(value, str) and value.isascii() and value.isdigit():
        number = int(value)
    return Advice(
        sbatch_table.OPTIONS["nodes"].instead,
        f"{number} nodes with a task each, below [roles.{role}]: count = {number} and ntasks-per-node = 1",
    )
