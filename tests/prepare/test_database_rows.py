"""Rows of real databases: SQLite, MariaDB, PostgreSQL; their passwords, and servers that go away."""

import glob
import os
import re
import signal
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from slurm_tf.dataset.dataset_manifest import Manifest
from slurm_tf.errors import ConfigError, DatasetError
from slurm_tf.prepare import preparation
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
    with pytest.raises(DatasetError, match="the database cannot be read"):
        prepared(tmp_path, source)
    assert sorted(os.listdir(tmp_path)) == ["recipe.toml", "shop.sqlite", "x.sql"]


@pytest.mark.parametrize(
    ("update", "column"),
    [
        pytest.param("price = 1.239", "column price: found \"1.239\"", id="digits that DECIMAL(8,2) has not"),
        pytest.param("price = 1e9", "column price", id="an overflow", marks=pytest.mark.long),
        pytest.param("born = '5.1.2020'", "column born: found \"5.1.2020\"", id="a date", marks=pytest.mark.long),
        pytest.param("price = 'cheap'", "cannot be read", id="text among numbers", marks=pytest.mark.long),
        pytest.param("id = 1.5", "cannot be read", id="a fraction", marks=pytest.mark.long),
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
