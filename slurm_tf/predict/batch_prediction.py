"""Prepares a batch prediction: finds the model and the rows, and writes the plan and the job file."""

import json
import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from slurm_tf import files
from slurm_tf.errors import ModelError, UsageError
from slurm_tf.models import model_versions, serving_file
from slurm_tf.models.model_versions import Version
from slurm_tf.predict import answers, input_columns, input_rows, prediction_plan
from slurm_tf.predict.prediction_plan import InputFormat, OutputFormat, Plan
from slurm_tf.run import placeholders

_DEFAULT_SIGNATURE = "serving_default"


@dataclass(frozen=True, slots=True)
class Request:
    """What to predict. `number`: of the model's version, None for the one that is served; `shards`: at most so many.

    `save_every`: in seconds, and `keep`: see Plan.
    """

    model: str
    number: int | None
    signature: str
    inputs: str
    output: str
    shards: int
    batch_size: int
    max_errors: int
    save_every: float
    output_format: OutputFormat
    keep: tuple[str, ...]


def prepare(request: Request) -> Plan:
    """Make the output folder with its plan, or accept one that has the same plan; return the plan.

    Raises ModelError, UsageError, DatasetError, RunError or StorageError.
    """
    version = _version(request)
    paths = input_rows.find(request.inputs)
    form = input_rows.format_of(paths)
    with files.explained("read the input"):
        _check_kept(request.keep, paths[0], form)
        found, shards = input_rows.divide(paths, form, request.shards, request.batch_size)
    signature = request.signature or _DEFAULT_SIGNATURE
    plan = Plan(
        version.path, signature, form, found, shards, request.batch_size, request.max_errors, request.save_every,
        request.output_format, request.keep,
    )  # fmt: skip
    with files.explained("make the output folder", request.output):
        files.own_folder(request.output)
        former = prediction_plan.read(request.output)
        if former is None and os.listdir(request.output):
            raise UsageError(f"{request.output} holds files, but no prediction", "a new or empty folder")
        if former and former != replace(plan, max_errors=former.max_errors, save_every=former.save_every):
            found_words = (
                f"{request.output} has another prediction: of another model, input, format or number of shards"
            )
            needed = "another folder, or the same words again; --max-errors and --save-every may be others"
            raise UsageError(found_words, needed)
        prediction_plan.write(request.output, plan)
    return plan


def write_job(folder: str, plan: Plan, name: str, python: str, local: bool) -> str:
    """Write the job file of a prediction: an array task for each shard; `local`: one job for all. Return its path."""
    shard = "all" if local else "{shard}"
    command = [python, "-m", "slurm_tf.predict.shard_process", placeholders.literal(folder), shard]
    sweep = {} if local else {"shard": list(range(len(plan.shards)))}
    path = os.path.join(folder, prediction_plan.JOB)
    text = "\n".join(
        [
            f"# {plan.rows} rows in {len(plan.shards)} shards: {shlex.quote(plan.version)}",
            f"name = {_toml(name)}",
            'strategy = "single"',
            f"command = {_toml(command)}",
            "snapshot = false",
            *_table("sweep", sweep),
            "",
            "[roles.worker]",
            "cpus-per-task = 2",
            'mem = "4G"',
            "",
        ]
    )
    with files.explained("write the job file", path):
        files.write_whole(path, text.encode())
    return path


def _table(name: str, values: Mapping[str, object]) -> list[str]:
    return ["", f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in values.items())] if values else []


def _toml(value: object) -> str:
    """Return text, or a list of text or numbers, as TOML writes it: as JSON, but for characters in two halves."""
    return json.dumps(value, ensure_ascii=False)


def _version(request: Request) -> Version:
    """Return the version to compute with. Raises ModelError."""
    with files.explained("read the model", request.model):
        if request.number is not None:
            version = model_versions.find(request.model, request.number)
        else:
            served = serving_file.served(request.model) if os.path.isdir(request.model) else None
            version = served or model_versions.find(request.model)
        model_versions.check_own(request.model, version.path)
    described = version.manifest
    signature = request.signature or _DEFAULT_SIGNATURE
    if described and signature not in described.signatures:
        known = ", ".join(described.signatures) or "none"
        raise ModelError(f"it has no signature {signature}", f"one of {known}", where=version.path)
    if described:
        answers.check_names(version.path, tuple(described.signatures[signature].outputs), request.keep)
    return version


def _check_kept(keep: Sequence[str], path: str, form: InputFormat) -> None:
    """Raise UsageError for columns that cannot be kept; DatasetError or OSError for a file that cannot be read."""
    columns = input_columns.columns(path, form) if keep else None
    for number, name in enumerate(keep):
        if name in ("", answers.ERROR) or name in keep[:number]:
            raise UsageError(f"--keep names {name!r}", f"columns, each once, and none of the name {answers.ERROR}")
        if columns is not None and name not in columns:
            raise UsageError(f"--keep names {name!r}", f"one of {', '.join(map(repr, columns))}, as {path} has them")
    input_columns.check_once(columns or (), keep, path)
