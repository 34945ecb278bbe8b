"""The verbs of data: what a prepared data set is, whether it is whole, its statistics, and how they differ."""

import dataclasses
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from slurm_tf.cli import options, prepare_extra
from slurm_tf.errors import UsageError

if TYPE_CHECKING:
    from slurm_tf.dataset.dataset_manifest import Manifest

_FOLDER = click.argument("folder", metavar="FOLDER", type=options.ExpandedPath())
_HTML = click.option(
    "--html", metavar="FILE", type=options.ExpandedPath(dir_okay=False), help="Write an HTML page with plots."
)


@click.group()
def data() -> None:
    """Show, verify or compare prepared data sets."""


@data.command()
@_FOLDER
@options.JSON
def show(folder: Path, as_json: bool) -> None:
    """Show the manifest of the data set in FOLDER: its splits, its features, what it was made from."""
    manifest = _read(folder)
    if as_json:
        click.echo(json.dumps({**dataclasses.asdict(manifest), "statistics": None}, indent=2))
        return
    from slurm_tf.cli import data_tables

    click.echo(data_tables.manifest(str(folder), manifest), nl=False)


@data.command()
@_FOLDER
@click.option("--quick", is_flag=True, help="Look at names and sizes alone, and read no file.")
@options.JSON
def verify(folder: Path, quick: bool, as_json: bool) -> None:
    """Compare each file of the data set in FOLDER with the manifest: size, checksums, index, rows, digest.

    The exit code is 1 if anything is damaged. What is damaged is named, with the record where that can be told.
    """
    prepare_extra.check()
    from slurm_tf.cli import data_tables
    from slurm_tf.prepare import verification

    manifest = _read(folder)
    found = list(verification.damages(str(folder), manifest, quick))
    if as_json:
        values = {"whole": not found, "quick": quick, "damages": [dataclasses.asdict(each) for each in found]}
        click.echo(json.dumps(values, indent=2))
    else:
        click.echo(data_tables.damages(str(folder), manifest, found, quick), nl=False)
    sys.exit(1 if found else 0)


@data.command()
@_FOLDER
@click.option("--split", "splits", multiple=True, metavar="NAME", help="Of this split alone; may be repeated.")
@_HTML
@options.JSON
def stats(folder: Path, splits: tuple[str, ...], html: Path | None, as_json: bool) -> None:
    """Show the statistics of the data set in FOLDER by split: ranges, missing values, the most frequent ones.

    They are those of the manifest; no row is read. Of bytes, ranges and means are those of their lengths.
    """
    manifest = _read(folder)
    names = [manifest.split(name).name for name in splits] or [split.name for split in manifest.splits]
    samples = [(name, manifest.statistics[name]) for name in names]
    if html:
        from slurm_tf.prepare import data_page

        data_page.write_statistics(html, str(folder), manifest.schema, samples)
        click.echo(f"slurm-tf: wrote {html}", err=True)
    if as_json:
        click.echo(json.dumps({name: [dataclasses.asdict(each) for each in sample] for name, sample in samples}))
    elif not html:
        from slurm_tf.cli import data_tables

        click.echo(data_tables.statistics(samples), nl=False)


@data.command()
@_FOLDER
@click.argument("earlier", metavar="[EARLIER]", required=False, type=options.ExpandedPath())
@click.option("--key", multiple=True, metavar="FEATURE", help="The key of a row; default: that of the split.")
@click.option("--quick", is_flag=True, help="Compare statistics alone, and read no rows to find keys in two splits.")
@_HTML
@options.JSON
def compare(
    folder: Path, earlier: Path | None, key: tuple[str, ...], quick: bool, html: Path | None, as_json: bool
) -> None:  # fmt: skip
    """Compare the splits of the data set in FOLDER, or the data set with an EARLIER version of it.

    Splits: how each differs from the first one, and which keys are in two of them. Versions: how each split drifted.
    Categories are compared by L-infinity, which differs above 0.05, numbers by PSI, which differs above 0.1; both
    limits are raised by what chance explains.
    """
    prepare_extra.check()
    from slurm_tf.cli import data_tables
    from slurm_tf.prepare import data_comparison

    if earlier and (key or quick):
        raise UsageError("found --key or --quick", "neither beside an EARLIER version, of which no rows are read")
    manifest = _read(folder)
    if earlier:
        found = data_comparison.of_versions(_read(earlier), manifest)
    else:
        found = data_comparison.of_splits(str(folder), manifest, key, quick)
    if html:
        from slurm_tf.prepare import data_page

        data_page.write_comparison(html, str(folder), manifest.schema, found)
        click.echo(f"slurm-tf: wrote {html}", err=True)
    if as_json:
        click.echo(json.dumps(data_tables.comparison_as_dict(found), indent=2))
    elif not html:
        click.echo(data_tables.comparison(found), nl=False)


def _read(folder: Path) -> "Manifest":
    from slurm_tf.dataset import dataset_manifest

    return dataset_manifest.read(str(folder))
