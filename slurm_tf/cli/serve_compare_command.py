"""The verb serve compare: two versions of a model, by the requests that replicas have logged."""

import json
from dataclasses import asdict

import click

from slurm_tf.cli import options
from slurm_tf.cli.serve_argument import SERVICE, find
from slurm_tf.errors import UsageError

_HEADS = ("VERSION", "REQUESTS", "ERRORS", "P50 MS", "P90 MS", "P99 MS")


@click.command()
@SERVICE
@click.argument("first", type=click.IntRange(min=0))
@click.argument("second", type=click.IntRange(min=0))
@click.option("--model", default="", metavar="NAME", help="Which model, where SERVICE serves several.")
@options.JSON
def compare(service: str, first: int, second: int, model: str, as_json: bool) -> None:
    """Compare the versions FIRST and SECOND by the requests that each has answered: latency, errors, outputs.

    Of a sample of requests inputs and outputs are logged. How many outputs agree is known where both versions got the
    same input.
    """
    from slurm_tf.watch import request_comparison

    found = find(service)
    name = model or (service if service in found.settings.models else next(iter(found.settings.models)))
    found.base(name)
    if first == second:
        raise UsageError(f"found version {first} twice", "two versions")
    compared = request_comparison.of_versions(found.run.requests, name, first, second)
    if as_json:
        click.echo(json.dumps(asdict(compared), indent=2))
        return
    from slurm_tf.cli import text_table

    rows = [
        [str(each.version), str(each.requests), str(each.errors), *map(_milliseconds, (each.p50, each.p90, each.p99))]
        for each in (compared.first, compared.second)
    ]
    click.echo(text_table.table(_HEADS, rows, right=_HEADS), nl=False)
    click.echo(_agreement(compared.same_input, compared.same_output))


def _milliseconds(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _agreement(same_input: int, same_output: int) -> str:
    if not same_input:
        return "Agreement of outputs: unknown, as no input was logged of both"
    return f"Agreement of outputs: {same_output} of {same_input} inputs that were logged of both"
