"""JSON lines become records whose values are those of the lines, exactly."""

from pathlib import Path

from tests.prepare import recipes
from tests.prepare.test_preparation import prepared, rows_of


def test_json_lines_are_read_exactly(tmp_path: Path) -> None:
    lines = [
        '\ufeff{"id": 9007199254740993, "cents": 12345678901234567.25, "day": "2026-01-31", "raw": "\\\\xFF", '
        '"word": "\\u00e9", "ok": true, "deep": [[1], []], "wide": 99999999999999999999}',
        "", '  {"id": 1, "cents": "0.50", "day": null, "raw": "a"}  ', '{"id": 2, "cents": 1}',
    ]  # fmt: skip
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    columns = (
        '{ id = "BIGINT", cents = "DECIMAL(20, 2)", day = "DATE", raw = "BLOB", word = "VARCHAR", ok = "BOOLEAN", '
        'deep = "BIGINT[][]", wide = "HUGEINT" }'
    )
    names = ("cents", "day", "raw", "word", "ok", "deep", "wide")
    sql = f"SELECT id, {', '.join(f'coalesce({name}::VARCHAR, chr(45)) AS {name}' for name in names)} FROM clicks"
    features = "".join(f'[features.{name}]\nkind = "bytes"\n' for name in names)
    text = recipes.recipe_text(
        "rows.jsonl", '[features.id]\nkind = "int64"\n' + features, columns=columns, source_format="jsonl",
        transform='sql = "x.sql"', shares="{ train = 1 }",
    )  # fmt: skip
    manifest = prepared(tmp_path, text, {"x.sql": sql})
    assert sorted(rows_of(tmp_path / "out", manifest, "train", "id", *names)) == [
        (1, b"0.50", b"-", b"a", b"-", b"-", b"-", b"-"),
        (2, b"1.00", b"-", b"-", b"-", b"-", b"-", b"-"),
        (9007199254740993, b"12345678901234567.25", b"2026-01-31", b"\\xFF", "\u00e9".encode(), b"true",
         b"[[1], []]", b"99999999999999999999"),
    ]  # fmt: skip
