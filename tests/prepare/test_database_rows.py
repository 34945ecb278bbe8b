"""Rows of real databases: SQLite, MariaDB, PostgreSQL; their passwords, and servers that go away."""

import datetime
import glob
import os
import re
import signal
import sqlite3
import threading
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import duckdb
import pytest

from slurm_tf.dataset.dataset_manifest import Manifest
from slurm_tf.errors import ConfigError, DatasetError
from slurm_tf.prepare import engine, fetched_sources, preparation, source_tables
from tests.prepare import database_servers, recipes
from tests.prepare.database_servers import PASSWORD, Server
from tests.prepare.test_preparation import rows_of

TABLE = "create table users (id int primary key, word varchar(20), price decimal(8,2), born date)"
ROWS = "insert into users values " + ", ".join(
    f"({n}, 'w{n % 3}', {n}.25, '2020-01-{n % 28 + 1:02}')" for n in range(60)
)
QUERY = "SELECT id, word, price, born FROM users"
TEXT = """
cpus = 1
[sources.users]
{source}
query = "{query}"
columns = {{ id = "BIGINT", word = "VARCHAR", price = "DECIMAL(8,2)", born = "DATE" }}
[transform]
sql = "x.sql"
[features.id]
kind = "int64"
[features.price]
kind = "float"
[features.year]
kind = "int64"
[features.word]
vocabulary = {{}}
[split]
key = ["id"]
[output]
folder = "out"
"""
SQL = "SELECT id, price, word, year(born) AS year FROM users"
NO_POSTGRES = not glob.glob("/usr/lib/postgresql/*/bin/initdb")


def prepared(folder: Path, source: str, query: str = QUERY) -> Manifest:
    recipe = recipes.load(folder, TEXT.format(source=source, query=query), {"x.sql": SQL})
    return preparation.prepare(recipe, False, lambda _text: None)


def check_rows(folder: Path, manifest: Manifest) -> None:
    rows = sorted(rows_of(folder / "out", manifest, "train", "id", "price", "year"))
    assert rows == [(number, number + 0.25, 2020) for number in range(60)]
    assert manifest.inputs["users"].startswith("60 rows, ")


@pytest.fixture(scope="module")
def mariadb() -> Iterator[Server]:
    with database_servers.mariadb() as server:
        server.run(f"use shop; {TABLE}; {ROWS}")
        yield server


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Server]:
    with database_servers.postgresql() as server:
        server.run(f"{TABLE}; {ROWS}")
        yield server


def sqlite(folder: Path) -> str:
    with sqlite3.connect(folder / "shop.sqlite") as connection:
        connection.execute(TABLE.replace("decimal(8,2)", "real").replace("born date", "born text"))
        connection.execute(ROWS)
    return 'format = "sqlite"\npath = "shop.sqlite"'


def test_sqlite(tmp_path: Path) -> None:
    check_rows(tmp_path, prepared(tmp_path, sqlite(tmp_path)))


@pytest.mark.slow
def test_mariadb_with_a_password_in_a_file(tmp_path: Path, mariadb: Server) -> None:
    (tmp_path / "password").write_text(f"{PASSWORD}\n")
    source = f'format = "mysql"\nurl = "{mariadb.url}"\npassword-file = "password"'
    with pytest.raises(ConfigError, match="others can read it"):
        prepared(tmp_path, source)
    (tmp_path / "password").chmod(0o600)
    manifest = prepared(tmp_path, source)
    check_rows(tmp_path, manifest)
    for path in (tmp_path / "out").rglob("*"):
        assert path.is_dir() or PASSWORD.encode() not in path.read_bytes()
    mariadb.run("use shop; update users set price = 1 where id = 7")
    (tmp_path / "out").rename(tmp_path / "earlier")
    assert prepared(tmp_path, source).inputs != manifest.inputs
    mariadb.run("use shop; update users set price = 7.25 where id = 7")


