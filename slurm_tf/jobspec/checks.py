"""Checks all of a job that can be told without Slurm, each thing by itself, so that one message names all errors."""

import os
from collections.abc import Callable, Sequence
from functools import partial

from slurm_tf import files, units
from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import containers, layers, limits, params, resources, serve_plan, site_rules, stage, sweep
from slurm_tf.jobspec.base_table import Amount
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.error_list import ErrorList
from slurm_tf.jobspec.job_file import ROLES, TOPOLOGIES, Horovod, Role
from slurm_tf.jobspec.train_tables import AUTO
from slurm_tf.run.settings import DATA_DISPATCHER, DATA_SERVICE, DATA_WORKER, ENGINE

# Keys of tables with times that must end.
WATCHED = ("step", "compile", "evaluate", "output", "coordinator", "straggler-time")
_LAUNCH_TIMES = ("register-timeout", "wait", "kill-wait")
# A check of a job, and the keys that it reads; it is left out where one of these is wrong.
Check = tuple[Sequence[str], Callable[[], object]]


def check(job: Job, more: Sequence[Check] = ()) -> None:
    """Raise ConfigError for all that is wrong with `job`; `more`: checks that need more than the job itself."""
    checker = _Checker(job)
    for keys, what in [*_of_values(job), *_of_roles(job, checker), *more]:
        checker.call(keys, what)
    checker.errors.raise_all()


class _Checker:
    """Calls checks, and collects what they raise."""

    def __init__(self, job: Job) -> None:
        self.errors = ErrorList(job.errors)
        self._wrong = set(job.left_out)

    def call(self, keys: Sequence[str], what: Callable[[], object]) -> None:
        """Call a check unless one of its keys is wrong; what a check of one key refuses is wrong for later ones."""
        if any(map(self.is_wrong, keys)):
            return
        before = len(self.errors.errors)
        with self.errors.collecting():
            what()
        if len(keys) == 1 and len(self.errors.errors) > before:
            self._wrong.update(keys)

    def is_wrong(self, key: str) -> bool:
        """Whether a key, the table around it or anything in it is wrong."""
        return any(f"{key}.".startswith(f"{each}.") or each.startswith(f"{key}.") for each in self._wrong)


def _of_values(job: Job) -> list[Check]:
    """Return the checks of single values."""
    spec, checkpoint = job.spec, job.spec.checkpoint
    every = None if checkpoint.every == AUTO else checkpoint.every
    checks: list[Check] = [
        ((), lambda: layers.check_strings(spec, str(job.path), free=("setup",))),
        (("time",), lambda: layers.check_unit(spec.time, units.parse_time, job.where("time"))),
        (("cluster-flags", "strategy"), lambda: _check_cluster_flags(job)),
        (("horovod", "strategy"), lambda: _check_horovod(job)),
        (("account", "partition", "qos", "roles", "sbatch", "time"), lambda: site_rules.check(job)),
    ]
    times: dict[str, Amount | None] = {
        "checkpoint.every": every,
        "checkpoint.warning": checkpoint.warning,
        "export.every": spec.export.every,
        "retry.wait": spec.retry.wait,
        **{f"watch.{key}": getattr(spec.watch, key.replace("-", "_")) for key in WATCHED},
        **{f"launch.{key}": getattr(spec.launch, key.replace("-", "_")) for key in _LAUNCH_TIMES},
    }
    checks += [((key,), partial(_check_time, job, key, value)) for key, value in times.items()]
    checks += [((f"env.{name}",), partial(_check_variable, job, name)) for name in spec.env]
    return checks


def _of_roles(job: Job, checker: _Checker) -> list[Check]:
    """Return the checks of roles: how many there are, what each runs and needs; and of params and arrays."""
    roles = job.spec.roles.with_tasks
    checks: list[Check] = [
        (("strategy", "roles"), lambda: _check_topology(job)),
        (("roles",), lambda: _check_data_service(job)),
    ]
    for name, role in roles.items():
        at = f"roles.{name}"
        checks.append((("command", f"{at}.command"), partial(_check_command, job, name, role)))
        for keys, what in ((resources.MEMORY_KEYS, resources.asked_memory), (resources.GPU_KEYS, resources.asked_gpus)):
            checks.append(([f"{at}.{key}" for key in keys], partial(what, job, name, role)))
        checks.append(((at, "partition"), partial(_check_resources, job, name, role, checker)))
        checks.append((("strategy", at), partial(_check_engine_memory, job, name, role)))
    checks.append((("container", "roles"), lambda: containers.check(job)))
    checks.append((("strategy", "serve", "array", "sweep"), lambda: serve_plan.check(job)))
    checks.append((("serve.overlap",), lambda: serve_plan.check_overlap(job)))
    checks.append((("stage.size",), lambda: stage.check_size(job)))
    checks.append((("stage", "roles", "container"), lambda: stage.check(job)))
    checks.append((("params", "sweep", "command", "env", "stage", "roles"), lambda: _check_params(job, checker)))
    return checks


