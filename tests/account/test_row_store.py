"""Rows are in memory while they are few, else in files, and the same either way."""

from pathlib import Path

import duckdb
import pytest

from slurm_tf.account import row_store
from slurm_tf.account.row_store import PLACE, RowStore


@pytest.mark.parametrize(
    ("few", "files"), [(100, 0), (25, 1), (0, 3)], ids=["in memory", "in memory and in files", "in files"]
)
def test_parts_are_one_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, few: int, files: int) -> None:
    monkeypatch.setattr(row_store, "FEW", few)
    with duckdb.connect() as database:
        store = RowStore(tmp_path, "jobs")
        assert (bool(store), store.are_few) == (False, True)
        for part in range(3):
            assert store.add(database, f"select {part} as part, range as id from range(10)", 10) == 10
        assert (bool(store), store.are_few) == (True, not files)
        assert len([*tmp_path.glob("jobs-*.parquet")]) == files
        found = database.execute(f"select part, id from ({store.rows()}) order by all").fetchall()
        assert found == [(part, number) for part in range(3) for number in range(10)]
        places = database.execute(f"select distinct {PLACE} from ({store.rows(with_place=True)})").fetchall()
        assert len(places) == 30
        store.clear(database)
        assert (bool(store), store.are_few, [*tmp_path.iterdir()]) == (False, True, [])
        assert store.add(database, "select 1 as part, 1 as id", 1) == 1


def test_a_view_of_few_rows_is_what_they_were() -> None:
    with duckdb.connect() as database:
        database.execute("create table source as select 1 as id")
        for are_few in (True, False):
            row_store.define(database, "jobs", "select * from source", are_few)
            database.execute("insert into source select 2")
            assert database.execute("select count(*) from jobs").fetchone() == ((1,) if are_few else (3,))
