"""The types of Spark for those of DuckDB: a value is the same in both, or there is none."""

import re
from dataclasses import dataclass

from slurm_tf.errors import ConfigError


@dataclass(frozen=True)
class SparkType:
    """A type by its names. `duckdb`: that to which DuckDB casts a column before Spark gets it."""

    duckdb: str
    spark: str


_TYPES = {
    "BOOLEAN": SparkType("BOOLEAN", "boolean"),
    "TINYINT": SparkType("TINYINT", "tinyint"),
    "SMALLINT": SparkType("SMALLINT", "smallint"),
    "INTEGER": SparkType("INTEGER", "int"),
    "BIGINT": SparkType("BIGINT", "bigint"),
    # sums of integers, which a record holds as BIGINT
    "HUGEINT": SparkType("BIGINT", "bigint"),
    "UHUGEINT": SparkType("BIGINT", "bigint"),
    # Spark has no integers without a sign
    "UTINYINT": SparkType("SMALLINT", "smallint"),
    "USMALLINT": SparkType("INTEGER", "int"),
    "UINTEGER": SparkType("BIGINT", "bigint"),
    "UBIGINT": SparkType("DECIMAL(20,0)", "decimal(20,0)"),
    "FLOAT": SparkType("FLOAT", "float"),
    "DOUBLE": SparkType("DOUBLE", "double"),
    "VARCHAR": SparkType("VARCHAR", "string"),
    "BLOB": SparkType("BLOB", "binary"),
    "DATE": SparkType("DATE", "date"),
    "TIMESTAMP": SparkType("TIMESTAMP", "timestamp_ntz"),
}
_DECIMAL = re.compile(r"DECIMAL(?:\((\d+), ?(\d+)\))?", re.ASCII)
_LIST = re.compile(r"(?P<inner>.*)\[\d*\]", re.ASCII)


def of_duckdb(kind: str, where: str) -> SparkType:
    """Return the type of Spark for one of DuckDB. Raises ConfigError if there is none."""
    if match := _LIST.fullmatch(kind):
        inner = of_duckdb(match["inner"], where)
        return SparkType(f"{inner.duckdb}[]", f"array<{inner.spark}>")
    if match := _DECIMAL.fullmatch(kind):
        numbers = f"({match[1] or 18},{match[2] or 3})"  # as DuckDB has it
        return SparkType(f"DECIMAL{numbers}", f"decimal{numbers}")
    if kind not in _TYPES:
        raise ConfigError(f"Spark has no type {kind}", f"one of {', '.join(sorted(_TYPES))}", where=where)
    return _TYPES[kind]
