"""Makes the folder of a run and of its submissions, with all that a job needs: later edits do not change it."""

import contextlib
import datetime
import functools
import grp
import os
import platform
import re
import shutil
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path

import msgspec

from slurm_tf import __version__, files, search_path
from slurm_tf.errors import ConfigError, RunError, SlurmError, UsageError
from slurm_tf.jobspec import checks, plan, serve_plan
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.plan import Plan
from slurm_tf.run import bad_nodes, job_chain, manifest
from slurm_tf.run.folder import FOLDER_OF_RUNS, RunFolder, SubmissionFolder
from slurm_tf.run.manifest import ArrayShape, CodeOrigin, Manifest
from slurm_tf.run.settings import write_settings
from slurm_tf.slurm import client, hostlist, node_sizes
from slurm_tf.slurm.node_sizes import PartitionNodes
from slurm_tf.submit import (
    container_files,
    dependency,
    environments,
    nodes_needed,
    packed_modules,
    program_files,
    render,
    service_files,
    setup_checks,
    snapshot,
)

_LONGEST_NAME = 200


def folder(runs: str, name: str) -> RunFolder:
    """Return the folder of run `name` in the folder `runs`. Raises UsageError."""
    if not name or name.startswith((".", "-")) or "/" in name or not name.isprintable() or len(name.encode()) > 255:
        raise UsageError(f"found the run name {name!r}", "a name that a folder can have: no /, no leading . or -")
    return RunFolder(os.path.join(runs, name))


def make_folder(runs: str, job_name: str, name: str = "") -> RunFolder:
    """Make the folder of a run, or accept it if it exists: `name`, else the job's name with the next free number.

    Raises RunError for a folder that others can write, or that belongs to a run of another job.
    """
    if name:
        run = folder(runs, name)
        files.own_folder(run.path)
        _check_same_job(run, job_name)
    else:
        run = _next(runs, job_name)
    for each in run.folders:
        files.own_folder(each)
    return run


def preview(job: Job, name: str, to_submit: bool = False) -> Plan:
    """Return the plan that `prepare` would make, without making anything.

    `to_submit`: raise the errors that `prepare` would raise of the folder of runs, as far as they can be foreseen.
    """
    checks.check(job, _on_this_machine(job) if to_submit else ())
    run, source = _expected(job, name), _source(job)
    with _explained(job):
        if to_submit and os.path.lexists(run.path):
            files.check_own(run.path)
            _check_same_job(run, job.spec.name)
        if to_submit:
            files.check_writable(run.path, source.size if source else 0)
        return _fit(job, _next_submission(run), source)


def prepare(job: Job, name: str) -> Plan:
    """Make the folder of a run of `job` with all that its job needs. Nothing is made for a job that cannot be fitted.

    Raises ConfigError, RunError, UsageError or StorageError.
    """
    checks.check(job, _on_this_machine(job))
    with _explained(job):
        return _prepare(job, name)


def warnings(job: Job) -> list[str]:
    """Return what the job's programs may lack on the nodes, as far as it can be told here."""
    return [*environments.warnings(job, os.environ), *container_files.warnings(job)]


def _on_this_machine(job: Job) -> list[checks.Check]:
    """Return the checks of what the job needs here: its folder, its programs, its Python environment."""
    found: list[checks.Check] = [(("chdir",), partial(_check_folder, job))]
    for name, role in job.spec.roles.with_tasks.items():
        key = f"roles.{name}.command" if role.command else "command"
        words = job.spec.command_of(role)
        if words:
            found.append(((key, "chdir", "setup"), partial(program_files.check, job, words, job.where(key))))
        found.append((("container", f"roles.{name}"), partial(container_files.check, job, name)))
    found.append((("serve", "params"), partial(serve_plan.check_models, job)))
    return [*found, (("chdir", "setup"), partial(environments.check, job, os.environ))]


def _explained(job: Job) -> contextlib.AbstractContextManager[None]:
    """Explain an OSError of making a run of `job`."""
    return files.explained("make the run", job.runs, FOLDER_OF_RUNS)


def _prepare(job: Job, name: str) -> Plan:
    source, group = _source(job), _group(job)
    _fit(job, _next_submission(_expected(job, name)), source)
    known = name and os.path.exists(folder(job.runs, name).manifest)
    run = make_folder(job.runs, job.spec.name, name)
    submission = _claim_submission(run)
    try:
        if group is not None:
            for each in (run.path, run.checkpoints):
                files.share(each, group)
        fitted = _fit(job, submission, source)
        write(fitted, render.script(fitted), _copy(source, submission) if source else None)
    except BaseException:
        shutil.rmtree(submission.path if known else run.path, ignore_errors=True)
        raise
    return fitted


