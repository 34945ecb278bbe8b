"""The verb predict, which runs a model on every row of many files: as a job array, or on this machine."""

import csv
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

import click

from slurm_tf.cli import options, run_command, submit_commands, watch_commands
from slurm_tf.cli.options import STDERR
from slurm_tf.cli.terminal import short_path
from slurm_tf.errors import DatasetError, UsageError


@click.command(
    cls=options.SbatchCommand, context_settings=submit_commands.SETTINGS, options_metavar="[OPTIONS] [SBATCH OPTIONS]"
)
@click.argument("words", nargs=-1, type=click.UNPROCESSED, metavar="MODEL", required=True)
@click.option(
    "--input", "inputs", metavar="GLOB", required=True, help="The files: TFRecord, CSV, JSON lines, Parquet or images."
)
@click.option(
    "--output", metavar="FOLDER", required=True, type=options.ExpandedPath(), help="A new folder for what is predicted."
)
@click.option("--shards", default=1, type=click.IntRange(1, 100_000), help="How many array tasks divide the rows.")
@click.option(
    "--version", "number", type=int, metavar="N", help="The model's version; default: the one that is served."
)
@click.option("--signature", default="", help="The signature to run; default: serving_default.")
@click.option("--batch", default=256, type=click.IntRange(1, 1 << 20), help="How many rows are computed at once.")
@click.option(
    "--output-format", default="jsonl", type=click.Choice(["jsonl", "csv", "parquet", "tfrecord"]),
    help="What is written: JSON lines, CSV, Parquet or tf.train.Examples; default: jsonl.",
)  # fmt: skip
@click.option("--keep", default="", metavar="COLUMN,...", help="Columns of the input that are written as well.")
@click.option(
    "--save-every", default=60, type=click.IntRange(1), metavar="SECONDS",
    help="A shard that is killed loses at most what it has computed in so many seconds; default: 60.",
)  # fmt: skip
@click.option("--max-errors", default=0, type=click.IntRange(0), help="How many rows of a shard may fail.")
@click.option("--python", default="python", help="The job's Python, with TensorFlow.")
@options.SITE
@options.NAME
@options.SET
@options.JSON
def predict(
    words: tuple[str, ...],
    arguments: tuple[str, ...],
    inputs: str,
    output: Path,
    shards: int,
    number: int | None,
    signature: str,
    batch: int,
    output_format: str,
    keep: str,
    save_every: int,
    max_errors: int,
    python: str,
    site: str,
    name: str,
    overrides: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run the model in the folder MODEL on every row of the files that GLOB names.

    The rows are divided into shards, each a task of a job array; with --site local they are computed here, one after
    the other. The output has a row for each row, in the order of the input; that of a shard appears whole or not at
    all, and manifest.json in FOLDER says that all are there. `slurm-tf resubmit RUN --failed` does what is missing: a
    shard that was killed goes on where it was.

    A row that fails has `error` in place of its prediction; with more than --max-errors the shard fails.
    """
    from slurm_tf.predict import batch_prediction
    from slurm_tf.predict.prediction_plan import OutputFormat

    model, *asked_of_sbatch = words
    if arguments or model.startswith("-"):
        raise UsageError(
            f"found {' '.join(arguments or (model,))}", "slurm-tf predict MODEL --input GLOB --output FOLDER"
        )
    folder = os.path.abspath(output)
    request = batch_prediction.Request(
        os.path.abspath(os.path.expanduser(model)), number, signature, inputs, folder, shards, batch, max_errors,
        float(save_every), OutputFormat(output_format), _columns(keep),
    )  # fmt: skip
    plan = batch_prediction.prepare(request)
    job_name = f"predict-{os.path.basename(request.model)}"
    is_local = watch_commands.site_settings(site).site.scheduler == "local"
    path = batch_prediction.write_job(folder, plan, job_name, python, is_local)
    click.echo(f"{plan.rows} rows in {len(plan.shards)} shards: {short_path(plan.version)}", err=True)
    job, asked = submit_commands.load((path, *asked_of_sbatch), "", (), False, site, overrides)
    if not is_local:
        from slurm_tf.submit import new_run

        submit_commands.send(new_run.prepare(job, name), replace(asked, as_json=as_json))
        return
    run, code = run_command.run_here(job, name, STDERR)
    if code == 0:
        _print_done(folder, as_json)
    else:
        click.echo(f"slurm-tf: run {run.name} ended with exit code {code}; the same command goes on", err=True)
    sys.exit(code)


def _columns(text: str) -> tuple[str, ...]:
    """Return the names that are separated by commas; one with a comma is quoted as in CSV. Raises UsageError."""
    try:
        return tuple(next(csv.reader([text]), ()))
    except csv.Error as error:
        raise UsageError(f"--keep is {text!r} ({error})", "COLUMN,COLUMN", "quote a name as in CSV") from error


def _print_done(folder: str, as_json: bool) -> None:
    """Print what was predicted. Raises DatasetError."""
    from slurm_tf.predict import prediction_plan

    manifest = prediction_plan.read_manifest(folder)
    if manifest is None:
        raise DatasetError(f"there is no {prediction_plan.MANIFEST}", "all shards", where=folder)
    found = {"output": folder, "rows": manifest.rows, "errors": manifest.errors, "shards": len(manifest.shards)}
    text = f"{manifest.rows} rows, {manifest.errors} of them with an error, are in {short_path(folder)}"
    click.echo(json.dumps(found, indent=2) if as_json else text)
