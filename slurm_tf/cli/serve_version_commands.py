"""The verbs of serve that choose versions, in serving.json, at which replicas look."""

import json
import os
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from slurm_tf.cli import options
from slurm_tf.cli.serve_argument import SERVICE, find
from slurm_tf.errors import UsageError
from slurm_tf.models import model_versions, served_versions

if TYPE_CHECKING:
    from slurm_tf.models.serving_file import Serving

_MODEL = click.option("--model", default="", metavar="NAME", help="Which model, where SERVICE serves several.")
_VERSION = click.argument("version", type=click.IntRange(min=0), metavar="VERSION")


@click.command()
@SERVICE
@_VERSION
@_MODEL
@options.JSON
def promote(service: str, version: int, model: str, as_json: bool) -> None:
    """Have VERSION answer requests that name no version, also when newer ones come.

    SERVICE may be the folder of a model as well.
    """
    base = _base(service, model)
    _print(base, served_versions.promote(base, version), as_json)


@click.command()
@SERVICE
@_MODEL
@options.JSON
def rollback(service: str, model: str, as_json: bool) -> None:
    """Have the version before the present one answer requests that name no version."""
    base = _base(service, model)
    _print(base, served_versions.rollback(base), as_json)


@click.command()
@SERVICE
@_VERSION
@click.option(
    "--percent",
    type=click.FloatRange(0, 100),
    required=True,
    help="Of the requests that name no version; 0: the version gets none any more.",
)
@_MODEL
@options.JSON
def canary(service: str, version: int, percent: float, model: str, as_json: bool) -> None:
    """Have VERSION answer a part of the requests that name no version."""
    base = _base(service, model)
    _print(base, served_versions.canary(base, version, percent), as_json)


@click.command()
@SERVICE
@click.argument("label", metavar="NAME=VERSION")
@_MODEL
@options.JSON
def label(service: str, label: str, model: str, as_json: bool) -> None:
    """Give a version a name, by which requests can ask for it; NAME= takes the name away."""
    name, equals, text = label.partition("=")
    if not (equals and name.isidentifier()) or (text and not text.isdecimal()):
        raise UsageError(f"found the label {label!r}", "NAME=VERSION, such as stable=3")
    base = _base(service, model)
    _print(base, served_versions.label(base, name, int(text) if text else None), as_json)


def _base(service: str, model: str) -> str:
    """Return the folder of the model that was typed: a path, or a model of a service."""
    if os.sep in service and os.path.isdir(service) and any(model_versions.numbered(service)):
        return os.path.abspath(service)
    found = find(service)
    return found.base(model or (service if service in found.settings.models else ""))


def _print(base: str, serving: "Serving", as_json: bool) -> None:
    """Print what serving.json says now."""
    if as_json:
        values: dict[str, Any] = asdict(serving)
        click.echo(json.dumps({"base": base, **values}, indent=2))
        return
    click.echo(f"{base}: {served_versions.words(base, serving)}")
