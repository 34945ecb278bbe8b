"""The verbs of serve that choose versions, in serving.json, at which replicas look."""

import json
import os
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import click

from slurm_tf.cli import options
from slurm_tf.cli.serve_argument import SERVICE, find
from slurm_tf.errors import UsageError
from slurm_tf.models import model_versions, serving_file
from slurm_tf.models.serving_file import Canary, Serving

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
    model_versions.find(base, version)
    # the one that was tried with a part of the requests now gets all of them
    _change(base, as_json, lambda serving: replace(serving, promoted=version, canary=_other(serving, version)))


@click.command()
@SERVICE
@_MODEL
@options.JSON
def rollback(service: str, model: str, as_json: bool) -> None:
    """Have the version before the present one answer requests that name no version."""
    base = _base(service, model)
    numbers = [each.number for each in model_versions.versions(base)]
    present = serving_file.read(base).default(numbers)
    before = max((number for number in numbers if present is not None and number < present), default=None)
    if before is None:
        found = "no version answers" if present is None else f"version {present} answers, and there is none before it"
        raise UsageError(found, "a version before it", f"there are {', '.join(map(str, numbers)) or 'no versions'}")
    _change(base, as_json, lambda serving: replace(serving, promoted=before, canary=None))


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
    if percent:
        model_versions.find(base, version)
    _change(base, as_json, lambda serving: replace(serving, canary=Canary(version, percent) if percent else None))


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
    if text:
        model_versions.find(base, int(text))

    def named(serving: Serving) -> Serving:
        others = {each: number for each, number in serving.labels.items() if each != name}
        return replace(serving, labels={**others, name: int(text)} if text else others)

    _change(base, as_json, named)


def _other(serving: Serving, version: int) -> Canary | None:
    return None if serving.canary and serving.canary.version == version else serving.canary


def _base(service: str, model: str) -> str:
    """Return the folder of the model that was typed: a path, or a model of a service."""
    if os.sep in service and os.path.isdir(service) and any(model_versions.numbered(service)):
        return os.path.abspath(service)
    found = find(service)
    return found.base(model or (service if service in found.settings.models else ""))


def _change(base: str, as_json: bool, changed: Callable[[Serving], Serving]) -> None:
    """Write serving.json anew, and say what it says."""
    model_versions.check_own(base)
    serving = changed(serving_file.read(base))
    serving_file.write(base, serving)
    if as_json:
        values: dict[str, Any] = asdict(serving)
        click.echo(json.dumps({"base": base, **values}, indent=2))
        return
    numbers = [each.number for each in model_versions.versions(base)]
    click.echo(f"{base}: {words(serving, serving.default(numbers))}")


def words(serving: Serving, default: int | None) -> str:
    """Return which versions answer, in words."""
    parts = [f"version {default} answers" if default is not None else "no version answers"]
    parts += [f"{serving.canary.percent:g}% of the requests go to {serving.canary.version}"] if serving.canary else []
    parts += [f"{name} is {number}" for name, number in sorted(serving.labels.items())]
    return ", ".join(parts)
