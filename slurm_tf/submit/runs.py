"""A run's folder: named, made, filled with all that its job needs, so that later edits change nothing of it."""

import datetime
import importlib.util
import io
import json
import marshal
import os
import platform
import re
import struct
import zipfile
from importlib import metadata
from pathlib import Path

import msgspec

from slurm_tf import __version__, contract, files
from slurm_tf.errors import RunError, UsageError
from slurm_tf.spec import plan
from slurm_tf.spec.config import Job
from slurm_tf.spec.plan import Plan
from slurm_tf.submit import render

# All that runs inside the job before the user's program does; one file to open on a slow file system.
LAUNCHER_FILES = (
    "__init__.py",
    "contract.py",
    "errors.py",
    "files.py",
    "units.py",
    "scheduler/__init__.py",
    "scheduler/hostlist.py",
    "launch/*.py",
)
_PACKAGE = Path(__file__).resolve().parent.parent
_EPOCH = (1980, 1, 1, 0, 0, 0)  # the first time that a zip file can hold
_LONGEST_NAME = 200


def folder(runs: str, name: str) -> contract.RunFolder:
    """Return the folder of run `name` under `runs`, which may hold ~ and variables. Raises UsageError."""
    if not name or name.startswith((".", "-")) or "/" in name or not name.isprintable() or len(name.encode()) > 255:
        raise UsageError(f"found the run name {name!r}", "a name for a folder: no /, no leading . or -")
    path = Path(os.path.expandvars(runs)).expanduser().absolute() / name
    return contract.RunFolder(str(path))


def claim(runs: str, job_name: str, name: str = "") -> contract.RunFolder:
    """Make, or find again, the folder of a run: `name`, else the job's name with the next free number.

    Raises RunError for a folder that somebody else could write or that another job's run has.
    """
    if name:
        run = folder(runs, name)
        files.own_folder(run.path)
        _check_same_job(run, job_name)
    else:
        run = _next(runs, job_name)
    for each in (run.logs, run.checkpoints, run.exports):
        files.own_folder(each)
    return run


def prepare(job: Job, name: str) -> Plan:
    """Make the folder of a run of `job` with all that is needed to start it; nothing is made for an impossible job."""
    plan.fit(job, folder(job.runs, name or first_name(job.spec.name)))
    fitted = plan.fit(job, claim(job.runs, job.spec.name, name))
    write(fitted, render.script(fitted))
    return fitted


def first_name(job_name: str) -> str:
    """Return the name that the first run of a job gets."""
    return f"{_slug(job_name)}-1"


def write(fitted: Plan, script: str) -> None:
    """Write the script, the launcher, its settings and the manifest into the plan's run folder."""
    run = fitted.run
    files.write_whole(run.launcher, launcher_zip())
    files.write_whole(run.settings, fitted.settings.to_json().encode())
    files.write_whole(run.script, script.encode())
    files.write_whole(run.manifest, json.dumps(_manifest(fitted), indent=1, ensure_ascii=False).encode() + b"\n")


def launcher_zip() -> bytes:
    """Return launch.pyz: the same bytes for the same sources and Python.

    Each module is there as source, for any Python from 3.9, and compiled for this one (a hash-based .pyc that is not
    checked): 30 ms less at the start of every agent whose Python is the same.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        _add(archive, "__main__.py", b"from slurm_tf.launch.__main__ import main\n\nmain()\n")
        for pattern in LAUNCHER_FILES:
            for path in sorted(_PACKAGE.glob(pattern)):
                name = f"slurm_tf/{path.relative_to(_PACKAGE).as_posix()}"
                _add(archive, name, path.read_bytes())
                _add(archive, f"{name}c", _compiled(path.read_bytes(), name))
    return buffer.getvalue()


def _next(runs: str, job_name: str) -> contract.RunFolder:
    root = Path(folder(runs, "x").path).parent
    root.mkdir(parents=True, exist_ok=True)
    slug = _slug(job_name)
    numbered = re.compile(rf"{re.escape(slug)}-(\d{{1,9}})")
    number = max((int(match[1]) for match in map(numbered.fullmatch, os.listdir(root)) if match), default=0)
    while True:
        number += 1
        run = folder(runs, f"{slug}-{number}")
        try:
            os.mkdir(run.path, 0o700)
        except FileExistsError:  # somebody was faster
            continue
        return run


def _slug(job_name: str) -> str:
    """Return the part of a run's name that comes from the job's: safe in a path, on a terminal and in a pattern."""
    slug = re.sub(r"[^A-Za-z0-9._+-]+", "_", job_name).strip("._-")
    return slug[:_LONGEST_NAME] or "run"


def _check_same_job(run: contract.RunFolder, job_name: str) -> None:
    manifest = Path(run.manifest)
    if not manifest.exists():
        if any(os.scandir(run.path)):
            raise RunError(f"{run.path} holds files, but no run", "a run of slurm-tf, or an empty folder")
        return
    name = json.loads(manifest.read_bytes())["job"]["name"]
    if name != job_name:
        raise RunError(f"run {run.name} is of job {name!r}", f"a run of job {job_name!r}", "use another --name")


def _manifest(fitted: Plan) -> dict[str, object]:
    """Return where the run comes from; values of [env] stay out of it, as they may be secrets."""
    spec = msgspec.to_builtins(fitted.job.spec)
    return {
        "contract": contract.VERSION,
        "run": fitted.run.name,
        "written": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "job_file": str(fitted.job.path.absolute()),
        "job": {**spec, "env": sorted(spec["env"])},
        "site": fitted.job.site_name,
        "versions": {
            "slurm-tf": __version__,
            "python": platform.python_version(),
            "tensorflow": _tensorflow_version(),
        },
    }


def _tensorflow_version() -> str:
    """Return the version of the TensorFlow beside slurm-tf, without importing it; "" if there is none."""
    for name in ("tensorflow", "tensorflow-cpu"):
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return ""


def _add(archive: zipfile.ZipFile, name: str, data: bytes) -> None:
    info = zipfile.ZipInfo(name, _EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    archive.writestr(info, data)


def _compiled(source: bytes, name: str) -> bytes:
    """Return a .pyc as PEP 552 describes it, with flags 0b01: hash-based, not to be checked."""
    code = compile(source, name, "exec", dont_inherit=True)
    return importlib.util.MAGIC_NUMBER + struct.pack("<I", 1) + importlib.util.source_hash(source) + marshal.dumps(code)