@pytest.mark.long
def test_a_wrong_password_is_not_shown(tmp_path: Path, mariadb: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    source = f'format = "mysql"\nurl = "{mariadb.url}"\npassword-variable = "SHOP_PASSWORD"'
    with pytest.raises(ConfigError, match="SHOP_PASSWORD is not set"):
        prepared(tmp_path, source)
    monkeypatch.setenv("SHOP_PASSWORD", "no-such-secret")
    with pytest.raises(DatasetError, match="cannot be read") as error:
        prepared(tmp_path, source)
    assert "no-such-secret" not in str(error.value)


@pytest.mark.slow
@pytest.mark.skipif(NO_POSTGRES, reason="PostgreSQL is not installed: apt-get install postgresql")
def test_postgresql(tmp_path: Path, postgresql: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    source = f'format = "postgresql"\nurl = "{postgresql.url}"\npassword-variable = "SHOP_PASSWORD"'
    check_rows(tmp_path, prepared(tmp_path, source))


def test_sqlite_with_text_in_a_column_of_numbers_or_other_columns(tmp_path: Path) -> None:
    source = sqlite(tmp_path)
    with pytest.raises(DatasetError, match=r"sources\.users: the query returns id, word"):
        prepared(tmp_path, source, "SELECT id, word FROM users")
    with pytest.raises(DatasetError, match="no such table: nobody"):
        prepared(tmp_path, source, "SELECT * FROM nobody")
    with sqlite3.connect(tmp_path / "shop.sqlite") as connection:
        connection.execute("update users set id = 'many' where id = 50")
    with pytest.raises(DatasetError, match='column id: found "many"'):
        prepared(tmp_path, source)
    assert sorted(os.listdir(tmp_path)) == ["recipe.toml", "shop.sqlite", "x.sql"]


@pytest.mark.parametrize(
    ("update", "column"),
    [
        pytest.param("price = 1.239", "column price: found \"1.239\"", id="digits that DECIMAL(8,2) has not"),
        pytest.param("price = 1e9", "column price", id="an overflow", marks=pytest.mark.long),
        pytest.param("born = '5.1.2020'", "column born: found \"5.1.2020\"", id="a date", marks=pytest.mark.long),
        pytest.param("price = 'cheap'", 'column price: found "cheap"', id="text among numbers", marks=pytest.mark.long),
        pytest.param("id = 1.5", 'column id: found "1.5"', id="a fraction", marks=pytest.mark.long),
        pytest.param("word = x'ff'", "column word: found 1 bytes", id="bytes in a text", marks=pytest.mark.long),
    ],
)  # fmt: skip
def test_a_value_of_sqlite_is_not_changed(tmp_path: Path, update: str, column: str) -> None:
    source = sqlite(tmp_path)
    with sqlite3.connect(tmp_path / "shop.sqlite") as connection:
        connection.execute("create table any as select * from users")
        connection.execute(f"update any set {update} where id = 50")
    with pytest.raises(DatasetError, match=f"sources.users: .*{re.escape(column)}"):
        prepared(tmp_path, source, QUERY.replace("users", "any"))


@pytest.mark.long
def test_a_value_of_mariadb_is_not_changed(tmp_path: Path, mariadb: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    source = f'format = "mysql"\nurl = "{mariadb.url}"\npassword-variable = "SHOP_PASSWORD"'
    for query, words in {
        "SELECT CAST(18446744073709551615 AS UNSIGNED) AS id, word, price, born FROM users": "column id",
        "SELECT id, word, CAST(price AS DECIMAL(12,4)) + 0.001 AS price, born FROM users": "column price",
        "SELECT id, word, price, CAST('2020-01-01 12:00' AS DATETIME) AS born FROM users": "column born",
        "SELECT id + 0.5 AS id, word, price, born FROM users": "column id",
    }.items():
        with pytest.raises(DatasetError, match=f"sources.users: {words}: found "):
            prepared(tmp_path, source, query)


@pytest.mark.long
def test_a_database_that_goes_away_half_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    with database_servers.mariadb() as server:
        server.run(f"use shop; {TABLE}; {ROWS}")
        source = f'format = "mysql"\nurl = "{server.url}"\npassword-variable = "SHOP_PASSWORD"'
        slow = "SELECT id, word, price, born FROM users WHERE sleep(0.1) = 0"
        end = threading.Timer(2, server.process.send_signal, [signal.SIGKILL])
        end.start()
        with pytest.raises(DatasetError, match=r"sources\.users: the database cannot be read"):
            prepared(tmp_path, source, slow)
        end.cancel()
    assert sorted(os.listdir(tmp_path)) == ["recipe.toml", "x.sql"]


def values(folder: Path, source: str, query: str, kind: str) -> list[object]:
    """Return the values that a column `x` of the rows of `query` has in the table of the source, in their order."""
    text = f"""
        [sources.t]\n{source}\nquery = "{query}"\ncolumns = {{ x = "{kind}" }}
        [features.x]\nkind = "bytes"\n[split]\nkey = ["x"]\n[output]\nfolder = "out"
    """
    recipe = recipes.load(folder, text)
    fetched = fetched_sources.fetch(recipe, {}, str(folder), lambda _text: None)
    with duckdb.connect() as connection, engine.explained("t"):
        rows = source_tables.select(connection, recipe, "t", {}, fetched)
        return [row[0] for row in connection.execute(rows).fetchall()]


def test_types_of_sqlite_are_those_of_the_schema(tmp_path: Path) -> None:
    source = 'format = "sqlite"\npath = "t.sqlite"'
    with sqlite3.connect(tmp_path / "t.sqlite") as connection:
        connection.execute("create table t (b boolean, d decimal(20,2), at timestamp, v, raw)")
        connection.execute("insert into t values (1, 1.5, '2020-01-02 03:04:05.123456', 2, x'00ff')")
        connection.execute("insert into t values (0, 9007199254740993, null, 'a', null)")
    assert values(tmp_path, source, "select b as x from t", "BOOLEAN") == [True, False]
    assert values(tmp_path, source, "select d as x from t", "DECIMAL(20,2)") == [
        Decimal("1.50"),
        Decimal("9007199254740993.00"),
    ]
    assert values(tmp_path, source, "select v as x from t", "VARCHAR") == ["2", "a"]
    assert values(tmp_path, source, "select raw as x from t", "BLOB") == [b"\x00\xff", None]
    for query, kind, found in [
        ("select b + 1 as x from t", "BOOLEAN", '"2"'),
        ("select '2020-01-02 03:04:05.1234567' as x", "TIMESTAMP", '"2020-01-02 03:04:05.1234567"'),
        ("select '03:04:05.1234567' as x", "TIME", '"03:04:05.1234567"'),
        ("select x'ff' as x", "VARCHAR", "1 bytes"),
        ("select 'a' as x", "BLOB", "'a'"),
    ]:
        with pytest.raises(DatasetError, match=f"column x: found {re.escape(found)}"):
            values(tmp_path, source, query, kind)


LONG = "1234567890123456789012345678.0123456789"


@pytest.mark.slow
def test_types_of_mariadb_are_those_of_the_schema(
    tmp_path: Path, mariadb: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    mariadb.run(
        "use shop; set sql_mode=''; create table if not exists types (d decimal(38,10), u bigint unsigned, z date);"
        f"insert into types values ({LONG}, 18446744073709551615, '0000-00-00')"
    )
    source = f'format = "mysql"\nurl = "{mariadb.url}"\npassword-variable = "SHOP_PASSWORD"'
    assert values(tmp_path, source, "select d as x from types", "DECIMAL(38,10)") == [Decimal(LONG)]
    assert values(tmp_path, source, "select u as x from types;", "UBIGINT") == [2**64 - 1]
    assert values(tmp_path, source, "select 1 as x -- one", "BOOLEAN") == [True]
    with pytest.raises(DatasetError, match='column x: found "2"'):
        values(tmp_path, source, "select 2 as x", "BOOLEAN")
    with pytest.raises(DatasetError, match=r"0000-00-00.*\n?.*CAST"):
        values(tmp_path, source, "select z as x from types", "DATE")


@pytest.mark.slow
@pytest.mark.skipif(NO_POSTGRES, reason="PostgreSQL is not installed: apt-get install postgresql")
def test_types_of_postgresql_are_those_of_the_schema(
    tmp_path: Path, postgresql: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHOP_PASSWORD", PASSWORD)
    source = f'format = "postgresql"\nurl = "{postgresql.url}"\npassword-variable = "SHOP_PASSWORD"'
    for query, kind, expected in [
        (f"select {LONG}::numeric as x", "DECIMAL(38,10)", Decimal(LONG)),
        ("select 0.123456789012::numeric as x", "DECIMAL(18,12)", Decimal("0.123456789012")),
        ("select '{ \\\"a\\\": 1.10}'::json as x", "VARCHAR", '{ "a": 1.10}'),
        ("select array[1, null]::bigint[] as x", "BIGINT[]", [1, None]),
        ("select date '2020-01-02' as x", "DATE", datetime.date(2020, 1, 2)),
        ("select time '24:00' as x", "TIME", "24:00:00"),  # which Python has not
    ]:
        assert values(tmp_path, source, query, kind) == [expected]
    for query, kind in [
        ("select date 'infinity' as x", "DATE"),
        ("select timestamp 'infinity' as x", "TIMESTAMP"),
        ("select 'NaN'::numeric as x", "DECIMAL(10,2)"),
    ]:
        with pytest.raises(DatasetError, match="column x: found"):
            values(tmp_path, source, query, kind)
