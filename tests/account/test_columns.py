"""The tables of accounting: DuckDB takes their columns, and docs/usage.md names each with its meaning."""

import duckdb
import pytest

from slurm_tf.account import columns
from slurm_tf.account.columns import JOBS, OF_RUNS, STEPS, TABLES, Column
from slurm_tf.slurm.sacct_fields import KNOWN
from tests.conftest import ROOT

_PAGE = ROOT / "docs" / "usage.md"
_BEGIN, _END = "<!-- tables: begin -->\n", "<!-- tables: end -->\n"


def test_duckdb_has_tables_of_these_columns() -> None:
    with duckdb.connect() as database:
        for table, wanted in TABLES.items():
            database.execute(columns.create(table, wanted))
            found = [(name, kind) for name, kind, *_ in database.execute(f"describe {table}").fetchall()]
            assert found == [(column.name, column.type) for column in wanted]


def test_columns_are_read_from_fields_of_sacct() -> None:
    for column in (*JOBS, *STEPS, *OF_RUNS):
        parts = {word for field in column.fields for word in field.split() if word not in "+-x"}
        assert parts <= KNOWN, column


def test_the_page_names_every_column(request: pytest.FixtureRequest) -> None:
    head, begin, rest = _PAGE.read_text().partition(_BEGIN)
    found, end, tail = rest.partition(_END)
    wanted = "\n".join(["", *_table("`jobs`", (*JOBS, *OF_RUNS)), "", *_table("`steps`", STEPS), "", ""])
    if request.config.getoption("--update-golden"):
        _PAGE.write_text(head + begin + wanted + end + tail)
    else:
        assert found == wanted, "pytest --update-golden tests/account/test_columns.py writes it anew"


def _table(title: str, table: tuple[Column, ...]) -> list[str]:
    lines = [f"| column of {title} | type | meaning | read from |", "|---|---|---|---|"]
    for each in table:
        fields = ", else ".join(f"`{field}`" for field in each.fields)
        lines.append(f"| `{each.name}` | {each.type} | {each.meaning} | {fields} |")
    return lines
