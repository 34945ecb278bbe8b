"""A job fitted to a site: what to ask Slurm for, and what to tell the launcher."""

import re
import signal
from dataclasses import dataclass

from slurm_tf import units
from slurm_tf.errors import SpecError
from slurm_tf.jobspec import layers, resources, sweep
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.job_file import AUTO, OWNED, TOPOLOGIES, Amount, Horovod, Role, Train
from slurm_tf.jobspec.resources import Needs, Option
from slurm_tf.run import env, job_comment
from slurm_tf.run.folder import RunFolder, SubmissionFolder
from slurm_tf.run.settings import LaunchSettings, RetrySettings, RoleSettings, WatchSettings

# In rank order, as far as nothing else matters.
_ROLES = ("chief", "worker", "ps", "evaluator")
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_SBATCH_NAME = re.compile(r"[a-z][a-z0-9-]*", re.ASCII)
# Their workers do not need each other: one may go without the step being lost.
_INDEPENDENT = ("ps", "between_graph")
# What sbatch --signal may send us: a signal that can be caught, with which a user does not mean "end now".
_WARNINGS = ("HUP", "TERM", "USR1", "USR2")
_WARNING_SECONDS = 120
_SIGNAL = re.compile(r"([RB]{1,2}:)?(SIG)?(?P<signal>\w+)(@(?P<seconds>\d+))?", re.ASCII)
# Keys of [watch], each a time.
_WATCHED = ("step", "compile", "evaluate", "output", "coordinator", "straggler-time")
# slurmctld refuses a comment of more than 1024 bytes (22.05, MAX_COMMENT_LEN).
_COMMENT_LIMIT = 1000
# A name that somebody typed for this one job stays as it is.
_TYPED = ("command line: --job-name", "environment: SBATCH_JOB_NAME")
# [env] travels in one variable; see EXECVE_LIMIT in launch/mapping/cluster.py.
_ENV_LIMIT = 100_000
# Where the site does not say: not of hardware (a month or more), but with the preemptions that it does not say either.
_NODE_MTBF = "1-00:00:00"


