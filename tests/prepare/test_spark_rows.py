"""What workers of Spark do, without Spark: read sources, say where a row goes, write shards from Parquet files."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.dataset
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_tf.dataset import format_json
from slurm_tf.dataset.sidecar import ShardSummary
from slurm_tf.errors import ConfigError, DatasetError
from slurm_tf.prepare import (
    engine,
    learned,
    preparation,
    row_keys,
    source_files,
    spark_errors,
    spark_rows,
    spark_types,
    sql_types,
)
from slurm_tf.prepare.shard_pool import ShardWork
from slurm_tf.prepare.spark_rows import RowPlacer, ShardWriter, SourceReader
from tests.prepare import recipes

SHARES = {"train": 0.7, "test": 0.3}
SHARDS = {"train": 3, "test": 2}


def parts(reader: SourceReader) -> Iterator[pa.RecordBatch]:
    yield pa.RecordBatch.from_pydict({"part": list(reader.parts)})


def test_workers_write_the_data_set_of_one_process(tmp_path: Path) -> None:
    for number in range(2):
        recipes.write_csv(tmp_path / f"clicks{number}.csv", recipes.csv_rows(150, number * 150))
    recipe = recipes.load(tmp_path, recipes.recipe_text("clicks*.csv"))
    expected = preparation.prepare(recipe, False, lambda _text: None)
    other = recipes.load(tmp_path, recipes.recipe_text("clicks*.csv", output='folder = "spark"\nshards = 3'))
    unfinished = tmp_path / "spark" / preparation.UNFINISHED
    unfinished.mkdir(parents=True)
    files = source_files.of_recipe(other)
    reader = SourceReader(other, "clicks", files["clicks"], "")
    assert reader.parts == files["clicks"].paths
    columns = ("id", "country", "price", "clicked")
    placer = RowPlacer(("id",), columns, other.keys.split.shares, {"train": 3, "test": 3})
    rows = pa.Table.from_batches(list(placer(reader(parts(reader)))))
    names = pa.schema([(row_keys.SPLIT, pa.int32()), (row_keys.SHARD, pa.int32())])
    by = pa.dataset.partitioning(names, flavor="hive")
    pa.dataset.write_dataset(rows, unfinished / "rows", format="parquet", partitioning=by)
    work = ShardWork(other, str(unfinished / "rows.duckdb"), str(unfinished / "spill"), 128, "hash", ())
    engine.make_spill_folder(work.spill)
    with engine.opened(work.rows, work.spill, 256, 1) as connection:
        rows_of = spark_rows.take(connection, other, str(unfinished / "rows"))
        learned.learn(connection, other, dict(other.keys.sources["clicks"].columns))
    assert rows_of == {split.name: split.rows for split in expected.splits}
    found = [format_json.loads(ShardWriter(work)(file), ShardSummary, "x") for file in work.files]
    assert [summary.digest for summary in found] == [
        shard.digest for split in expected.splits for shard in split.shards
    ]


def test_a_worker_reads_json_lines(tmp_path: Path) -> None:
    (tmp_path / "clicks.jsonl").write_text('{"id": 1, "country": "a", "price": 1.5}\n{"id": 2, "clicked": 1.5}\n')
    recipe = recipes.load(tmp_path, recipes.recipe_text("clicks.jsonl", source_format="jsonl"))
    reader = SourceReader(recipe, "clicks", source_files.of_recipe(recipe)["clicks"], "")
    with pytest.raises(spark_errors.WorkerError) as caught:
        list(reader(parts(reader)))
    error = spark_errors.found_in(str(caught.value))
    assert isinstance(error, DatasetError) and error.where == f"{tmp_path}/clicks.jsonl: line 2, column clicked"
    (tmp_path / "clicks.jsonl").write_text('{"id": 1, "country": "a", "price": 1.5}\n')
    rows = pa.Table.from_batches(list(reader(parts(reader)))).to_pylist()
    assert rows == [{"id": 1, "country": "a", "price": 1.5, "clicked": None}]


def test_an_error_of_a_worker_reaches_the_user(tmp_path: Path) -> None:
    recipes.write_csv(tmp_path / "clicks.csv", [*recipes.csv_rows(20), "21,a,cheap,1"])
    recipe = recipes.load(tmp_path, recipes.recipe_text())
    reader = SourceReader(recipe, "clicks", source_files.of_recipe(recipe)["clicks"], "")
    with pytest.raises(spark_errors.WorkerError) as caught:
        list(reader(parts(reader)))
    error = spark_errors.found_in(f"org.apache.spark.SparkException: ...\n{caught.value}\n\tat org.apache.spark")
    assert isinstance(error, DatasetError)
    assert error.where == f"{tmp_path}/clicks.csv: line 22, column price"
    assert spark_errors.found_in("java.lang.OutOfMemoryError") is None


@pytest.mark.parametrize(
    ("kind", "duckdb_type", "spark_type"),
    [
        ("UINTEGER", "BIGINT", "bigint"),
        ("HUGEINT", "BIGINT", "bigint"),
        ("DECIMAL(10,2)", "DECIMAL(10,2)", "decimal(10,2)"),
        ("DECIMAL", "DECIMAL(18,3)", "decimal(18,3)"),
        ("FLOAT[][]", "FLOAT[][]", "array<array<float>>"),
        ("DOUBLE[3]", "DOUBLE[]", "array<double>"),
    ],
)
def test_types(kind: str, duckdb_type: str, spark_type: str) -> None:
    found = spark_types.of_duckdb(kind, "x")
    assert (found.duckdb, found.spark) == (duckdb_type, spark_type)


def test_each_type_of_a_recipe_has_one_of_spark_or_is_an_error() -> None:
    unknown = []
    for kind in sql_types.NAMES:
        try:
            spark_types.of_duckdb(kind, "x")
        except ConfigError:
            unknown.append(kind)
    assert unknown == ["TIME"]


TYPES = {"id": "BIGINT", "name": "VARCHAR"}
KEYS = st.fixed_dictionaries({"id": st.integers(-(2**63), 2**63 - 1), "name": st.text(max_size=5)})


@settings(max_examples=20)
@given(rows=st.lists(KEYS, min_size=1, max_size=20), key=st.sampled_from([("id",), ("name",), ("name", "id")]))
def test_rows_go_where_duckdb_says(rows: list[dict[str, Any]], key: tuple[str, ...]) -> None:
    table = pa.Table.from_pylist(rows, schema=pa.schema([("id", pa.int64()), ("name", pa.string())]))
    placer = RowPlacer(key, ("id", "name"), SHARES, SHARDS)
    mine = pa.Table.from_batches(list(placer(iter(table.to_batches())))).to_pylist()
    columns = [sql_types.name(name) for name in TYPES]
    select = row_keys.placed("given", columns, {name: TYPES[name] for name in key}, SHARES, SHARDS)
    with duckdb.connect() as connection:
        connection.register("given", table)
        theirs = connection.sql(select).to_arrow_table().to_pylist()
    for row in mine:
        row[row_keys.HASH] = int.from_bytes(row[row_keys.HASH], "big")
    order = (row_keys.SPLIT, row_keys.SHARD, row_keys.HASH, row_keys.KEY, "id", "name")
    assert sorted(mine, key=lambda row: [row[name] for name in order]) == sorted(
        theirs, key=lambda row: [row[name] for name in order]
    )


def test_spark_has_enough_memory(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="found 400M; needed 512M or more for spark"):
        recipes.load(tmp_path, recipes.recipe_text(top='engine = "spark"\nmem = "400M"'))