def _check_cluster_flags(job: Job) -> None:
    if job.spec.cluster_flags and job.spec.strategy != "between_graph":
        raise ConfigError("found true", "strategy between_graph for it", where=job.where("cluster-flags"))


def _check_horovod(job: Job) -> None:
    spec, at = job.spec, job.where("horovod.controller")
    if spec.horovod != Horovod() and spec.strategy != "horovod":
        raise ConfigError(f"found controller {spec.horovod.controller}", "strategy horovod", where=at)
    if spec.horovod.controller == "mpi" and job.site.scheduler == "local":
        raise ConfigError("found mpi", "gloo: without Slurm nothing starts MPI's processes", where=at)


def _check_time(job: Job, key: str, value: Amount | None) -> None:
    """Raise ConfigError for a value that is no time, or none that ends."""
    layers.check_unit(value, units.parse_time, job.where(key))
    if value is not None and units.parse_time(str(value)) is None:
        raise ConfigError("found UNLIMITED", "a time that ends", where=job.where(key))


def _check_variable(job: Job, name: str) -> None:
    at = job.where(f"env.{name}")
    layers.check_variable(name, at)
    value = job.spec.env[name]
    for match in files.SHELL_VARIABLE.finditer(value):
        if (match[1] or match[2]) in (name, *os.environ):  # it is meant for a shell, and none expands it
            raise ConfigError(
                f"found {value!r}",
                f"the value itself: {match[0]} is passed on as it is",
                f'write it into `setup`, whose lines are the shell\'s: export {name}="{value}"',
                at,
            )


def _check_topology(job: Job) -> None:
    """Raise ConfigError for each role of which the strategy needs more or fewer tasks."""
    errors, strategy, allowed = ErrorList(), job.spec.strategy, TOPOLOGIES[job.spec.strategy]
    counts = {name: role.count for name, role in job.spec.roles.with_tasks.items()}
    for role in ROLES:
        low, high = allowed.get(role, (0, 0))
        count = counts.get(role, 0)
        if low <= count <= high:
            continue
        error = ConfigError(
            f"found {count} {role} tasks",
            f"{_range(low, high)} under strategy {strategy}",
            f"strategy {strategy} has the roles {', '.join(f'[roles.{name}]' for name in allowed)}",
            job.where(f"roles.{role}.count" if count else f"roles.{role}"),
        )
        errors.add(error)
    errors.raise_all()


def _check_data_service(job: Job) -> None:
    """Raise ConfigError for a data dispatcher without data workers, or the other way round."""
    found = [name for name in DATA_SERVICE if name in job.spec.roles.with_tasks]
    if len(found) == 1:
        needed = f"both [roles.{DATA_DISPATCHER}] and [roles.{DATA_WORKER}]: one hands out what the other computes"
        raise ConfigError(f"found [roles.{found[0]}] alone", needed, where=job.where(f"roles.{found[0]}"))


def _range(low: int, high: int) -> str:
    if low == high:
        return str(low)
    return f"{low} or 1" if high == 1 else f"at least {low}"


def _check_command(job: Job, name: str, role: Role) -> None:
    if not job.spec.command_of(role):
        needed = f"the program and its arguments: of all roles, or in [roles.{name}]"
        raise ConfigError(f"there is none for {name}", needed, where=job.where("command"))


def _check_engine_memory(job: Job, name: str, role: Role) -> None:
    """Raise ConfigError for a role of an engine that has no memory, where Slurm does not give it by the node."""
    is_given = job.site.scheduler == "local" or job.site.mem_spelling == "none"
    if job.spec.strategy == ENGINE and not is_given and resources.asked_memory(job, name, role) is None:
        needed = "mem, mem-per-cpu or mem-per-gpu of each role of an engine, which fills what it has"
        raise ConfigError(
            f"{name} has no memory", needed, "mem = 0 is all memory of a node", job.where(f"roles.{name}")
        )


def _check_resources(job: Job, name: str, role: Role, checker: _Checker) -> None:
    limit = None if checker.is_wrong("time") else resources.time_limit(job)
    asked = resources.asked(job, name, role)
    errors = ErrorList()
    with errors.collecting():
        limits.check(job, [name], asked, role.count, limit)
    with errors.collecting():
        resources.accepted(job, name, role, asked)
    errors.raise_all()


def _check_params(job: Job, checker: _Checker) -> None:
    swept = params.resolve(job).swept
    if not checker.is_wrong("array"):
        sweep.array(job, swept)
