"""The options of sbatch and srun for a job's components, made from typed values, in the order of the script."""

from dataclasses import replace

from slurm_tf import units
from slurm_tf.jobspec import gpu_types, sbatch_table, sweep
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.node_sharing import Place
from slurm_tf.jobspec.resources import GpuOption, GpuRequest, Resources, TimeLimit
from slurm_tf.run import job_comment
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.settings import ENGINE, SERVE

# --name=value, or --name alone.
Option = tuple[str, str | None]

# Their workers, or replicas, do not need each other: one may end without the step being lost.
_INDEPENDENT = ("ps", "between_graph", ENGINE, SERVE)
# slurmctld refuses a comment of more than 1024 bytes (22.05, MAX_COMMENT_LEN).
_COMMENT_LIMIT = 1000
# A name that the user gave for this one job is used as it is.
_TYPED = ("command line: --job-name", "environment: SBATCH_JOB_NAME")


def of_job(
    job: Job, run: RunFolder, chdir: str, array: sweep.Array | None, warning: tuple[str, int]
) -> tuple[Option, ...]:
    """Return the options that are written once, also for a heterogeneous job; `warning`: its --signal, "" for none."""
    # "%" starts a pattern in the name of a log file
    output = f"{run.logs.replace('%', '%%')}/slurm-{'%A_%a' if array else '%j'}.out"
    name = job.spec.name if job.origins.get("name") in _TYPED else job_comment.JOB_NAME + job.spec.name
    options: list[Option] = [("job-name", name), ("chdir", chdir), ("output", output), ("open-mode", "append")]
    comment = job_comment.comment(run.name, job.template.name if job.template else job.spec.name)
    if "comment" not in job.spec.sbatch and len(comment.encode()) <= _COMMENT_LIMIT:
        options.append(("comment", comment))
    options += [("array", array.indexes)] if array else []
    options.append(_requeue(job))
    signal, seconds = warning
    if signal and "signal" not in job.spec.sbatch:
        options.append(("signal", f"B:{signal}@{seconds}"))
    return tuple(options)


def of_component(
    job: Job, resources: Resources, tasks: int, limit: TimeLimit | None, is_first: bool, gpus_elsewhere: bool
) -> tuple[Option, ...]:
    """Return the options of one component; `gpus_elsewhere`: another one asks for GPUs.

    Options that count once for the job are in the first one: each component would take as many licenses again.
    """
    spec, memory = job.spec, resources.memory
    others = [
        item
        for item in sorted(spec.sbatch.items())
        if item[0] not in ("requeue", "gres") and (is_first or item[0] in sbatch_table.OF_COMPONENT)
    ]
    rows: list[tuple[str, str | int | bool | None]] = [
        ("partition", resources.partition),
        ("account", spec.account),
        ("qos", spec.qos),
        ("time", units.format_time(limit.length) if limit else None),
        ("nodes", resources.nodes(tasks) if resources.tasks_per_node else None),
        ("ntasks", tasks),
        ("ntasks-per-node", resources.tasks_per_node),
        ("cpus-per-task", resources.cpus_per_task),
        *([(memory.option.value, units.format_memory(memory.mib))] if memory else []),
        *_gpus_and_gres(_spelled(job, resources.gpus), str(spec.sbatch.get("gres", "")), gpus_elsewhere),
        ("constraint", resources.constraint),
        ("exclusive", exclusive(job)),
    ]
    return tuple(_option(*row) for row in [*rows, *others] if row[1] not in (None, "", False))


def exclusive(job: Job) -> bool | str:
    """Return the value of the job's --exclusive: the job file's, else the site's."""
    return job.site.exclusive if job.spec.exclusive is None else job.spec.exclusive


def of_srun(job: Job, resources: Resources) -> tuple[Option, ...]:
    """Return srun's options of one component: all are written, so that no default of a site or a shell counts.

    --cpus-per-task is not taken over from sbatch from Slurm 22.05 on.
    """
    cpus = [("cpus-per-task", str(resources.cpus_per_task))] if resources.cpus_per_task else []
    return (*of_any_srun(job), *cpus)


def of_shared_srun(job: Job, resources: Resources, tasks: int, place: Place) -> tuple[Option, ...]:
    """Return a role's options of srun, on its part of nodes that it shares with other roles: with --exact.

    A step without --mem would hold all memory of the job, and the next one would wait for it; --mem=0 may use all and
    holds none. One without GPUs would see those of the others (22.05.8).
    """
    memory, gpus = place.share.mib or 0, _spelled(job, resources.gpus)
    if gpus is None:
        asked = ("gres", "none")
    elif gpus.option is GpuOption.PER_TASK:
        asked = (gpus.option.value, units.format_gpus(gpus.gpus))
    else:
        on_a_node = [units.Gpus(number, name) for name, number in place.share.gpus.items()]
        of_node = gpu_types.all_spelled(job.site, on_a_node)
        asked = ("gres", ",".join(f"gpu:{units.format_gpus([each])}" for each in of_node))
    return (
        ("nodes", str(place.nodes)),
        ("relative", str(place.first)),
        ("ntasks", str(tasks)),
        *([("ntasks-per-node", str(place.tasks_per_node))] if place.nodes > 1 else []),
        ("cpus-per-task", str(resources.cpus_per_task or 1)),
        ("mem", units.format_memory(memory) if memory else "0"),
        asked,
    )


def of_any_srun(job: Job) -> tuple[Option, ...]:
    """Return the options of every srun.

    KillOnBadExit=1 in slurm.conf would end a step with the first dead worker. SBATCH_EXPORT=NONE would keep our
    variables from the tasks.
    """
    independent = job.spec.strategy in _INDEPENDENT
    bad_exit = ("kill-on-bad-exit", "0" if independent else "1")
    mpi = job.site.mpi if job.spec.horovod.controller == "mpi" else "none"
    options: list[Option] = [("export", "ALL"), ("mpi", mpi), ("wait", "0"), bad_exit]
    return tuple(options + ([("no-kill", None)] if independent else []))


def _spelled(job: Job, request: GpuRequest | None) -> GpuRequest | None:
    """Return a request with the types by which the site is asked for them."""
    return request and replace(request, gpus=gpu_types.all_spelled(job.site, request.gpus))


def _requeue(job: Job) -> Option:
    """Return --requeue or --no-requeue: one is always written, so that JobRequeue of slurm.conf does not count.

    A job of a service is not requeued: the job that follows it waits for its end already.
    """
    value = False if job.spec.strategy == SERVE else job.spec.sbatch.get("requeue", "")
    wanted = job.site.requeue if value == "" else value
    return _option("requeue", wanted) if wanted else ("no-requeue", None)


def _option(name: str, value: str | int | bool | None) -> Option:
    return name, None if value is True else str(value)


def _gpus_and_gres(request: GpuRequest | None, own: str, gpus_elsewhere: bool) -> list[tuple[str, str]]:
    """Return the GPUs, and one --gres with the user's own: of two, sbatch takes the last one.

    A component without GPUs says so where another one has some: a default of the site would otherwise count.
    """
    listed = [entry for entry in own.split(",") if entry and entry.lower() != "none"]
    if request and request.option is GpuOption.GRES:
        listed = [f"gpu:{units.format_gpus([each])}" for each in request.gpus] + listed
    gpus = (
        [(request.option.value, units.format_gpus(request.gpus))]
        if request and request.option is not GpuOption.GRES
        else []
    )
    gres = ",".join(listed) or ("none" if own or (gpus_elsewhere and not request) else "")
    return [*gpus, ("gres", gres)]
