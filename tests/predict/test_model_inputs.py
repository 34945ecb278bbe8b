"""Rows of each format become the inputs of a signature; a value that does not fit is an error, never another value."""

from pathlib import Path
from typing import Any

import pytest

from slurm_tf.predict.prediction_plan import InputFormat

pytestmark = pytest.mark.tensorflow


def inputs(form: InputFormat, dtype: str, shape: list[int | None], rows: Any, columns: tuple[str, ...] = ("x",)) -> Any:
    """Return what the rows are for a model with the input x."""
    import tensorflow as tf

    from slurm_tf.predict.model_inputs import ModelInputs

    spec = tf.TensorSpec([None, *shape], tf.dtypes.as_dtype(dtype), "x")
    return ModelInputs(form, {"x": spec}, columns).of(rows)["x"].numpy().tolist()


@pytest.mark.parametrize(
    ("dtype", "shape", "lines", "expected"),
    [
        ("int64", [], [b'{"x": 9007199254740993}', b"7"], [9007199254740993, 7]),
        ("float32", [2], [b'{"x": [1, 2.5]}', b"[true, -3]"], [[1, 2.5], [1, -3]]),
        ("float32", [1], [b"7"], [[7.0]]),
        ("string", [2], ['["ä", ""]'.encode()], [["ä".encode(), b""]]),
        ("bool", [], [b"true"], [True]),
    ],
)
def test_lines_of_json(dtype: str, shape: list[int | None], lines: list[bytes], expected: Any) -> None:
    assert inputs(InputFormat.JSONL, dtype, shape, lines) == expected


def test_what_json_has_and_python_reads_is_read() -> None:
    (found,) = inputs(InputFormat.JSONL, "float32", [], [b'{"x": NaN}'])
    assert found != found


@pytest.mark.parametrize(
    ("dtype", "shape", "line", "message"),
    [
        ("int64", [], b"1.5", "x is no int64"),
        ("int8", [], b"300", "x is no int8"),
        ("uint8", [], b"-1", "x is no uint8"),
        ("int64", [], b"1e400", "int64|infinity"),
        ("int64", [], b"123456789012345678901234567890", "x is no number"),
        ("float32", [], b'"7"', "x is no number"),
        ("float32", [2], b"[[1, 2]]", "x has the shape"),
        ("string", [], b"7", "found 7; needed text"),
        ("float32", [], b'{"x": null}', "x is missing"),
        ("float32", [], b"1, 2", "Extra data"),
    ],
)
def test_a_value_that_does_not_fit_is_an_error(dtype: str, shape: list[int | None], line: bytes, message: str) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        inputs(InputFormat.JSONL, dtype, shape, [line])


def test_cells_of_csv_are_read_as_the_model_takes_them() -> None:
    rows = [["1", "tRUE", "a"], ["-2", "0", "b"]]
    columns = ("n", "b", "x")
    assert inputs(InputFormat.CSV, "string", [], rows, columns) == [b"a", b"b"]
    assert inputs(InputFormat.CSV, "int64", [], [["9007199254740993"]]) == [9007199254740993]
    assert inputs(InputFormat.CSV, "bool", [], [["tRUE"], ["0"]]) == [True, False]
    assert inputs(InputFormat.CSV, "float32", [2], [["[1, 2]"]]) == [[1, 2]]
    assert inputs(InputFormat.CSV, "float32", [2], [["1", "2"]], ("a", "b")) == [[1, 2]]
    assert inputs(InputFormat.CSV, "string", [2], [["1", "ä"]], ("a", "b")) == [[b"1", "ä".encode()]]
    assert inputs(InputFormat.CSV, "int64", [2], [["1", "9007199254740993"]], ("a", "b")) == [[1, 9007199254740993]]
    for dtype, cell in (("int64", "1.5"), ("float32", ""), ("bool", "yes"), ("int8", "200"), ("float32", "7 8")):
        with pytest.raises(ValueError, match=r"invalid literal|could not convert|needed true|is no int8"):
            inputs(InputFormat.CSV, dtype, [], [[cell]])
    with pytest.raises(ValueError, match="x is missing"):
        inputs(InputFormat.CSV, "float32", [], [["a", "1"], ["b"]], ("a", "x"))
    with pytest.raises(ValueError, match="it has 1 columns; needed 2"):
        inputs(InputFormat.CSV, "float32", [2], [["1", "2"], ["3"]], ("a", "b"))


def test_columns_of_parquet_are_arrays_where_they_can_be(tmp_path: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    from slurm_tf.predict import parquet_rows

    table = pa.table(
        {
            "n": pa.array([1, 2, 3], pa.int32()),
            "list": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.float32())),
            "fixed": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.float32(), 2)),
            "nested": pa.array([[[1], [2]], [[3], [4]], [[5], [6]]]),
            "ragged": [[1], [2, 3, 4], []],
            "null": [1, None, 3],
            "text": ["a", "ä", ""],
        }
    )
    parquet.write_table(table, tmp_path / "a.parquet", row_group_size=2)
    path, names = str(tmp_path / "a.parquet"), table.column_names
    assert [len(each) for each in parquet_rows.tables(path, names, 0, 3, 2)] == [2, 1]
    found = parquet_rows.joined(
        [*parquet_rows.tables(path, names, 1, 1, 10), *parquet_rows.tables(path, names, 2, 9, 10)]
    )
    values = {name: parquet_rows.values(found, name) for name in table.column_names}
    assert {name: value if isinstance(value, list) else value.tolist() for name, value in values.items()} == {
        "n": [2, 3], "list": [[3, 4], [5, 6]], "fixed": [[3, 4], [5, 6]], "nested": [[[3], [4]], [[5], [6]]],
        "ragged": [[2, 3, 4], []], "null": [None, 3], "text": ["ä", ""],
    }  # fmt: skip
    assert [name for name, value in values.items() if not isinstance(value, list)] == ["n", "list", "fixed", "nested"]
    assert inputs(InputFormat.PARQUET, "int64", [], found.rename_columns(["x", *table.column_names[1:]])) == [2, 3]
