"""A value is read as the type that a schema states, exactly, or not at all; DuckDB says which texts it would change."""

from pathlib import Path
from typing import Any

import duckdb
import pytest

from slurm_tf.errors import ConfigError, DatasetError
from slurm_tf.prepare import engine, exact_values, refused_values
from slurm_tf.prepare.refused_values import ColumnPlace

# The type; texts that are read, as DuckDB writes the value; texts that are not, though DuckDB casts some of them.
TEXTS = [
    ("BIGINT", {"7": "7", "-0": "0", "+5": "5", "007": "7", "9223372036854775807": "9223372036854775807"},
     ["1.5", "1.0", "5.", "0x10", "0b11", "1_0", "1e3", " 5", "5 ", "", "9223372036854775808", "\u0669", "nan"]),
    ("UTINYINT", {"255": "255"}, ["256", "-1"]),
    ("HUGEINT", {"170141183460469231731687303715884105727": "170141183460469231731687303715884105727"},
     ["170141183460469231731687303715884105728"]),
    ("DOUBLE", {"1.5": "1.5", "1.": "1.0", ".5": "0.5", "-1e5": "-100000.0", "1e-400": "0.0", "NaN": "nan",
                "-inf": "-inf", "Infinity": "inf"}, ["1e400", "-1e400", "1_0", " 5", "1,5", "1d5", "0x10", "1.5f"]),
    ("FLOAT", {"3.4e38": "3.4e+38", "inf": "inf"}, ["1e39", "-1e39", "3.5e38"]),
    ("DECIMAL(6,2)", {"1.2": "1.20", "1.2000": "1.20", "-.5": "-0.50", "9999.99": "9999.99"},
     ["1.239", "1e2", "12345", "1_0", " 5", "9999.999", "nan"]),
    ("DECIMAL(4,0)", {"12": "12", "12.0": "12"}, ["12.5", ".5"]),
    ("DECIMAL", {"1.125": "1.125"}, ["1.1255"]),
    ("DATE", {"2026-01-31": "2026-01-31", "0020-01-01": "0020-01-01"},
     ["2026/01/31", "2026-1-31", "31.01.2026", "2026-02-30", "infinity", "epoch", "2026-01-31 12:00", "2026-01-31 "]),
    ("TIMESTAMP", {"2026-01-31": "2026-01-31 00:00:00", "2026-01-31T12:30:00Z": "2026-01-31 12:30:00",
                   "2026-01-31 12:30:00.1234560": "2026-01-31 12:30:00.123456"},
     ["2026-01-31 12:30:00+02", "2026-01-31 12:30:00.1234567", "infinity", "2026-01-31 1:2", "2026-01-31 12:30:61"]),
    ("TIME", {"12:30": "12:30:00", "12:30:59.5": "12:30:59.5"}, ["1:2:3", "12:30:00.1234567", "25:00:00"]),
    ("BOOLEAN", {"true": "true", "F": "false", "1": "true"}, ["2", "on", "1.0", " true"]),
    ("BLOB", {"abc": "abc", "\\x41": "A"}, ["\u00e9", "\\x4", "a\\b"]),
    ("VARCHAR", {"": "", " 1.50 ": " 1.50 "}, []),
    ("BIGINT[]", {"[1, 2]": "[1, 2]", "[]": "[]", "[1, NULL]": "[1, NULL]"}, ["[1.5]", "1", "[1, x]", "[[1]]", "[1"]),
    ("DOUBLE[][]", {"[[1.5], [2, 3]]": "[[1.5], [2.0, 3.0]]"}, ["[[1.5], [1_0]]", "[1.5]"]),
    ("VARCHAR[]", {"[a, 'b, c']": "[a, 'b, c']"}, ["[a"]),
]  # fmt: skip
# The type and the value that are found, in SQL; the type that is stated; how DuckDB writes the value, None: not at all.
VALUES = [
    ("DOUBLE", "2.0", "BIGINT", "2"), ("DOUBLE", "1.5", "BIGINT", None), ("DOUBLE", "'nan'", "BIGINT", None),
    ("DOUBLE", "1e30", "BIGINT", None), ("UBIGINT", "18446744073709551615", "BIGINT", None),
    ("BIGINT", "300", "UTINYINT", None), ("BIGINT", "-1", "UBIGINT", None), ("BIGINT", "2", "BOOLEAN", None),
    ("BIGINT", "1", "BOOLEAN", "true"), ("BOOLEAN", "true", "BIGINT", "1"),
    ("DECIMAL(10,4)", "1.2500", "DECIMAL(8,2)", "1.25"), ("DECIMAL(10,4)", "1.2345", "DECIMAL(8,2)", None),
    ("DECIMAL(10,2)", "12345678.25", "DECIMAL(8,2)", None), ("DECIMAL(10,2)", "0.1", "DOUBLE", "0.1"),
    ("DECIMAL(10,2)", "1.50", "BIGINT", None), ("DOUBLE", "0.1", "FLOAT", "0.1"), ("DOUBLE", "1e39", "FLOAT", None),
    ("DOUBLE", "'inf'", "FLOAT", "inf"), ("BIGINT", "5", "VARCHAR", "5"), ("VARCHAR", "'5'", "BIGINT", "5"),
    ("VARCHAR", "'1.5'", "BIGINT", None), ("VARCHAR", "'many'", "BIGINT", None),
    ("VARCHAR", "'31.01.2026'", "DATE", None), ("TIMESTAMP", "'2026-01-31 00:00:00'", "DATE", "2026-01-31"),
    ("TIMESTAMP", "'2026-01-31 12:00:00'", "DATE", None), ("BLOB", "encode('\u00e9')", "VARCHAR", "\u00e9"),
    ("BLOB", "'\\xFF'::BLOB", "VARCHAR", None), ("DOUBLE[]", "[1.0, NULL]", "BIGINT[]", "[1, NULL]"),
    ("DOUBLE[]", "[1.0, 1.5]", "BIGINT[]", None), ("BIGINT", "NULL", "DATE", None),
]  # fmt: skip


