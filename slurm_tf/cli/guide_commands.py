"""The verbs for what comes with slurm-tf to read and to try: docs, examples."""

import os
import shutil
from pathlib import Path

import click

from slurm_tf import files, search_path
from slurm_tf.errors import UsageError


@click.command()
@click.argument("page", default="")
def docs(page: str) -> None:
    """Print PAGE of the documentation, such as "submit"; without PAGE the list of pages."""
    pages = {path.stem: path for path in sorted(search_path.packaged("docs").glob("*.md"))}
    if not page:
        width = max(map(len, pages))
        for name, path in pages.items():
            click.echo(f"{name:{width}}  {path.read_text(encoding='utf-8').partition(chr(10))[0].lstrip('# ')}")
        return
    known = pages.get(page.removesuffix(".md"))
    if known is None:
        raise UsageError(f"no page {page!r}", f"one of {', '.join(pages)}")
    click.echo_via_pager(known.read_text(encoding="utf-8"))


@click.command()
@click.argument("folder", default="jobs")
def examples(folder: str) -> None:
    """Copy ready job files and the programs that they run into FOLDER (default: jobs)."""
    ready = sorted(path for path in search_path.packaged("jobs").iterdir() if path.suffix in (".toml", ".py"))
    there = [path.name for path in ready if os.path.lexists(os.path.join(folder, path.name))]
    if there:
        raise UsageError(f"{folder} has {', '.join(there)}", "a folder without files of these names")
    with files.explained("copy the examples", folder):
        os.makedirs(folder, exist_ok=True)
        for path in ready:
            shutil.copyfile(path, Path(folder, path.name))
    for path in ready:
        click.echo(os.path.join(folder, path.name))
