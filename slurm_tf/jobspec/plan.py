"""Fits a job to its site: the components to ask Slurm for, and the settings of the launcher."""

import json
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass, replace

from slurm_tf import files, units
from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import (
    checks,
    components,
    containers,
    directives,
    params,
    resources,
    role_memory,
    serve_plan,
    stage,
    step_container,
    sweep,
    user_settings,
)
from slurm_tf.jobspec.base_table import Amount
from slurm_tf.jobspec.components import Component, Layout, NodesOf
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.job_file import ParamValue, python_of
from slurm_tf.jobspec.resources import TimeLimit
from slurm_tf.jobspec.train_tables import AUTO
from slurm_tf.run import placeholders
from slurm_tf.run.folder import RunFolder, SubmissionFolder
from slurm_tf.run.settings import (
    AS_GIVEN,
    ENGINE,
    SERVE,
    LaunchSettings,
    RetrySettings,
    RoleMemory,
    RoleSettings,
    WatchSettings,
)
from slurm_tf.run.train_settings import Better, ExportSettings, TrainSettings
from slurm_tf.slurm.node_sizes import PartitionNodes

# The signals of sbatch --signal that are accepted: a program can catch them, and they do not mean to end at once.
_WARNINGS = ("HUP", "TERM", "USR1", "USR2")
_WARNING_SECONDS = 120
_SIGNAL = re.compile(r"([RB]{1,2}:)?(SIG)?(?P<signal>\w+)(@(?P<seconds>\d+))?", re.ASCII)
# [env] travels in one variable; see EXECVE_LIMIT in launch/mapping/cluster.py.
_ENV_LIMIT = 100_000
# Their programs do not use slurm_tf.train.
_WITHOUT_TRAIN = ("between_graph", ENGINE, SERVE)
# Where the site does not say: hardware fails once in a month or more, but preemptions count as well.
_NODE_MTBF = "1-00:00:00"


@dataclass(frozen=True, slots=True)
class Plan:
    """A job fitted to its site and to one submission: all that the templates and the launcher need.

    `time_limit`: None for the partition's default; `params`: the values that all points have; `array`: its points, None
    for one run.
    """

    job: Job
    submission: SubmissionFolder
    chdir: str
    layout: Layout
    time_limit: TimeLimit | None
    settings: LaunchSettings
    params: Mapping[str, ParamValue]
    array: sweep.Array | None

    @property
    def run(self) -> RunFolder:
        """The folder of the run."""
        return self.submission.run

    @property
    def components(self) -> tuple[Component, ...]:
        """What the job asks Slurm for."""
        return self.layout.components

    @property
    def one_job(self) -> bool:
        """Whether all points are one job: Slurm has no arrays of heterogeneous jobs, so each of those is a job.

        So is each job of a service.
        """
        return self.array is None or (len(self.components) == 1 and self.settings.serve is None)


def fit(
    job: Job, run: RunFolder, chdir: str = "", number: int = 1, nodes_of: NodesOf = lambda _: PartitionNodes()
) -> Plan:
    """Return the plan for the `number`-th submission of `job` as `run`.

    `chdir`: where to run it, the job's own folder by default. `nodes_of`: asked where roles with different needs may
    share nodes.

    Raises ConfigError.
    """
    checks.check(job)
    roles = job.spec.roles.with_tasks
    limit = resources.time_limit(job)
    requested = {name: resources.read(job, name, role) for name, role in roles.items()}
    wanted = components.Wanted(job, roles, requested, limit, nodes_of)
    chdir = chdir or source_folder(job)
    values = params.resolve(job)
    array, submission = serve_plan.array(job, run) or sweep.array(job, values.swept), run.submission(number)
    if job.site.scheduler == "slurm":
        _check_paths(job, run.path, chdir)
    elif array and len(array.points) > 1:
        raise ConfigError(
            f"found {len(array.points)} points",
            "one: without Slurm nothing runs an array",
            f"choose one: slurm-tf run {job.typed} " + " ".join(f"{name}=VALUE" for name in values.swept),
            job.where("sweep" if job.spec.sweep else "array"),
        )
    warning = _warning(job, limit)
    apart = components.why_apart(wanted)
    in_one = None if apart or serve_plan.is_service(job) else array
    once = directives.of_job(job, run, chdir, in_one, warning)
    layout = components.lay_out(wanted, apart, once)
    if array and array.limit and apart and "?" in str(job.spec.sbatch.get("dependency", "")):
        needed = "conditions that all hold (,): each point also waits for an earlier one"
        raise ConfigError(f"found ? and the limit %{array.limit}", needed, where=job.where("sbatch.dependency"))
    if job.spec.preflight == "mpi" and apart:
        needed = f"roles that can share nodes for it: {apart}"
        raise ConfigError("found 'mpi'", needed, "preflight = true", job.where("preflight"))
    settings = _settings(wanted, submission, layout, warning, chdir)
    _check_mounts(job, settings, run.path, chdir)
    if settings.preflight_mpi and any(role.container for role in settings.roles):
        found = "found 'mpi', which runs on the nodes' own Python, and programs in containers"
        raise ConfigError(found, "preflight = true", where=job.where("preflight"))
    layout = step_container.enter(job, layout, settings, submission, chdir)
    if array and job.site.scheduler == "slurm":
        points = {str(index): {**values.fixed, **point} for index, point in array.points.items()}
        settings = replace(settings, points=points)
    else:
        point = next(iter(array.points.values())) if array else {}
        settings = settings.filled({**values.fixed, **point})
    _check_env_size(job, settings)
    _check_params_size(job, settings)
    return Plan(job, submission, chdir, layout, limit, settings, values.fixed, array)