def _copy(source: snapshot.Source, submission: SubmissionFolder) -> CodeOrigin:
    """Copy the code for a submission, with the checkpoints in the copy of the one before; return where it is from."""
    former = [each for each in submission.run.submissions if each.number < submission.number]
    continued: tuple[Path, ...] = ()
    with files.explained("copy the code", submission.code):
        snapshot.copy(source, Path(submission.code))
        if former:
            continued = snapshot.link_checkpoints(source, Path(former[-1].code), Path(submission.code))
    return CodeOrigin(
        root=str(source.root),
        commit=source.commit,
        dirty=source.dirty,
        files=len(source.files),
        size=source.size,
        checkpoints=tuple(map(str, source.checkpoints)),
        continued=tuple(map(str, continued)),
    )


def remove_unused(submission: SubmissionFolder) -> None:
    """Remove the files of a submission that Slurm refused; all of a run that has no other job and has written nothing.

    Of several jobs of one submission Slurm may have refused the last ones only: then nothing is removed.
    """
    run, jobs = submission.run, job_chain.read(submission.run)
    used = any(os.scandir(run.checkpoints)) or any(os.scandir(run.logs))
    if not jobs and not used and not os.path.exists(run.status):
        shutil.rmtree(run.path)
    elif submission.number not in {each.submission for each in jobs}:
        shutil.rmtree(submission.path)


def _expected(job: Job, name: str) -> RunFolder:
    """Return the folder that `make_folder` would make now."""
    return folder(job.runs, name) if name else _free(job.runs, job.spec.name)


def _source(job: Job) -> snapshot.Source | None:
    """Return the code to copy, None where the program is not copied. Raises ConfigError or RunError."""
    _check_folder(job)
    chdir = plan.source_folder(job)
    # on this machine the program runs where it is, unless that is the folder of a template; a service runs none
    if serve_plan.is_service(job) or not job.spec.snapshot or (job.site.scheduler == "local" and not job.runs_template):
        return None
    return snapshot.find(Path(chdir), Path(job.runs), alone=_is_packaged(job))


def _is_packaged(job: Job) -> bool:
    """Whether a job runs the program of a template that came with slurm-tf."""
    packaged = files.identity(str(search_path.packaged(search_path.JOBS)))
    return job.runs_template and files.identity(str(job.folder)) == packaged


def _check_folder(job: Job) -> None:
    """Raise ConfigError unless the working directory can be entered.

    slurmd would start the job in /tmp otherwise, after a message in its log.
    """
    chdir = plan.source_folder(job)
    if not os.path.isdir(chdir):
        raise ConfigError(f"there is no folder {chdir}", "the program's working directory", where=job.where("chdir"))
    if not os.access(chdir, os.X_OK):
        raise ConfigError(f"{chdir} cannot be entered", "a folder that you may enter", where=job.where("chdir"))


def _group(job: Job) -> int | None:
    """Return the id of the group that may read the run, None for none. Raises ConfigError."""
    if not job.spec.group:
        return None
    try:
        number = grp.getgrnam(job.spec.group).gr_gid
    except KeyError:
        number = None
    if number is None or (os.geteuid() != 0 and number not in (os.getegid(), *os.getgroups())):
        mine = ", ".join(sorted(_group_name(each) for each in {os.getegid(), *os.getgroups()}))
        raise ConfigError(f"found {job.spec.group!r}", f"a group that you are in: {mine}", where=job.where("group"))
    return number


def _group_name(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)


def _fit(job: Job, submission: SubmissionFolder, source: snapshot.Source | None) -> Plan:
    """Return the plan of a submission, in the copy of its code that is to come and without the run's bad nodes."""
    run = submission.run
    bad = bad_nodes.known(run)
    options = dict(job.spec.sbatch)
    if bad:
        options["exclude"] = hostlist.extend(str(options.get("exclude", "")), bad)
    if "dependency" in options:
        options["dependency"] = dependency.resolve(
            str(options["dependency"]), os.path.dirname(run.path), job.where("sbatch.dependency")
        )
    job = replace(job, spec=msgspec.structs.replace(job.spec, sbatch=options))
    chdir = str(Path(submission.code) / source.name / source.chdir) if source else ""
    return plan.fit(job, run, chdir, submission.number, nodes_of)


@functools.cache
def nodes_of(partition: str) -> PartitionNodes:
    """Return what Slurm says of a partition's nodes, asked once; nothing where there is none to ask."""
    try:
        return node_sizes.of_partition(partition)
    except SlurmError:
        return PartitionNodes()


