"""SQL puts each row where its key says, as the few lines of Python that define it."""

import hashlib

import duckdb
from hypothesis import given, settings
from hypothesis import strategies as st

from slurm_tf.prepare import row_keys

SHARES, SHARDS = {"train": 0.7, "validation": 0.2, "test": 0.1}, {"train": 5, "validation": 2, "test": 1}
INT64 = st.integers(-(2**63), 2**63 - 1)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20)


def placed_by_sql(rows: list[tuple[int | str, ...]], types: list[str]) -> list[tuple[bytes, str, int, int]]:
    names = [f"k{number}" for number in range(len(types))]
    with duckdb.connect() as connection:
        connection.execute(f"CREATE TABLE given ({', '.join(map(' '.join, zip(names, types, strict=True)))})")
        connection.executemany(f"INSERT INTO given VALUES ({', '.join('?' * len(names))})", rows)
        key = dict(zip(names, types, strict=True))
        found = connection.execute(row_keys.placed("given", names, key, SHARES, SHARDS)).fetchall()
    return [(row[-4], list(SHARES)[row[-2]], row[-1], row[-3]) for row in found]


def placed_by_python(rows: list[tuple[int | str, ...]]) -> list[tuple[bytes, str, int, int]]:
    found = [(row_keys.key_bytes(row), *row_keys.place(row_keys.key_bytes(row), SHARES, SHARDS)) for row in rows]
    return sorted(found, key=lambda row: (list(SHARES).index(row[1]), row[2], row[3], row[0]))


@settings(max_examples=8)
@given(st.lists(st.tuples(INT64), min_size=1, max_size=40, unique=True))
def test_integers(rows: list[tuple[int]]) -> None:
    assert placed_by_sql(list(rows), ["BIGINT"]) == placed_by_python(list(rows))


@settings(max_examples=8)
@given(st.lists(st.tuples(TEXTS, INT64), min_size=1, max_size=40, unique=True))
def test_several_columns(rows: list[tuple[str, int]]) -> None:
    assert placed_by_sql(list(rows), ["VARCHAR", "BIGINT"]) == placed_by_python(list(rows))


def test_the_definition_in_figures() -> None:
    assert row_keys.key_bytes(["abc"]) == b"abc"
    assert row_keys.key_bytes([12]) == b"12"
    assert row_keys.key_bytes(["a:b", 12]) == b"3:a:b2:12"
    digest = hashlib.md5(b"abc", usedforsecurity=False).digest()
    split, shard, hash_ = row_keys.place(b"abc", {"train": 1}, {"train": 10})
    assert (split, shard, hash_) == ("train", int.from_bytes(digest[:8], "big") % 10, int.from_bytes(digest[:8], "big"))


def test_splits_have_their_shares_and_a_new_share_moves_only_rows_at_its_edge() -> None:
    keys = [str(number).encode() for number in range(20_000)]
    before = [row_keys.place(key, SHARES, SHARDS)[0] for key in keys]
    for split, share in SHARES.items():
        assert abs(before.count(split) / len(keys) - share) < 0.02
    after = [row_keys.place(key, {"train": 0.8, "validation": 0.1, "test": 0.1}, SHARDS)[0] for key in keys]
    moved = {(old, new) for old, new in zip(before, after, strict=True) if old != new}
    assert moved == {("validation", "train")}
