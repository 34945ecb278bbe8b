"""Prepares a data set from a recipe: a table of all rows, what is learned from them, the shards, and last the manifest.

All that is not part of the data set is in one folder inside it, which is removed at the end. An attempt that was ended
leaves it; the next one goes on from there.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import duckdb
import msgspec
import pyarrow as pa

from slurm_tf import __version__, files, units
from slurm_tf.dataset import dataset_manifest, format_json
from slurm_tf.dataset.dataset_manifest import Manifest
from slurm_tf.dataset.sidecar import ShardSummary
from slurm_tf.errors import ConfigError, DatasetError
from slurm_tf.prepare import (
    commit,
    engine,
    fetched_sources,
    learned,
    memory,
    output_folder,
    recipe_file,
    rows_table,
    shard_pool,
    shards,
    source_files,
    source_tables,
    spark_cluster,
    spark_rows,
)
from slurm_tf.prepare.form import Form
from slurm_tf.prepare.recipe_file import LoadedRecipe
from slurm_tf.prepare.shard_pool import ShardWork
from slurm_tf.prepare.shards import ShardFile
from slurm_tf.prepare.source_files import SourceFiles

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

Say: TypeAlias = Callable[[str], None]
# What is not part of the data set.
UNFINISHED = ".unfinished"
_PROGRESS, _ROWS, _LOCK, _SPILL = "progress.json", "rows.duckdb", "lock", "spill"


@dataclass(frozen=True)
class Progress:
    """That the table of rows is complete. `recipe`: its hash; `inputs`: the fingerprint of each source."""

    recipe: str
    inputs: Mapping[str, str]
    unreproducible: tuple[str, ...]
    rows: Mapping[str, int]


@dataclass(frozen=True)
class Outline:
    """What a preparation would do. `columns`: the types of those that it has in the end."""

    recipe: LoadedRecipe
    files: Mapping[str, SourceFiles]
    columns: Mapping[str, str]
    unreproducible: tuple[str, ...]


def outline(recipe: LoadedRecipe) -> Outline:
    """Return what a preparation would do, without a look at the rows. Raises ConfigError and DatasetError."""
    found = _checked_files(recipe)
    with tempfile.TemporaryDirectory(prefix="slurm-tf-prepare-") as folder:
        fetched = fetched_sources.empty(recipe, folder)
        rows, spill = os.path.join(folder, _ROWS), os.path.join(folder, _SPILL)
        with _tables(recipe, rows, spill, found, fetched, threads=1) as connection:
            unreproducible = rows_table.bind(connection, recipe)
            columns = {} if recipe.python is not None else rows_table.types(connection, recipe)
    return Outline(recipe, found, columns, unreproducible)


def check(recipe: LoadedRecipe, say: Say) -> Mapping[str, int]:
    """Do all that a preparation does but write the data set; return how many rows each split has."""
    scratch = recipe.data_path(recipe.keys.scratch) if recipe.keys.scratch else None
    with tempfile.TemporaryDirectory(prefix="slurm-tf-prepare-", dir=scratch) as folder:
        output = msgspec.structs.replace(recipe.keys.output, folder=folder)
        there = dataclasses.replace(recipe, keys=msgspec.structs.replace(recipe.keys, output=output))
        os.mkdir(os.path.join(folder, UNFINISHED), 0o700)
        with _spark(there) as spark:
            progress = _made_rows(there, _checked_files(there), say, spark)
            work = _work(there, progress, is_check=True)
            for _ in _written(work, work.files, spark):
                pass
    return progress.rows


def prepare(recipe: LoadedRecipe, resume: bool, say: Say) -> Manifest:
    """Write the data set of a recipe and return its manifest.

    `resume`: go on where an attempt was ended, if there was one. Raises DatasetError, ConfigError and StorageError.
    """
    if done := _committed(recipe, resume):
        say(f"{recipe.folder} is prepared already")
        return done
    is_new = not os.path.lexists(recipe.folder)
    _make_folder(recipe.folder, resume)
    with locked(recipe.folder), _removed_if(is_new, recipe.folder):
        sources = _checked_files(recipe)
        with _spark(recipe) as spark:
            progress = _earlier(recipe, sources) or _made_rows(recipe, sources, say, spark)
            work = _work(recipe, progress)
            manifest = _serialized(work, progress, say, spark)
        _remove_strangers(work)
        commit.commit(recipe.folder, manifest)
        shutil.rmtree(_spill(recipe), ignore_errors=True)
        shutil.rmtree(_unfinished(recipe))
    return manifest


@contextlib.contextmanager
def _removed_if(is_new: bool, folder: str) -> Iterator[None]:
    """Remove a new folder if the recipe or the rows are wrong: they are corrected, and nothing of it is of use."""
    try:
        yield
    except (ConfigError, DatasetError):
        if is_new:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _committed(recipe: LoadedRecipe, resume: bool) -> Manifest | None:
    """Return the manifest if the data set is there, of this recipe and these inputs. Raises DatasetError otherwise."""
    if not os.path.lexists(dataset_manifest.path(recipe.folder)):
        return None
    do = "prepare into another folder: a data set is not changed"
    if not resume:
        raise DatasetError("there is a data set", "a folder that is not there yet", do, recipe.folder)
    manifest = dataset_manifest.read(recipe.folder)
    if manifest.recipe != recipe.hash:
        raise DatasetError("there is a data set of another recipe", "a folder that is not there yet", do, recipe.folder)
    for name, value in _fingerprints(recipe, _checked_files(recipe)).items():
        if manifest.inputs.get(name) != value:
            raise DatasetError(
                f"there is a data set of another {name}", "a folder that is not there yet", do, recipe.folder
            )
    shutil.rmtree(_unfinished(recipe), ignore_errors=True)
    return manifest


def _make_folder(folder: str, resume: bool) -> None:
    """Make the folder of the data set, or take one that is empty or of an attempt that was ended."""
    output_folder.make(folder)
    with files.explained("read the folder of the data set", folder):
        names = os.listdir(folder)
        if names and UNFINISHED not in names:
            raise DatasetError(f"the folder has {sorted(names)[0]}", "one that is empty or not there yet", where=folder)
        if names and not resume:
            do = "--resume goes on with it; or remove the folder"
            raise DatasetError("there is an unfinished preparation", "a folder that is not there yet", do, folder)
        os.makedirs(os.path.join(folder, UNFINISHED), mode=0o700, exist_ok=True)


@contextlib.contextmanager
def locked(folder: str) -> Iterator[None]:
    """Hold the lock of a folder, so that one preparation writes to it. Raises DatasetError if another one does."""
    with open(os.path.join(folder, UNFINISHED, _LOCK), "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DatasetError(
                "another preparation writes there", "one at a time", "wait for its end", folder
            ) from error
        yield


def _checked_files(recipe: LoadedRecipe) -> dict[str, SourceFiles]:
    found = source_files.of_recipe(recipe)
    for name, each in found.items():
        source_files.check(name, recipe.keys.sources[name], each)
    return found


def _fingerprints(recipe: LoadedRecipe, sources: Mapping[str, SourceFiles]) -> dict[str, str]:
    """Return the fingerprints of sources that are files; those of databases are of the rows that were read."""
    return {
        name: source_files.fingerprint(
            source, sources[name], recipe.data_path(recipe_file.paths_of(source)[0]), _cpus(recipe)
        )
        for name, source in recipe.keys.sources.items()
        if source.format not in recipe_file.DATABASES
    }


def _earlier(recipe: LoadedRecipe, sources: Mapping[str, SourceFiles]) -> Progress | None:
    """Return what an attempt that was ended has done, if it was of this recipe and these files."""
    try:
        progress = format_json.read(os.path.join(_unfinished(recipe), _PROGRESS), Progress)
        learned.sums(recipe)
    except (FileNotFoundError, DatasetError):
        return None
    is_same = progress.recipe == recipe.hash and os.path.exists(_rows(recipe))
    return progress if is_same and _fingerprints(recipe, sources).items() <= progress.inputs.items() else None


def _made_rows(
    recipe: LoadedRecipe, sources: Mapping[str, SourceFiles], say: Say, spark: "SparkSession | None"
) -> Progress:
    """Make the table of rows and the assets."""
    for name in (_PROGRESS, _ROWS, f"{_ROWS}.wal"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(os.path.join(_unfinished(recipe), name))
    inputs = _fingerprints(recipe, sources)
    if spark is None:
        memory.check_files(recipe, sources, _mem(recipe))
    fetched = fetched_sources.fetch(recipe, sources, _unfinished(recipe), say)
    if spark is None:
        memory.check_fetched(recipe, fetched, _mem(recipe))
    say("reading the sources")

    def made(threads: int) -> Progress:
        return _made_table(recipe, sources, fetched, inputs, threads, say, spark)

    progress = memory.fitted(memory.threads(_mem(recipe), _cpus(recipe)), say, made)
    with files.explained("write the progress"):
        format_json.write(os.path.join(_unfinished(recipe), _PROGRESS), progress)
    return progress


def _made_table(
    recipe: LoadedRecipe,
    sources: Mapping[str, SourceFiles],
    fetched: Mapping[str, str],
    inputs: Mapping[str, str],
    threads: int,
    say: Say,
    spark: "SparkSession | None",
) -> Progress:
    """Make the table of rows and the assets. `inputs`: the fingerprints of sources that are files."""
    with _tables(recipe, _rows(recipe), _spill(recipe), sources, fetched, threads) as connection:
        source_tables.check_rows(connection, recipe)
        databases = {name for name in fetched if name not in inputs}
        inputs = {**inputs, **{name: fetched_sources.fingerprint(connection, name) for name in databases}}
        unreproducible = rows_table.bind(connection, recipe)
        rows_table.apply_python(connection, recipe)
        known = rows_table.types(connection, recipe)
        rows = {} if spark else rows_table.make(connection, recipe, known)
    if spark:
        spark_rows.make(spark, recipe, sources, fetched, known, _spark_rows(recipe))
    with engine.opened(_rows(recipe), _spill(recipe), _mem(recipe), threads) as connection:
        rows = spark_rows.take(connection, recipe, _spark_rows(recipe)) if spark else rows
        source_files.check_unchanged(dict(sources))
        say(", ".join(f"{split}: {count:,} rows" for split, count in rows.items()))
        learned.learn(connection, recipe, known)
    return Progress(recipe.hash, inputs, unreproducible, rows)


@contextlib.contextmanager
def _tables(
    recipe: LoadedRecipe,
    path: str,
    spill: str,
    sources: Mapping[str, SourceFiles],
    fetched: Mapping[str, str],
    threads: int,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Give a connection with a view of each source."""
    engine.make_spill_folder(spill)
    with engine.opened(path, spill, _mem(recipe), threads) as connection:
        os.chmod(path, 0o600)
        for name, source in recipe.keys.sources.items():
            if source.format == "parquet":
                source_tables.check_parquet(connection, source, sources[name])
        source_tables.make(connection, recipe, sources, fetched)
        yield connection


