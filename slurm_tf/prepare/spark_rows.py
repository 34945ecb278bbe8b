"""Makes the rows of a data set with Spark, on as many nodes as there are workers: the same rows as DuckDB makes.

Workers read the sources through DuckDB, as the preparation on one node does: a file means the same to both, and errors
are the same. Spark runs the SQL of the recipe in its own dialect. Where a row goes is computed by our own code, on
bytes. The rows of each shard are in a folder of Parquet files then, and workers write the shards from there.
"""

import dataclasses
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from slurm_tf.dataset import format_json
from slurm_tf.dataset.sidecar import ShardSummary
from slurm_tf.prepare import (
    engine,
    feature_values,
    json_rows,
    row_keys,
    rows_table,
    shard_pool,
    source_tables,
    spark_errors,
    spark_types,
    sql_file,
)
from slurm_tf.prepare.learned import ROWS
from slurm_tf.prepare.recipe_file import LoadedRecipe
from slurm_tf.prepare.shard_pool import ShardWork
from slurm_tf.prepare.shards import ShardFile
from slurm_tf.prepare.source_files import SourceFiles
from slurm_tf.prepare.sql_types import name as quoted
from slurm_tf.prepare.sql_types import text as quoted_text

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

# In the folder of what is unfinished.
FOLDER = "rows"
_BATCH = 1 << 14
# Their files can be read one by one.
_DIVISIBLE = ("csv", "jsonl", "parquet")
# The columns that tell where a row goes.
_PLACED = {
    row_keys.KEY: (pa.binary(), "binary"),
    row_keys.HASH: (pa.binary(), "binary"),
    row_keys.SPLIT: (pa.int32(), "int"),
    row_keys.SHARD: (pa.int32(), "int"),
}


@dataclass(frozen=True)
class SourceReader:
    """Reads one source in a worker. `files`: None for a database, whose rows are in the Parquet file `fetched`."""

    recipe: LoadedRecipe
    name: str
    files: SourceFiles | None
    fetched: str

    @property
    def parts(self) -> tuple[str, ...]:
        """What workers read one by one: the paths of files, or "" for all of them."""
        source = self.recipe.keys.sources[self.name]
        return self.files.paths if self.files and not self.fetched and source.format in _DIVISIBLE else ("",)

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of the parts that are in `batches`. Raises WorkerError."""
        with spark_errors.told():
            for batch in batches:
                for part in batch.column(0).to_pylist():
                    yield from self._rows(part)

    def _rows(self, part: str) -> Iterator[pa.RecordBatch]:
        source, where = self.recipe.keys.sources[self.name], f"{self.recipe.path}: sources.{self.name}"
        columns = ", ".join(
            f"CAST({quoted(column)} AS {spark_types.of_duckdb(kind, where).duckdb}) AS {quoted(column)}"
            for column, kind in source_tables.columns_of(source).items()
        )
        files = {}
        if self.files:
            files[self.name] = dataclasses.replace(self.files, paths=(part,)) if part else self.files
        fetched = {self.name: self.fetched} if self.fetched else {}
        config: dict[str, str | bool | int | float | list[str]] = {
            "threads": "1",
            "autoload_known_extensions": "false",
            "autoinstall_known_extensions": "false",
        }
        with tempfile.TemporaryDirectory(prefix="slurm-tf-prepare-") as folder:
            if source.format == "jsonl":
                fetched = {self.name: os.path.join(folder, "rows.parquet")}
                json_rows.write([part], source, fetched[self.name])
            with duckdb.connect(config=config) as connection, engine.explained(self.name):
                select = source_tables.select(connection, self.recipe, self.name, files, fetched)
                yield from connection.sql(f"SELECT {columns} FROM ({select})").to_arrow_reader(_BATCH)


@dataclass(frozen=True)
class RowPlacer:
    """Adds to rows, in a worker, where they go: the key, its hash, the number of the split and of the shard."""

    key: tuple[str, ...]
    columns: tuple[str, ...]
    shares: Mapping[str, int | float]
    shards: Mapping[str, int]

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yield the rows of `batches` with the columns _PLACED more."""
        for batch in batches:
            keys = [self._key(values) for values in self._key_values(batch)]
            places = [row_keys.place(key or b"", self.shares, self.shards) for key in keys]
            numbers = {name: number for number, name in enumerate(self.shares)}
            placed = {
                row_keys.KEY: keys,
                row_keys.HASH: [first.to_bytes(8, "big") for _, _, first in places],
                row_keys.SPLIT: [numbers[split] for split, _, _ in places],
                row_keys.SHARD: [shard for _, shard, _ in places],
            }
            columns = {name: batch.column(name) for name in self.columns}
            columns |= {name: pa.array(placed[name], kind) for name, (kind, _) in _PLACED.items()}
            yield pa.RecordBatch.from_pydict(columns)

    def _key_values(self, batch: pa.RecordBatch) -> Iterator[tuple[str | int | bytes | None, ...]]:
        return zip(*(batch.column(name).to_pylist() for name in self.key), strict=True)

    @staticmethod
    def _key(values: Sequence[str | int | bytes | None]) -> bytes | None:
        known = [value for value in values if value is not None]
        return row_keys.key_bytes(known) if len(known) == len(values) else None