def source_folder(job: Job) -> str:
    """Return the working directory that the job names, as an absolute path. Raises ConfigError."""
    return files.absolute(str(job.folder / user_settings.expand(job.spec.chdir, job.where("chdir"))))


def _check_env_size(job: Job, settings: LaunchSettings) -> None:
    """Raise ConfigError if [env] of any point is larger than one variable can be."""
    texts = list(settings.env.values())
    points = settings.points.values() if any(map(placeholders.names, texts)) else ()
    variants = [{**settings.env}, *(settings.filled(point).env for point in points)]
    size = max(sum(len(name) + len(value.encode()) for name, value in each.items()) for each in variants)
    if size > _ENV_LIMIT:
        raise ConfigError(f"found {size} bytes", f"at most {_ENV_LIMIT}", "put it into a file", job.where("env"))


def _check_params_size(job: Job, settings: LaunchSettings) -> None:
    """Raise ConfigError if the params of any point are larger than one variable can be."""
    size = max(len(json.dumps(dict(values))) for values in (settings.params, *settings.points.values()))
    if size > _ENV_LIMIT:
        raise ConfigError(f"found {size} bytes", f"at most {_ENV_LIMIT}", "put it into a file", job.where("params"))


def _check_paths(job: Job, *paths: str) -> None:
    for path in paths:
        if "\\" in path:
            # sbatch takes it as "no % patterns here", and loses it (22.05.8)
            needed = "one without a backslash, which Slurm cannot hold"
            raise ConfigError(f"found the path {path!r}", needed, where=str(job.path))


def _check_mounts(job: Job, settings: LaunchSettings, *paths: str) -> None:
    """Raise ConfigError for a folder of the run that its containers cannot have at its own path."""
    for role in settings.roles:
        if role.container:
            containers.check_paths(role.container.runtime, paths, str(job.path))


def _warning(job: Job, limit: TimeLimit | None) -> tuple[str, int]:
    """Return the signal of the job's --signal and its seconds before the time limit; ("", 0) for none.

    There is none where no program would save a checkpoint: between_graph, engine and serve do not use slurm_tf.train's.
    Raises ConfigError.
    """
    spec = job.spec
    if "signal" in spec.sbatch:
        return _own_warning(str(spec.sbatch["signal"]), job.where("sbatch.signal"))
    if job.site.scheduler == "local" or (spec.strategy in _WITHOUT_TRAIN and not spec.checkpoint.signal):
        return "", 0
    if spec.checkpoint.warning is not None:
        return "USR1", round(_seconds(spec.checkpoint.warning))
    length = limit.length if limit else None
    return "USR1", min(_WARNING_SECONDS, int(length.total_seconds() / 5)) if length else _WARNING_SECONDS


def _own_warning(text: str, where: str) -> tuple[str, int]:
    """Return the signal and the seconds of the user's own --signal. Raises ConfigError."""
    match = _SIGNAL.fullmatch(text)
    name_or_number = match["signal"].upper() if match else ""
    for name in _WARNINGS:
        if match and name_or_number in (name, str(int(signal.Signals[f"SIG{name}"]))):
            return name, int(match["seconds"] or 60)
    raise ConfigError(f"found {text!r}", f"[B:]SIGNAL[@SECONDS], SIGNAL one of {', '.join(_WARNINGS)}", where=where)


