"""Where a row goes, by its key alone: into which split and shard, and in which order.

The bytes of a key are the UTF-8 of text, or the decimal digits of an integer; of several columns each follows its
length in bytes and a colon. Of their MD5 the first 8 bytes (big endian) are the hash of the row: modulo the number of
shards it is the shard, and rows are ordered by it, then by the key. The last 8 bytes say the split: each has a range
of them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from itertools import accumulate

from slurm_tf.prepare import sql_types
from slurm_tf.prepare.recipe_file import exact

_ALL = 2**64
# Columns of the table of rows.
KEY, HASH, SPLIT, SHARD = "slurm_tf_key", "slurm_tf_hash", "slurm_tf_split", "slurm_tf_shard"
_DIGEST = "slurm_tf_md5"


def key_bytes(values: Sequence[str | int | bytes]) -> bytes:
    """Return the bytes of a key."""
    parts = [value if isinstance(value, bytes) else str(value).encode() for value in values]
    return parts[0] if len(parts) == 1 else b"".join(b"%d:%b" % (len(part), part) for part in parts)


def place(key: bytes, shares: Mapping[str, int | float], shards: Mapping[str, int]) -> tuple[str, int, int]:
    """Return the split, the shard and the hash of the row with a key. What SQL computes is tested against it."""
    digest = hashlib.md5(key, usedforsecurity=False).digest()
    first, last = (int.from_bytes(part, "big") for part in (digest[:8], digest[8:]))
    number = sum(last >= bound for bound in bounds(shares))
    split = list(shares)[number]
    return split, first % shards[split], first


def bounds(shares: Mapping[str, int | float]) -> tuple[int, ...]:
    """Return where the range of each split but the last ends."""
    return tuple(int(_ALL * total) for total in accumulate(map(exact, shares.values())))[:-1]


def placed(
    table: str,
    columns: Sequence[str],
    key: Mapping[str, str],
    shares: Mapping[str, int | float],
    shards: Mapping[str, int],
) -> str:
    """Return the SELECT of the columns of a table, in SQL, with KEY, HASH, SPLIT and SHARD, in the order of rows.

    `columns`: expressions of SQL; `key`: the columns of the key, with their types.
    """
    numbers = " ".join(f"WHEN {number} THEN {shards[name]}" for number, name in enumerate(shares))
    last = f"('0x' || substr({_DIGEST}, 17, 16))::UBIGINT"
    cases = " ".join(f"WHEN {last} < {bound}::UBIGINT THEN {number}" for number, bound in enumerate(bounds(shares)))
    split = f"CASE {cases} ELSE {len(shares) - 1} END" if cases else "0"
    return (
        f"WITH keyed AS (SELECT {', '.join(columns)}, {_key(key)} AS {KEY}, md5({KEY}) AS {_DIGEST} FROM {table}), "
        f"hashed AS (SELECT * EXCLUDE ({_DIGEST}), ('0x' || substr({_DIGEST}, 1, 16))::UBIGINT AS {HASH}, "
        f"({split})::USMALLINT AS {SPLIT} FROM keyed) "
        f"SELECT *, ({HASH} % (CASE {SPLIT} {numbers} END)::UBIGINT)::UINTEGER AS {SHARD} FROM hashed "
        f"ORDER BY {SPLIT}, {SHARD}, {HASH}, {KEY}"
    )


def _key(columns: Mapping[str, str]) -> str:
    parts = [_bytes(sql_types.name(name), kind) for name, kind in columns.items()]
    if len(parts) == 1:
        return parts[0]
    return " || ".join(f"encode(octet_length({part})::VARCHAR || ':') || {part}" for part in parts)


def _bytes(column: str, kind: str) -> str:
    return column if kind == "BLOB" else f"encode({column}::VARCHAR)"