@contextlib.contextmanager
def _spark(recipe: LoadedRecipe) -> "Iterator[SparkSession | None]":
    """Give the session of Spark, None for another engine."""
    if recipe.keys.engine != "spark":
        yield None
        return
    engine.make_spill_folder(_spill(recipe))
    with spark_cluster.session(_mem(recipe), _cpus(recipe), _spill(recipe), spark_cluster.task(os.environ)) as spark:
        yield spark


def _work(recipe: LoadedRecipe, progress: Progress, is_check: bool = False) -> ShardWork:
    text = json.dumps([progress.recipe, sorted(progress.inputs.items())])
    return ShardWork(
        recipe, _rows(recipe), _spill(recipe), _mem(recipe), hashlib.sha256(text.encode()).hexdigest(),
        progress.unreproducible, is_check,
    )  # fmt: skip


def _written(work: ShardWork, wanted: Sequence[ShardFile], spark: "SparkSession | None") -> Iterator[ShardSummary]:
    """Write shards on all CPUs, and yield what each is."""
    return spark_rows.write(spark, work, wanted) if spark else shard_pool.write(work, wanted, _cpus(work.recipe))


def _serialized(work: ShardWork, progress: Progress, say: Say, spark: "SparkSession | None") -> Manifest:
    """Write the shards that are not there yet, and return the manifest of all."""
    recipe = work.recipe
    done = {file: summary for file in work.files if (summary := shards.written(file, work.hash))}
    if done:
        say(f"{len(done)} of {len(work.files)} shards are there")
    missing = [file for file in work.files if file not in done]
    summaries = list(done.values())
    for summary in _written(work, missing, spark) if missing else ():
        summaries.append(summary)
        say(f"{summary.name}: {summary.rows:,} rows, {len(summaries)} of {len(work.files)} shards")
    summaries.sort(key=lambda summary: recipe.splits.index(summary.split))
    versions = {
        "slurm-tf": __version__, "duckdb": duckdb.__version__, "pyarrow": pa.__version__,
        "python": platform.python_version(),
    }  # fmt: skip
    manifest = commit.manifest_of(
        summaries, recipe.form, recipe.schema, recipe.keys.split.key, progress.inputs, versions, learned.sums(recipe),
        work.unreproducible,
    )  # fmt: skip
    return dataclasses.replace(manifest, recipe=recipe.hash)