@dataclass(frozen=True, slots=True)
class Component:
    """One component of the job, with the options of its directives and of its part of srun, in their order.

    `role` is "" where it holds all roles.
    """

    role: str
    tasks: int
    options: tuple[Option, ...]
    srun: tuple[Option, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """All that the templates and the launcher need. `array`: its points, None for one run."""

    job: Job
    submission: SubmissionFolder
    chdir: str
    components: tuple[Component, ...]
    settings: LaunchSettings
    array: sweep.Array | None

    @property
    def run(self) -> RunFolder:
        """The folder of the run."""
        return self.submission.run

    @property
    def one_job(self) -> bool:
        """Whether all points are one job: Slurm refuses an array of heterogeneous jobs, so those are a job each."""
        return self.array is None or len(self.components) == 1


def fit(job: Job, run: RunFolder, chdir: str = "", number: int = 1) -> Plan:
    """Return the plan for the `number`-th submission of `job` as `run`.

    `chdir`: where to run it, the job's own folder by default.

    Raises SpecError.
    """
    _check(job)
    roles = {name: role for name in _ROLES if (role := getattr(job.spec.roles, name)) and role.count}
    _check_topology(job, {name: role.count for name, role in roles.items()})
    asked = {name: resources.read(job, name, role) for name, role in roles.items()}
    # sbatch makes --mem of a component the next one's too, and refuses another kind of memory there (22.05.8)
    roles = {name: roles[name] for name in sorted(roles, key=lambda name: (asked[name].mem or ("",))[0] == "mem")}
    chdir = chdir or source_folder(job)
    array, submission = sweep.array(job), run.submission(number)
    if job.site.scheduler == "slurm":
        _check_paths(job, run.path, chdir)
    elif array and len(array.points) > 1:
        raise SpecError(
            f"found {len(array.points)} points",
            "one: without Slurm nothing runs an array",
            "choose one with --set, such as --set 'sweep.KEY=[VALUE]'",
            job.where("sweep" if job.spec.sweep else "array"),
        )
    components = _components(job, run, chdir, roles, asked, array)
    if job.spec.preflight == "mpi" and len(components) > 1:
        needed = "a job of one component for it: roles with equal needs"
        raise SpecError("found 'mpi'", needed, "preflight = true", job.where("preflight"))
    return Plan(job, submission, chdir, components, _settings(job, submission, roles, asked, array), array)


def source_folder(job: Job) -> str:
    """Return the working directory that the job file names."""
    return str((job.path.parent / job.spec.chdir).resolve())


def _check(job: Job) -> None:
    """Check what each value must be by itself."""
    spec = job.spec
    layers.check_strings(spec, str(job.path), free=("setup",))
    if spec.container is not None:
        raise SpecError("found a table", "none: containers are for a later release", where=job.where("container"))
    every = spec.checkpoint.every
    times: dict[str, Amount | None] = {
        "time": spec.time,
        "checkpoint.every": None if every == AUTO else every,
        "checkpoint.warning": spec.checkpoint.warning,
        "retry.wait": spec.retry.wait,
        **{f"watch.{key}": getattr(spec.watch, _attribute(key)) for key in _WATCHED},
    }
    for key in ("register-timeout", "wait", "kill-wait"):
        times[f"launch.{key}"] = getattr(spec.launch, _attribute(key))
    for key, value in times.items():
        layers.check_unit(value, units.parse_time, job.where(key))
    if spec.cluster_flags and spec.strategy != "between_graph":
        raise SpecError("found true", "strategy between_graph for it", where=job.where("cluster-flags"))
    _check_horovod(job)
    _check_env(job)
    _warning(job)
    for option in spec.sbatch:
        at = job.where(f"sbatch.{option}")
        if option in OWNED:
            raise SpecError(f"found the option {option}", OWNED[option], where=at)
        if not _SBATCH_NAME.fullmatch(option):
            raise SpecError(f"found the option {option!r}", "a long option of sbatch without its dashes", where=at)


def _check_horovod(job: Job) -> None:
    spec, at = job.spec, job.where("horovod.controller")
    if spec.horovod != Horovod() and spec.strategy != "horovod":
        raise SpecError(f"found controller {spec.horovod.controller}", "strategy horovod", where=at)
    if spec.horovod.controller == "mpi" and job.site.scheduler == "local":
        raise SpecError("found mpi", "gloo: without Slurm nothing starts MPI's processes", where=at)


def _check_env(job: Job) -> None:
    for name in job.spec.env:
        at = job.where(f"env.{name}")
        if not _ENV_NAME.fullmatch(name):
            raise SpecError(f"found the name {name!r}", "letters, digits and _, no digit first", where=at)
        if name in env.RESERVED or name.startswith(env.RESERVED_PREFIXES):
            raise SpecError(f"found {name}", "a variable that neither Slurm nor slurm-tf sets", where=at)
    size = sum(len(name) + len(value.encode()) for name, value in job.spec.env.items())
    if size > _ENV_LIMIT:
        raise SpecError(f"found {size} bytes", f"at most {_ENV_LIMIT}", "put it into a file", job.where("env"))


def _check_paths(job: Job, *paths: str) -> None:
    for path in paths:
        if "\\" in path:
            # sbatch takes it as "no % patterns here", and loses it (22.05.8)
            needed = "one without a backslash, which Slurm cannot hold"
            raise SpecError(f"found the path {path!r}", needed, where=str(job.path))


def _check_topology(job: Job, counts: dict[str, int]) -> None:
    strategy, allowed = job.spec.strategy, TOPOLOGIES[job.spec.strategy]
    for role in _ROLES:
        low, high = allowed.get(role, (0, 0))
        count = counts.get(role, 0)
        if low <= count <= high:
            continue
        limits = str(low) if low == high else f"{low} or 1" if high == 1 else f"at least {low}"
        raise SpecError(
            f"found {count} {role} tasks",
            f"{limits} under strategy {strategy}",
            f"strategy {strategy} has the roles {', '.join(f'[roles.{name}]' for name in allowed)}",
            job.where(f"roles.{role}.count" if count else f"roles.{role}"),
        )


def _components(
    job: Job,
    run: RunFolder,
    chdir: str,
    roles: dict[str, Role],
    asked: dict[str, Needs],
    array: sweep.Array | None,
) -> tuple[Component, ...]:
    """Return one component for all roles where their needs are alike or there is no Slurm, else one a role."""
    tasks = sum(role.count for role in roles.values())
    if job.site.scheduler == "local":
        return (Component("", tasks, (), ()),)
    alike = len({need.alike for need in asked.values()}) == 1
    once = _once(job, run, chdir, array if alike else None)
    if alike:
        first, *others = asked.values()
        need = first.joined(others)
        return (Component("", tasks, (*once, *_options(job, need, tasks)), _srun(job, need)),)
    components = []
    for name, role in roles.items():
        own = _options(job, asked[name], role.count)
        components.append(Component(name, role.count, (*once, *own), _srun(job, asked[name])))
        once = ()
    return tuple(components)


def _once(job: Job, run: RunFolder, chdir: str, array: sweep.Array | None) -> tuple[Option, ...]:
    """Return what is said once, for the whole of a heterogeneous job too."""
    # "%" starts a pattern in the name of a log file
    output = f"{run.logs.replace('%', '%%')}/slurm-{'%A_%a' if array else '%j'}.out"
    name = job.spec.name if job.origins.get("name") in _TYPED else job_comment.JOB_NAME + job.spec.name
    options: list[Option] = [("job-name", name), ("chdir", chdir), ("output", output), ("open-mode", "append")]
    comment = job_comment.comment(run.name, job.spec.name)
    if "comment" not in job.spec.sbatch and len(comment.encode()) <= _COMMENT_LIMIT:
        options.append(("comment", comment))
    options += [("array", array.indexes)] if array else []
    if not {"requeue", "no-requeue"} & set(job.spec.sbatch):
        options.append(("requeue" if job.site.requeue else "no-requeue", None))
    warning, seconds = _warning(job)
    if warning and "signal" not in job.spec.sbatch:
        options.append(("signal", f"B:{warning}@{seconds}"))
    return tuple(options)


def _warning(job: Job) -> tuple[str, int]:
    """Return the signal of the job's --signal and its seconds before the time limit; ("", 0) where nobody would save.

    A program under between_graph does not use slurm_tf.train's checkpoints. Raises SpecError.
    """
    spec = job.spec
    if "signal" in spec.sbatch:
        return _own_warning(str(spec.sbatch["signal"]), job.where("sbatch.signal"))
    if job.site.scheduler == "local" or (spec.strategy == "between_graph" and not spec.checkpoint.signal):
        return "", 0
    if spec.checkpoint.warning is not None:
        return "USR1", round(_seconds(job, "checkpoint.warning", spec.checkpoint.warning))
    limit = units.parse_time(str(spec.time)) if spec.time is not None else None
    return "USR1", min(_WARNING_SECONDS, int(limit.total_seconds() / 5)) if limit else _WARNING_SECONDS


def _own_warning(text: str, where: str) -> tuple[str, int]:
    """Return what the user's own --signal says."""
    match = _SIGNAL.fullmatch(text)
    word = match["signal"].upper() if match else ""
    for name in _WARNINGS:
        if match and word in (name, str(int(signal.Signals[f"SIG{name}"]))):
            return name, int(match["seconds"] or 60)
    raise SpecError(f"found {text!r}", f"[B:]SIGNAL[@SECONDS], SIGNAL one of {', '.join(_WARNINGS)}", where=where)


def _options(job: Job, need: Needs, tasks: int) -> tuple[Option, ...]:
    """Return the options of one component."""
    spec = job.spec
    exclusive = job.site.exclusive if spec.exclusive is None else spec.exclusive
    per_node = need.ntasks_per_node
    rows: list[tuple[str, str | int | bool | None]] = [
        ("partition", need.partition),
        ("account", spec.account),
        ("qos", spec.qos),
        ("time", None if spec.time is None else units.format_time(units.parse_time(str(spec.time)))),
        ("nodes", -(-tasks // per_node) if per_node else None),
        ("ntasks", tasks),
        ("ntasks-per-node", per_node),
        ("cpus-per-task", need.cpus_per_task),
        *([(need.mem[0], units.format_memory(need.mem[1]))] if need.mem else []),
        *([_gpu_option(need)] if need.gpus else []),
        ("constraint", need.constraint),
        ("exclusive", exclusive),
        *sorted(spec.sbatch.items()),
    ]
    return tuple(
        (name, None if value is True else str(value)) for name, value in rows if value not in (None, "", False)
    )


def _gpu_option(need: Needs) -> tuple[str, str]:
    option, gpus = need.gpus or ("gpus", units.Gpus(0))
    return option, ("gpu:" if option == "gres" else "") + units.format_gpus(gpus)


def _srun(job: Job, need: Needs) -> tuple[Option, ...]:
    """Return srun's options of one component: always said, so that no default of a site or a shell counts.

    --cpus-per-task is not taken over from sbatch from Slurm 22.05 on. KillOnBadExit=1 in slurm.conf would end a step
    with the first dead worker. SBATCH_EXPORT=NONE would keep our variables from the tasks.
    """
    alone = job.spec.strategy in _INDEPENDENT
    bad_exit = ("kill-on-bad-exit", "0" if alone else "1")
    mpi = job.site.mpi if job.spec.horovod.controller == "mpi" else "none"
    options: list[Option] = [("export", "ALL"), ("mpi", mpi), ("wait", "0"), bad_exit]
    options += [("no-kill", None)] if alone else []
    options += [("cpus-per-task", str(need.cpus_per_task))] if need.cpus_per_task else []
    return tuple(options)


def _settings(
    job: Job, submission: SubmissionFolder, roles: dict[str, Role], asked: dict[str, Needs], array: sweep.Array | None
) -> LaunchSettings:
    spec, site = job.spec, job.site
    local = site.scheduler == "local"
    points = {str(index): dict(values) for index, values in array.points.items()} if array else {}
    mpi_probe = (_python(spec.command), submission.launcher, "mpi-probe")
    every: Amount | None = spec.checkpoint.every
    if spec.checkpoint.every_steps is not None and "checkpoint.every" not in job.origins:
        every = None
    return LaunchSettings(
        run=submission.run.name,
        local=local,
        strategy=spec.strategy,
        roles=tuple(RoleSettings(name, role.count, asked[name].gpus_per_task) for name, role in roles.items()),
        env=dict(spec.env),
        cluster_flags=spec.strategy == "between_graph" if spec.cluster_flags is None else spec.cluster_flags,
        gpu_sharing=spec.gpu_sharing,
        max_restarts=spec.launch.max_restarts,
        register_timeout=_seconds(job, "launch.register-timeout", spec.launch.register_timeout),
        wait=_seconds(job, "launch.wait", spec.launch.wait),
        kill_wait=_seconds(job, "launch.kill-wait", spec.launch.kill_wait),
        ports=units.parse_ports(site.ports) if site.ports else None,
        coordinator_ports=units.parse_ports(site.coordinator_ports) if site.coordinator_ports else None,
        interface=site.interface,
        checkpoint_every=None if every in (None, AUTO) else _seconds(job, "checkpoint.every", every),
        checkpoint_every_steps=spec.checkpoint.every_steps,
        checkpoint_keep=spec.checkpoint.keep,
        preflight=bool(spec.preflight),
        preflight_factor=spec.launch.preflight_factor,
        preflight_mpi=mpi_probe if spec.preflight == "mpi" and not local else (),
        train=_train(spec.train),
        point=next(iter(points.values()), {}) if local else {},
        points={} if local else points,
        horovod=spec.horovod.controller if spec.strategy == "horovod" else "",
        checkpoint_mtbf=_mtbf(job) if every == AUTO else None,
        warning=_warning(job),
        checkpoint_signal=spec.checkpoint.signal or "",
        goes_on=not local and not spec.sbatch.get("no-requeue"),
        watch=WatchSettings(
            straggler_factor=spec.watch.straggler_factor,
            **{
                _attribute(key): _seconds(job, f"watch.{key}", getattr(spec.watch, _attribute(key))) for key in _WATCHED
            },
        ),
        retry=RetrySettings(
            permanent=spec.retry.permanent,
            retryable=spec.retry.retryable,
            unknown=spec.retry.unknown,
            fruitless=spec.retry.fruitless,
            wait=_seconds(job, "retry.wait", spec.retry.wait),
        ),
    )


def _mtbf(job: Job) -> float:
    """Return the mean seconds between failures of one node."""
    length = units.parse_time(str(job.site.node_mtbf or _NODE_MTBF))
    return float("inf") if length is None else length.total_seconds()


def _python(command: tuple[str, ...]) -> str:
    """Return the Python that the program runs on, as far as its command says."""
    return next((word for word in command if re.fullmatch(r"(.*/)?python[0-9.]*", word)), "python3")


def _train(train: Train) -> dict[str, str]:
    """Return what the job file says of slurm_tf.train, by its variables."""
    rows = {
        env.ACCUMULATE: train.accumulate,
        env.MIXED_PRECISION: train.mixed_precision,
        env.BYTES_PER_PACK: train.bytes_per_pack,
        env.COLLECTIVE: train.collective,
    }
    return {name: str(value) for name, value in rows.items() if value is not None}


def _attribute(key: str) -> str:
    return key.replace("-", "_")


def _seconds(job: Job, key: str, amount: Amount) -> float:
    length = units.parse_time(str(amount))
    if length is None:
        raise SpecError("found UNLIMITED", "a time that ends", where=job.where(key))
    return length.total_seconds()