def _settings(
    wanted: components.Wanted,
    submission: SubmissionFolder,
    layout: Layout,
    warning: tuple[str, int],
    chdir: str,
) -> LaunchSettings:
    """Return the launcher's settings, without values of params."""
    job, spec, site, ranked = wanted.job, wanted.job.spec, wanted.job.site, layout.roles
    memory = role_memory.of_roles(wanted, layout) if spec.strategy == ENGINE else {}
    local = site.scheduler == "local"
    commands = {name: spec.command_of(role) for name, role in wanted.roles.items()}
    mpi_probe = (python_of(word for name in ranked for word in commands[name]), submission.launcher, "mpi-probe")
    return LaunchSettings(
        run=submission.run.name,
        local=local,
        strategy=spec.strategy,
        roles=tuple(_role_settings(wanted, name, commands[name], memory.get(name)) for name in ranked),
        env=dict(spec.env),
        cluster_flags=spec.strategy == "between_graph" if spec.cluster_flags is None else spec.cluster_flags,
        gpu_sharing=spec.gpu_sharing if local or any(map(resources.states_gpus, wanted.roles.values())) else AS_GIVEN,
        gpus_optional=spec.gpus_optional,
        join_required=spec.join == "required",
        max_restarts=spec.launch.max_restarts,
        register_timeout=_seconds(spec.launch.register_timeout),
        wait=_seconds(spec.launch.wait),
        kill_wait=max(_seconds(spec.launch.kill_wait), serve_plan.DRAIN_SECONDS if serve_plan.is_service(job) else 0.0),
        ports=units.parse_ports(site.ports) if site.ports else None,
        coordinator_ports=units.parse_ports(site.coordinator_ports) if site.coordinator_ports else None,
        interface=site.interface,
        host_suffix=site.host_suffix,
        preflight=bool(spec.preflight),
        preflight_factor=spec.launch.preflight_factor,
        preflight_mpi=mpi_probe if spec.preflight == "mpi" and not local else (),
        train=_train(job),
        horovod=spec.horovod.controller if spec.strategy == "horovod" else "",
        warning=warning,
        stage=stage.resolve(job),
        chdir=chdir,
        checkpoint_signal=spec.checkpoint.signal or "",
        goes_on=not local and not serve_plan.is_service(job) and spec.sbatch.get("requeue") is not False,
        serve=serve_plan.resolve(job, submission.run),
        watch=WatchSettings(
            straggler_factor=spec.watch.straggler_factor,
            **{_attribute(key): _seconds(getattr(spec.watch, _attribute(key))) for key in checks.WATCHED},
        ),
        retry=RetrySettings(
            permanent=spec.retry.permanent,
            retryable=spec.retry.retryable,
            unknown=spec.retry.unknown,
            fruitless=spec.retry.fruitless,
            wait=_seconds(spec.retry.wait),
        ),
    )


def _role_settings(
    wanted: components.Wanted, name: str, command: tuple[str, ...], memory: RoleMemory | None
) -> RoleSettings:
    """Return the launcher's settings of a role. Raises ConfigError."""
    role, needs = wanted.roles[name], wanted.resources[name]
    node_gpus = needs.node_gpus.number if needs.node_gpus else 0
    container = containers.resolve(wanted.job, name, role)
    return RoleSettings(name, role.count, needs.gpus_per_task, command, node_gpus, container, memory)


def _mtbf(job: Job) -> float:
    """Return the mean time between failures of one node, in seconds."""
    return _seconds(job.site.node_mtbf or _NODE_MTBF)


def _train(job: Job) -> TrainSettings:
    """Return what [checkpoint] and [train] say to slurm_tf.train."""
    checkpoint, train = job.spec.checkpoint, job.spec.train
    every: Amount | None = checkpoint.every
    if checkpoint.every_steps is not None and "checkpoint.every" not in job.origins:
        every = None
    return TrainSettings(
        checkpoint_every=None if every is None or every == AUTO else _seconds(every),
        checkpoint_every_steps=checkpoint.every_steps,
        mtbf=_mtbf(job) if every == AUTO else None,
        checkpoint_keep=checkpoint.keep,
        accumulate=train.accumulate,
        mixed_precision=train.mixed_precision or "",
        bytes_per_pack=train.bytes_per_pack,
        collective=train.collective,
        export=_export(job),
    )


def _export_to(job: Job) -> str:
    return files.absolute(str(job.folder / user_settings.expand(job.spec.export.to, job.where("export.to"))))


def _export(job: Job) -> ExportSettings:
    """Return what [export] says to slurm_tf.train. Raises ConfigError."""
    export = job.spec.export
    return ExportSettings(
        to=_export_to(job) if export.to else "",
        metric=export.metric,
        mode=Better(export.mode),
        every=None if export.every is None else _seconds(export.every),
        keep=export.keep,
    )


def _attribute(key: str) -> str:
    return key.replace("-", "_")


def _seconds(amount: Amount) -> float:
    """Return a time in seconds, infinity for UNLIMITED; that of a job file was checked to end."""
    length = units.parse_time(str(amount))
    return float("inf") if length is None else length.total_seconds()