def _remove_strangers(work: ShardWork) -> None:
    """Remove the shards that an attempt with another recipe left."""
    known = {file.name for file in work.files}
    ends = tuple(form.value + end for form in Form for end in ("", ".index", ".json"))
    for name in os.listdir(work.recipe.folder):
        if name.endswith(ends) and name.removesuffix(".index").removesuffix(".json") not in known:
            os.unlink(os.path.join(work.recipe.folder, name))


def _unfinished(recipe: LoadedRecipe) -> str:
    return os.path.join(recipe.folder, UNFINISHED)


def _rows(recipe: LoadedRecipe) -> str:
    return os.path.join(_unfinished(recipe), _ROWS)


def _spill(recipe: LoadedRecipe) -> str:
    """Return the folder for what does not fit into memory: always the same one, so that nothing is left there."""
    if recipe.keys.scratch is None:
        return os.path.join(_unfinished(recipe), _SPILL)
    name = hashlib.sha256(os.path.abspath(recipe.folder).encode()).hexdigest()[:16]
    return os.path.join(recipe.data_path(recipe.keys.scratch), f"slurm-tf-prepare-{os.getuid()}-{name}")


def _spark_rows(recipe: LoadedRecipe) -> str:
    return os.path.join(_unfinished(recipe), spark_rows.FOLDER)


def _mem(recipe: LoadedRecipe) -> int:
    return units.parse_memory(str(recipe.keys.mem))


def _cpus(recipe: LoadedRecipe) -> int:
    return recipe.keys.cpus or len(os.sched_getaffinity(0))