def make(
    spark: "SparkSession",
    recipe: LoadedRecipe,
    files: Mapping[str, SourceFiles],
    fetched: Mapping[str, str],
    known: Mapping[str, str],
    folder: str,
) -> None:
    """Write the rows into `folder`: Parquet files of each shard of each split.

    `known`: the types of the columns in DuckDB, to which they are cast. Raises DatasetError, ConfigError, StorageError.
    """
    names = feature_values.columns(list(recipe.keys.features), recipe.keys.split.key)
    types = {name: spark_types.of_duckdb(known[name], recipe.path).spark for name in names}
    shards = {split: recipe.shards(split) for split in recipe.splits}
    placer = RowPlacer(recipe.keys.split.key, tuple(names), recipe.keys.split.shares, shards)
    fields = {**types, **{name: kind for name, (_, kind) in _PLACED.items()}}
    with spark_errors.explained(recipe.path):
        for name in recipe.keys.sources:
            is_divisible = recipe.keys.sources[name].format in _DIVISIBLE
            reader = SourceReader(
                recipe.located(), name, files.get(name), "" if is_divisible else fetched.get(name, "")
            )
            _source(spark, reader).createOrReplaceTempView(name)
        sql = recipe.sql or f"SELECT * FROM {quoted(next(iter(recipe.keys.sources)))}"
        given = spark.sql(sql_file.for_spark(sql))
        rows = given.selectExpr(*(f"CAST(`{name}` AS {kind}) AS `{name}`" for name, kind in types.items()))
        placed = rows.mapInArrow(placer, ", ".join(f"`{name}` {kind}" for name, kind in fields.items()))
        together = placed.repartition(row_keys.SPLIT, row_keys.SHARD)
        together.write.mode("overwrite").partitionBy(row_keys.SPLIT, row_keys.SHARD).parquet(folder)


def _source(spark: "SparkSession", reader: SourceReader) -> "DataFrame":
    source, where = reader.recipe.keys.sources[reader.name], f"{reader.recipe.path}: sources.{reader.name}"
    fields = ", ".join(
        f"`{column}` {spark_types.of_duckdb(kind, where).spark}"
        for column, kind in source_tables.columns_of(source).items()
    )
    parts = spark.createDataFrame([(part,) for part in reader.parts], "part string")
    return parts.repartition(len(reader.parts), "part").mapInArrow(reader, fields)


def take(connection: duckdb.DuckDBPyConnection, recipe: LoadedRecipe, folder: str) -> dict[str, int]:
    """Make the table of rows a view of what `make` wrote; return how many rows each split has. Raises DatasetError."""
    pattern = quoted_text(os.path.join(folder, "*", "*", "*.parquet"))
    types = f"{{{row_keys.SPLIT}: 'USMALLINT', {row_keys.SHARD}: 'UINTEGER'}}"
    with engine.explained(recipe.path):
        connection.execute(
            f"CREATE OR REPLACE VIEW {ROWS} AS SELECT * FROM "
            f"read_parquet({pattern}, hive_partitioning = true, hive_types = {types})"
        )
    return rows_table.count(connection, recipe)


def write(spark: "SparkSession", work: ShardWork, files: Sequence[ShardFile]) -> Iterator[ShardSummary]:
    """Write shards on the workers, and yield what each is. Raises DatasetError and StorageError."""
    located = dataclasses.replace(work, recipe=work.recipe.located())
    with spark_errors.explained(work.recipe.path):
        texts = spark.sparkContext.parallelize(files, len(files)).map(ShardWriter(located)).collect()
    yield from (format_json.loads(text, ShardSummary, "the summary of a shard") for text in texts)


@dataclass(frozen=True)
class ShardWriter:
    """Writes a shard in a worker."""

    work: ShardWork

    def __call__(self, file: ShardFile) -> str:
        """Return the summary of the shard, as JSON. Raises WorkerError."""
        with spark_errors.told():
            return format_json.dumps(shard_pool.write_one(self.work, file))
