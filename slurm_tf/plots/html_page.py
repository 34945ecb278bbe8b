"""Writes HTML pages: each is one file, with its styles and plots in it, that loads nothing and runs no script."""

import os
from collections.abc import Mapping
from pathlib import Path

import jinja2

from slurm_tf import files
from slurm_tf.errors import UsageError


def write(path: Path, template: Path, values: Mapping[str, object]) -> None:
    """Write the page that `template` makes of `values`; it may extend base.html.j2 and import plot.html.j2.

    Raises UsageError.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([template.parent, Path(__file__).parent]), autoescape=True,
        undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    text = environment.get_template(template.name).render(values)
    try:
        files.write_whole(os.path.abspath(path), text.encode(errors="replace"), 0o644)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}", "a file that can be written") from error
