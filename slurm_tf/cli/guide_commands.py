"""The verbs for what comes with slurm-tf to read and to try: docs, examples."""

import difflib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import click

from slurm_tf import files, search_path
from slurm_tf.cli import completion, options
from slurm_tf.errors import UsageError


@click.command()
@click.argument("page", default="", shell_complete=completion.pages)
@options.JSON
def docs(page: str, as_json: bool) -> None:
    """Print PAGE of the documentation, such as "submit"; without PAGE the list of pages."""
    pages = {path.stem: path for path in sorted(search_path.packaged("docs").glob("*.md"))}
    if not page:
        _print_pages(pages, as_json)
        return
    known = pages.get(page.removesuffix(".md"))
    if known is None:
        near = difflib.get_close_matches(page, pages, n=1)
        hint = f"did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"no page {page!r}", f"one of {', '.join(pages)}", hint)
    text = known.read_text(encoding="utf-8")
    if as_json:
        click.echo(json.dumps({"page": known.stem, "title": _title(known), "text": text}, indent=2))
    else:
        click.echo_via_pager(text)


def _print_pages(pages: Mapping[str, Path], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([{"page": name, "title": _title(path)} for name, path in pages.items()], indent=2))
        return
    width = max(map(len, pages))
    for name, path in pages.items():
        click.echo(f"{name:{width}}  {_title(path)}")


def _title(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


@click.command()
@click.argument("folder", default="jobs")
@options.JSON
def examples(folder: str, as_json: bool) -> None:
    """Copy ready job files and the programs that they run into FOLDER (default: jobs)."""
    ready = sorted(path for path in search_path.packaged("jobs").iterdir() if path.suffix in (".toml", ".py"))
    there = [path.name for path in ready if os.path.lexists(os.path.join(folder, path.name))]
    if there:
        raise UsageError(f"{folder} has {', '.join(there)}", "a folder without files of these names")
    with files.explained("copy the examples", folder):
        os.makedirs(folder, exist_ok=True)
        for path in ready:
            shutil.copyfile(path, Path(folder, path.name))
    copied = [os.path.join(folder, path.name) for path in ready]
    click.echo(json.dumps(copied, indent=2) if as_json else "\n".join(copied))
