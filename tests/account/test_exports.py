"""SQL of the user sees the tables and nothing else; Parquet is written whole, for the user alone."""

from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from slurm_tf.account import columns, exports
from slurm_tf.errors import UsageError


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the tables, and with a file that no query may read."""
    folder = tmp_path_factory.mktemp("tables")
    (folder / "secret").write_text("name\nsecret\n")
    with duckdb.connect() as found:
        for table, those in (("jobs", (*columns.JOBS, *columns.OF_RUNS)), ("steps", columns.STEPS)):
            found.execute(columns.create(table, those))
            found.execute(f"insert into {table} (incarnation, name) values ('1', 'it''s'), ('2', null)")
            if table == "steps":
                found.execute("insert into steps (incarnation) values ('of a job that was not chosen')")
            found.execute(f"copy {table} to '{folder}/{table}.parquet'")
    return folder


@pytest.fixture
def database(files: Path) -> Iterator["duckdb.DuckDBPyConnection"]:
    """Yield a database whose tables are views of files, as those of a report are."""
    with duckdb.connect() as found:
        for table in ("jobs", "steps"):
            found.execute(f"create temp view {table} as select *, 1 as helper from '{files}/{table}.parquet'")
        yield found


def test_a_query_has_both_tables(database: "duckdb.DuckDBPyConnection") -> None:
    found = exports.answer(
        database,
        "with s as (from steps) select jobs.name, count(*) as n from jobs join s using (incarnation) group by 1",
    )
    assert (found.names, sorted(found.rows, key=str)) == (("name", "n"), [("it's", 1), (None, 1)])
    assert database.execute("select count(*) from steps").fetchall() == [(2,)]
    # nothing but what is documented
    names = [row[0] for row in database.execute("describe jobs").fetchall()]
    assert names == [each.name for each in (*columns.JOBS, *columns.OF_RUNS)]


@pytest.mark.parametrize(
    "query",
    [
        "select * from read_csv('{secret}')", "select * from '{secret}'", "select content from read_text('{secret}')",
        "select content from read_blob('{secret}')", "select * from glob('{folder}/*')",
        "select * from read_parquet('{folder}/jobs.parquet')", "select * from read_json('{secret}')",
        "select * from sniff_csv('{secret}')", "select * from query('copy jobs to ''{folder}/out''')",
        "select * from duckdb_secrets()", "copy jobs to '{folder}/out'", "attach '{folder}/out'", "install httpfs",
        "load '{folder}/out.duckdb_extension'", "set enable_external_access = true", "reset enable_external_access",
        "export database '{folder}/out'", "import database '{folder}'", "pragma database_list", "select 1; select 2",
        "create table out (a int)", "drop table jobs", "insert into jobs (name) values ('x')", "call pragma_version()",
        "select * from python_variable", "select 1; copy jobs to '{folder}/out'", "", "selec", "select no from jobs",
        "prepare p as select 1", "explain analyze select 1", "use memory", "vacuum", "checkpoint",
    ],
)  # fmt: skip
def test_a_query_can_do_nothing_else(query: str, database: "duckdb.DuckDBPyConnection", files: Path) -> None:
    python_variable = database.sql("select 'secret' as name")
    before = sorted(files.iterdir())
    with pytest.raises(UsageError, match="--sql"):
        exports.answer(database, query.format(secret=files / "secret", folder=files))
    assert sorted(files.iterdir()) == before
    assert python_variable is not None


def test_settings_cannot_be_changed_afterwards(database: "duckdb.DuckDBPyConnection", tmp_path: Path) -> None:
    assert exports.answer(database, "select 1").rows == [(1,)]
    for statement in ("set enable_external_access = true", f"copy jobs to '{tmp_path}/out'"):
        with pytest.raises(duckdb.Error):
            database.execute(statement)


def test_parquet_is_for_the_user_alone(database: "duckdb.DuckDBPyConnection", tmp_path: Path) -> None:
    path = tmp_path / "it's" / "jobs.parquet"
    path.parent.mkdir()
    path.write_text("old")
    path.chmod(0o644)
    assert exports.write_parquet(database, path) == 2
    assert [each.name for each in path.parent.iterdir()] == ["jobs.parquet"]
    assert path.stat().st_mode & 0o777 == 0o600
    rows = duckdb.read_parquet(str(path))
    assert rows.columns == [each.name for each in (*columns.JOBS, *columns.OF_RUNS)]
    assert sorted(rows.project("name").fetchall(), key=str) == [("it's",), (None,)]


def test_parquet_that_cannot_be_written_leaves_the_old_file(
    database: "duckdb.DuckDBPyConnection", tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=r"none/jobs\.parquet: No such file or directory"):
        exports.write_parquet(database, tmp_path / "none" / "jobs.parquet")
    (tmp_path / "folder").mkdir()
    with pytest.raises(UsageError, match="folder: Is a directory"):
        exports.write_parquet(database, tmp_path / "folder")
    assert not [each for each in tmp_path.iterdir() if each.name.startswith(".folder")]
