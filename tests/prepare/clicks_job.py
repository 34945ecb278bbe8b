"""The job that engines are compared by: clicks in CSV joined with users of a MariaDB, sums, vocabularies, 10 shards.

Tests and benchmarks/prepare.py state it here alone.
"""

from collections.abc import Iterator
from pathlib import Path

import duckdb

# One click in fifty is of a user that is not in the table.
_STRANGERS = 51 / 50
_FILES = 4
# Rows of an INSERT.
_PIECE = 2_000
COLUMNS = {
    "id": "BIGINT", "user_id": "BIGINT", "item": "BIGINT", "country": "VARCHAR", "device": "VARCHAR",
    "query": "VARCHAR", "cents": "BIGINT", "score": "DOUBLE", "clicked": "BIGINT",
}  # fmt: skip
QUERY = "SELECT user_id, age, segment FROM users"
TRAIN_SHARDS, TEST_SHARDS = 8, 2
_RECIPE = """\
engine = "{engine}"
mem = "{mem}"
cpus = {cpus}
[sources.clicks]
format = "csv"
path = "clicks*.csv"
columns = {columns}
[sources.users]
{users}
columns = {{ user_id = "BIGINT", age = "BIGINT", segment = "VARCHAR" }}
[transform]
sql = "clicks.sql"
[features.clicked]
kind = "int64"
[features.item]
kind = "int64"
[features.country]
vocabulary = {{}}
[features.device]
vocabulary = {{}}
[features.segment]
vocabulary = {{ min-count = 2 }}
[features.query]
kind = "bytes"
[features.score]
kind = "float"
[features.spent]
kind = "int64"
[features.age]
kind = "int64"
[split]
key = ["id"]
shares = {{ train = 0.8, test = 0.2 }}
[output]
folder = "{folder}"
shards = {{ train = {train}, test = {test} }}
"""
SQL = """\
SELECT clicks.*, age, segment, spent
FROM clicks
JOIN users USING (user_id)
JOIN (SELECT user_id, sum(cents) AS spent FROM clicks GROUP BY user_id) USING (user_id)
"""
_CLICKS = """\
SELECT i AS id, hash(i) % $users AS user_id, hash(i + 1) % 1000000 AS item, 'c' || hash(i + 2) % 200 AS country,
    'device ' || hash(i + 3) % 50 AS device,
    'what somebody looked for ' || repeat('w', (hash(i + 4) % 60)::INT) || hash(i + 5) % 1000 AS query,
    hash(i + 6) % 10000 AS cents, (hash(i + 7) % 1000000) / 7 AS score, hash(i + 8) % 2 AS clicked
FROM range($first, $end) AS t(i)
"""
# The source users in place of a database.
USERS_IN_CSV = 'format = "csv"\npath = "users.csv"'


def recipe(engine: str, mem: str, users: str, folder: str, cpus: int = 2) -> str:
    """Return the recipe. `users`: the keys of that source but its columns; `folder`: of the data set."""
    columns = "{ " + ", ".join(f'{name} = "{kind}"' for name, kind in COLUMNS.items()) + " }"
    return _RECIPE.format(
        engine=engine, mem=mem, users=users, folder=folder, cpus=cpus, columns=columns, train=TRAIN_SHARDS,
        test=TEST_SHARDS,
    )  # fmt: skip


def write_sources(folder: Path, rows: int, users: int) -> None:
    """Write the clicks, in four files, and the SQL."""
    with duckdb.connect() as connection:
        for number in range(_FILES):
            part = {"first": rows * number // _FILES, "end": rows * (number + 1) // _FILES}
            part["users"] = int(users * _STRANGERS)
            connection.sql(_CLICKS, params=part).write_csv(str(folder / f"clicks{number}.csv"))
    (folder / "clicks.sql").write_text(SQL)


def write_users(folder: Path, users: int) -> None:
    """Write the users as CSV."""
    lines = [f"{user},{age},{segment}\n" for user, age, segment in _users(users)]
    (folder / "users.csv").write_text("user_id,age,segment\n" + "".join(lines))


def statements(users: int) -> Iterator[str]:
    """Yield what makes the table of users in MariaDB."""
    yield "use shop; create table users (user_id bigint primary key, age bigint, segment varchar(20))"
    rows = [f"({user},{age},'{segment}')" for user, age, segment in _users(users)]
    for start in range(0, len(rows), _PIECE):
        yield "use shop; insert into users values " + ",".join(rows[start : start + _PIECE])


def _users(count: int) -> Iterator[tuple[int, int, str]]:
    yield from ((user, user * 7 % 90, f"s{user * 13 % 30}") for user in range(count))