def _next_submission(run: RunFolder) -> SubmissionFolder:
    """Return the folder that the next submission of `run` would have."""
    return run.submission(max((each.number for each in run.submissions), default=0) + 1)


def _claim_submission(run: RunFolder) -> SubmissionFolder:
    """Make the folder of the next submission of `run`, and return it."""
    while True:
        submission = _next_submission(run)
        try:
            os.mkdir(submission.path, 0o700)
        except FileExistsError:  # another process was faster
            continue
        return submission


def write(fitted: Plan, script: str, code: CodeOrigin | None = None) -> None:
    """Write the folder of the plan's submission: its script with all that it needs, and the manifest."""
    run, submission = fitted.run, fitted.submission
    files.own_folder(submission.path)
    files.write_whole(submission.launcher, packed_modules.launcher())
    files.write_whole(submission.train_library, packed_modules.train_library())
    files.write_whole(submission.setup_checks, setup_checks.SHELL.encode())
    write_settings(submission, fitted.settings)
    if fitted.settings.serve:
        service_files.make(run)
    files.write_whole(submission.script, script.encode())
    origin = _manifest(fitted, code)
    for path in (submission.manifest, run.manifest):
        manifest.write(path, origin)


def write_preflight(fitted: Plan) -> None:
    """Write the script of a preflight alone beside the submission's own."""
    files.write_whole(fitted.submission.preflight_script, render.script(fitted, preflight=True).encode())


def _next(runs: str, job_name: str) -> RunFolder:
    while True:
        run = _free(runs, job_name)
        os.makedirs(os.path.dirname(run.path), exist_ok=True)
        try:
            os.mkdir(run.path, 0o700)
        except FileExistsError:  # another process was faster
            continue
        return run


def _free(runs: str, job_name: str) -> RunFolder:
    """Return the folder with the job's next free number."""
    slug = _slug(job_name)
    numbered = re.compile(rf"{re.escape(slug)}-(\d{{1,9}})")
    taken = os.listdir(runs) if os.path.isdir(runs) else []
    number = max((int(match[1]) for match in map(numbered.fullmatch, taken) if match), default=0)
    return folder(runs, f"{slug}-{number + 1}")


def _slug(job_name: str) -> str:
    """Return a job's name as the first part of a run's: safe in a path, on a terminal and in a pattern."""
    slug = re.sub(r"[^A-Za-z0-9._+-]+", "_", job_name).strip("._-")
    return slug[:_LONGEST_NAME] or "run"


def _check_same_job(run: RunFolder, job_name: str) -> None:
    if not os.path.exists(run.manifest):
        if any(os.scandir(run.path)):
            raise RunError(f"{run.path} holds files, but no run", "a run of slurm-tf, or an empty folder")
        return
    name = manifest.read(run.manifest).job_name
    if name != job_name:
        raise RunError(f"run {run.name} is of job {name!r}", f"a run of job {job_name!r}", "use another --name")


def _manifest(fitted: Plan, code: CodeOrigin | None) -> Manifest:
    """Return where the submission comes from; values of [env] stay out of it, as they may be secrets."""
    spec = msgspec.to_builtins(fitted.job.spec)
    return Manifest(
        run=fitted.run.name,
        written=datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        job_file=files.absolute(str(fitted.job.path)),
        job={**spec, "env": sorted(spec["env"])},
        site=fitted.job.site_name,
        array=_array_shape(fitted),
        params=dict(fitted.params),
        cpus=_total(each.amounts.cpus for each in fitted.components),
        gpus=_total(each.amounts.gpus for each in fitted.components),
        template=fitted.job.template,
        code=code,
        nodes=nodes_needed.words(fitted.layout),
        versions={
            "slurm-tf": __version__,
            "python": platform.python_version(),
            "tensorflow": _tensorflow_version(),
            "slurm": "" if fitted.settings.local else client.version(),
        },
    )


def _total(amounts: Iterable[int | None]) -> int | None:
    """Return the sum, None if one of the amounts is unknown."""
    known = list(amounts)
    return None if None in known else sum(filter(None, known))


def _array_shape(fitted: Plan) -> ArrayShape | None:
    if fitted.array is None:
        return None
    points = {str(index): dict(values) for index, values in fitted.array.points.items()}
    return ArrayShape(fitted.array.limit, fitted.one_job, points)


def _tensorflow_version() -> str:
    """Return the version of the TensorFlow beside slurm-tf, without importing it; "" if there is none."""
    for name in ("tensorflow", "tensorflow-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""
