"""The verb prepare, which writes a data set from tables and files, as a recipe says."""

import json
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.shell_completion import CompletionItem

from slurm_tf.cli import completion, options, prepare_extra
from slurm_tf.cli.terminal import printable, short_path
from slurm_tf.errors import UsageError

if TYPE_CHECKING:
    from slurm_tf.prepare.preparation import Outline


def _files(_ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem[str]]:
    return completion.files_of_shell(incomplete)


@click.command()
@click.argument("paths", nargs=-1, required=True, metavar="FILE.toml", shell_complete=_files)
@click.option("--dry-run", is_flag=True, help="Show what would be done: sources, columns, features; no row is read.")
@click.option("--check", is_flag=True, help="Read and check all rows, and write no data set.")
@click.option("--resume", is_flag=True, help="Go on where an attempt was ended, if there was one.")
@click.option("--infer", is_flag=True, help="Print a first recipe for files and folders in the place of FILE.toml.")
@options.JSON
def prepare(
    paths: tuple[str, ...], dry_run: bool, check: bool, resume: bool, infer: bool, as_json: bool
) -> None:  # fmt: skip
    """Write a data set from tables and files, as the recipe in FILE.toml says.

    The sources are joined by SQL; words become numbers; a row's key decides in which split and shard it is. The data
    set is there when its manifest.json is. `slurm-tf docs data` has the keys of a recipe.
    """
    prepare_extra.check()
    if dry_run + check + resume + infer > 1:
        raise UsageError("found several of --dry-run, --check, --resume and --infer", "one of them")
    if infer:
        from slurm_tf.prepare import first_recipe

        text = first_recipe.text_of(paths)
        click.echo(json.dumps({"recipe": text}) if as_json else text, nl=as_json)
        return
    if len(paths) > 1:
        raise UsageError(f"found {len(paths)} recipes", "one")
    from slurm_tf.prepare import preparation, recipe_file, spark_cluster

    loaded = recipe_file.load(Path(paths[0]))
    if loaded.keys.engine == "spark" and (task := spark_cluster.task(os.environ)) and task.serves:
        sys.exit(spark_cluster.serve(task))
    if dry_run:
        outline = preparation.outline(loaded)
        click.echo(json.dumps(_values(outline), indent=2) if as_json else "\n".join(_lines(outline)))
    elif check:
        rows = preparation.check(loaded, _say)
        click.echo(json.dumps({"rows": dict(rows)}, indent=2) if as_json else _row_words(rows))
    else:
        manifest = preparation.prepare(loaded, resume, _say)
        rows = {split.name: split.rows for split in manifest.splits}
        found = {"folder": loaded.folder, "digest": manifest.digest, "recipe": manifest.recipe, "rows": rows}
        click.echo(json.dumps(found, indent=2) if as_json else f"{short_path(loaded.folder)}: {manifest.digest}")


def _say(text: str) -> None:
    click.echo(f"slurm-tf: {printable(text)}", err=True)


def _row_words(rows: Mapping[str, int]) -> str:
    return ", ".join(f"{split}: {count:,} rows" for split, count in rows.items())


def _values(outline: "Outline") -> dict[str, object]:
    """Return what a preparation would do, for JSON."""
    return {
        "folder": outline.recipe.folder,
        "recipe": outline.recipe.hash,
        "files": {name: list(each.paths) for name, each in outline.files.items()},
        "columns": dict(outline.columns),
        "unreproducible": list(outline.unreproducible),
        "shards": {split: outline.recipe.shards(split) for split in outline.recipe.splits},
    }


def _lines(outline: "Outline") -> Iterator[str]:
    """Yield what a preparation would do."""
    recipe = outline.recipe
    for name, source in recipe.keys.sources.items():
        files = outline.files.get(name)
        size = f", {sum(size for _, size, _ in files.signature):,} bytes in {len(files.paths)} files" if files else ""
        yield f"source {name}: {source.format}{size}"
    for feature in recipe.schema.features:
        column = outline.columns.get(feature.name, "a type that the Python function decides")
        shape = f" of shape {list(feature.shape)}" if feature.shape else ""
        note = ", not reproducible: not in the digest" if feature.name in outline.unreproducible else ""
        yield f"feature {printable(feature.name)}: {feature.kind.value}{shape} from {column}{note}"
    for split, share in recipe.keys.split.shares.items():
        shards = recipe.shards(split)
        yield f"split {split}: {share:g} of the rows by {', '.join(recipe.keys.split.key)}, {shards} shards"
    yield f"output: {printable(recipe.keys.output.folder)}, {recipe.form.value}"
