"""The verb images: lists the container images of a site, and has its runtime build one."""

import dataclasses
import json
import os
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import options, terminal
from slurm_tf.errors import UsageError

if TYPE_CHECKING:
    from slurm_tf.images.image_build import Builder

_HEADS = ("IMAGE", "KIND", "SIZE", "CHANGED", "PYTHON", "TENSORFLOW")
# Words of --kind, and the kinds of image.
_KINDS = {"folder": "FOLDER", "squashfs": "SQUASHFS", "sif": "SIF"}


@click.group()
def images() -> None:
    """List or build container images, which the `image` of a job file names."""


@images.command(name="list")
@options.SITE
@options.JSON
def list_images(site: str, as_json: bool) -> None:
    """List the images of the site, with the Python and TensorFlow that a look into a folder tells. None is run."""
    from slurm_tf import files
    from slurm_tf.images import image_list

    builder = _builder(site)
    with files.explained("list the images", builder.folder):
        found = image_list.images(builder.folder)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(each) for each in found], indent=2))
        return
    from slurm_tf.cli import tables, text_table
    from slurm_tf.watch import status_rows

    has_problems = any(each.problem for each in found)
    cells = [
        [
            each.name,
            each.kind or "-",
            "-" if each.size is None else tables.size_text(each.size),
            "-" if each.changed is None else status_rows.age_text(each.changed),
            each.python or "-",
            each.tensorflow or "-",
            *([each.problem or "-"] if has_problems else []),
        ]
        for each in found
    ]
    heads = [*_HEADS, *(["WHY"] if has_problems else [])]
    click.echo(text_table.table(heads, cells, ("CHANGED", "PYTHON"), "--json has all", names=("IMAGE",)), nl=False)
    terminal.print_next_commands(("images build NAME DEFINITION-FILE", "make another one"))


@images.command(cls=options.JobCommand)
@click.argument("name")
@click.argument("source", metavar="FILE|ADDRESS")
@click.option("--kind", type=click.Choice(list(_KINDS)), help="What to make; default: the runtime's own.")
@click.option("--replace", is_flag=True, help="Take the place of an image of this name, also from jobs that run in it.")
@options.SITE
@options.JSON
def build(
    name: str, source: str, arguments: tuple[str, ...], kind: str | None, replace: bool, site: str, as_json: bool
) -> None:  # fmt: skip
    """Make image NAME from a definition FILE, or from an ADDRESS such as docker://tensorflow/tensorflow:2.18.0.

    The site's runtime does it, on this machine, with ARGUMENTS for its own command. Nobody sees half of an image.
    The exit code is the runtime's if it fails. Passwords of a registry are the runtime's business; none is typed here.
    """
    from slurm_tf.images import image_build
    from slurm_tf.run.image_kind import ImageKind

    order = image_build.Order(name, source, ImageKind[_KINDS[kind]] if kind else None, arguments, replace)
    path = image_build.build(_builder(site), order, lambda text: click.echo(terminal.printable(text), err=True))
    click.echo(json.dumps({"image": path}, indent=2) if as_json else path)


def _builder(name: str) -> "Builder":
    """Return what makes the images of a site. Raises UsageError or ConfigError."""
    from slurm_tf import files
    from slurm_tf.images import image_build
    from slurm_tf.jobspec import container_runtimes, user_settings
    from slurm_tf.run.container_settings import Runtime

    settings = user_settings.read(os.environ, name)
    if settings.unusable:
        raise settings.unusable
    container = settings.site.container
    for key in ("runtime", "images"):
        if not getattr(container, key):
            found = f"site {settings.site_name} has no {key} in [container]"
            raise UsageError(found, "it in the site's profile", "slurm-tf docs containers says how")
    runtime = Runtime(container.runtime)
    folder = files.absolute(user_settings.expand(container.images, f"site {settings.site_name}: container.images"))
    program = (container.command or container_runtimes.PROGRAMS[runtime] or ("",))[0]
    return image_build.Builder(runtime, program, container.modules, folder)