def refusal(kind: str) -> str:
    return refused_values.refusal(ColumnPlace("recipe.toml: sources.clicks", "it's", kind))


def value_of(sql: str, given: str, parameters: list[str]) -> Any:
    with duckdb.connect() as connection, engine.explained("the query"):
        return connection.execute(f'SELECT ({sql})::VARCHAR FROM (SELECT {given} AS "it\'s")', parameters).fetchall()


@pytest.mark.parametrize(("kind", "good", "bad"), TEXTS, ids=[kind for kind, _, _ in TEXTS])
def test_a_text_is_the_value_that_it_says_or_refused(kind: str, good: dict[str, str], bad: list[str]) -> None:
    sql = exact_values.of_text('"it\'s"', kind, refusal(kind))
    for text, value in good.items():
        assert value_of(sql, "?", [text]) == [(value,)]
    assert value_of(sql, "NULL::VARCHAR", []) == [(None,)]
    for text in bad:
        with pytest.raises(DatasetError, match=r"^recipe\.toml: sources\.clicks: column it's: found ") as error:
            value_of(sql, "?", [text])
        assert kind.partition("[")[0] in str(error.value) or kind in refused_values.IN_WORDS


@pytest.mark.parametrize(("found", "value", "kind", "read"), VALUES, ids=str)
def test_a_value_of_another_type_stays_itself_or_is_refused(
    found: str, value: str, kind: str, read: str | None
) -> None:
    sql = exact_values.of_value('"it\'s"', found, kind, refusal(kind))
    assert sql is not None
    if read is not None or value == "NULL":
        assert value_of(sql, f"({value})::{found}", []) == [(read,)]
        return
    with pytest.raises(DatasetError, match="column it's"):
        value_of(sql, f"({value})::{found}", [])


def test_types_of_other_lists_or_with_a_time_zone_are_not_changed() -> None:
    assert exact_values.of_value("x", "BIGINT[]", "BIGINT", refusal("BIGINT")) is None
    assert exact_values.of_value("x", "TIMESTAMP WITH TIME ZONE", "TIMESTAMP", refusal("TIMESTAMP")) is None
    assert exact_values.of_value("x", "DECIMAL(6,2)", "DECIMAL(6, 2)", refusal("DECIMAL(6, 2)")) == "x"


def test_no_progress_is_drawn_and_sql_changes_no_setting(tmp_path: Path) -> None:
    with engine.opened(str(tmp_path / "rows.duckdb"), str(tmp_path), 128, 1) as connection:
        engine.confine(connection, [])
        assert engine.first_row(connection, "SELECT current_setting('enable_progress_bar')") == (False,)
        with pytest.raises(ConfigError), engine.explained("the query"):
            connection.execute("SET enable_progress_bar = true")
