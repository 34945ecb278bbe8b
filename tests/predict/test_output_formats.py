"""Each format of the output has the same rows, read here by the libraries of others, whatever stands in the input."""

import csv
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.errors import DatasetError, ModelError, UsageError
from slurm_tf.predict import batch_prediction, prediction_plan
from slurm_tf.predict.prediction_plan import OutputFormat
from tests.predict.test_interrupted_shards import _AT_CALL, interrupted
from tests.predict.test_predict import compute, request, shard_process, vectors, write_csv

pytestmark = pytest.mark.tensorflow

# Names and values that mean something to a spreadsheet, a shell, a page, a path, a terminal, or to CSV itself.
HOSTILE = [
    "=cmd|' /C calc'!A0", 'a,"b"\r\nc', "</script><script>", "../../x", "\x1b[31m", "$(id)`id`", "\u202eä\u2028", " ",
    "'", "a\x00b", "NaN", "null", "-rows-0-4-errors-0",
]  # fmt: skip
ID = HOSTILE[0]


def parts(output: Path) -> list[Path]:
    manifest = prediction_plan.read_manifest(str(output))
    assert manifest
    return [output / shard.output for shard in manifest.shards]


def of_json(paths: list[Path]) -> list[dict[str, Any]]:
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def of_csv(paths: list[Path]) -> list[dict[str, Any]]:
    csv.field_size_limit(sys.maxsize)
    found: list[dict[str, Any]] = []
    for path in paths:
        with path.open(newline="", encoding="utf-8") as file:
            found += [{name: value for name, value in row.items() if value != ""} for row in csv.DictReader(file)]
    return found


def of_parquet(paths: list[Path]) -> list[dict[str, Any]]:
    from pyarrow import parquet

    rows = [row for path in paths for row in parquet.read_table(path).to_pylist()]
    return [{name: value for name, value in row.items() if value is not None} for row in rows]


def of_records(paths: list[Path]) -> list[dict[str, Any]]:
    import tensorflow as tf

    found = []
    for record in tf.data.TFRecordDataset(list(map(str, paths))).as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        row = {name: list(getattr(features[name], features[name].WhichOneof("kind")).value) for name in features}
        found.append({name: values[0] if len(values) == 1 else values for name, values in row.items()})
    return found


READ: dict[OutputFormat, Callable[[list[Path]], list[dict[str, Any]]]] = {
    OutputFormat.JSONL: of_json, OutputFormat.CSV: of_csv, OutputFormat.PARQUET: of_parquet,
    OutputFormat.TFRECORD: of_records,
}  # fmt: skip


def as_text(value: Any) -> Any:
    """Return a value as it is after a way through text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def begin(model: Path, inputs: Path, output: Path, **more: Any) -> Path:
    batch_prediction.prepare(request(model, inputs, output, **more))
    return output


@pytest.mark.parametrize("form", OutputFormat)
def test_hostile_names_and_values_and_rows_that_fail(form: OutputFormat, model: Path, tmp_path: Path) -> None:
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["n", "text", *HOSTILE])
        for number, value in enumerate(HOSTILE):
            writer.writerow([number if number % 5 else "1.5", value, *[f"{number}{value}"] * len(HOSTILE)])
    keep = (*HOSTILE, "text")
    output = begin(
        model, tmp_path / "a.csv", tmp_path / "out", signature="named", output_format=form, keep=keep, max_errors=9,
        shards=2,
    )  # fmt: skip
    said = compute(output)
    assert "\x1b" not in said
    rows = READ[form](parts(output))
    assert len(rows) == len(HOSTILE)
    for number, (row, value) in enumerate(zip(rows, HOSTILE, strict=True)):
        found = {name: as_text(each) for name, each in row.items()}
        assert {name: found.pop(name) for name in keep} == {**dict.fromkeys(HOSTILE, f"{number}{value}"), "text": value}
        if number % 5:
            assert found == {"joined": f"{value}{number}", "twice": str(2 * number)}
        else:
            assert found.keys() == {"error"}
            assert "invalid literal" in found["error"]
    manifest = prediction_plan.read_manifest(str(output))
    assert manifest
    assert (manifest.rows, manifest.errors) == (13, 3)


@pytest.mark.parametrize(
    "form",
    [
        OutputFormat.PARQUET,
        pytest.param(OutputFormat.CSV, marks=pytest.mark.long),
        pytest.param(OutputFormat.TFRECORD, marks=pytest.mark.long),
    ],
)
def test_a_shard_that_was_killed_has_the_rows_of_one_that_was_not(
    form: OutputFormat, model: Path, tmp_path: Path
) -> None:
    write_csv(tmp_path / "a.csv", vectors(50))
    one = begin(model, tmp_path / "a.csv", tmp_path / "one", output_format=form, keep=("b",))
    compute(one)
    output = begin(model, tmp_path / "a.csv", tmp_path / "out", output_format=form, keep=("b",), save_every=0.0)
    assert interrupted(_AT_CALL, output, "pieces", "end", 4)[0] == -9
    assert "goes on: 12 of 50 rows" in compute(output)
    rows = READ[form](parts(output))
    assert rows == READ[form](parts(one))
    assert len(rows) == 50
    assert rows[0].keys() == {"b", "y"}


def test_values_of_each_type_and_shape(tmp_path: Path) -> None:
    import numpy as np

    from slurm_tf.predict.answers import Answers, Output
    from slurm_tf.predict.output_files import OutputFiles

    nan, inf = float("nan"), float("inf")
    arrays: dict[str, np.ndarray[Any, Any]] = {
        "b": np.array([True, False]), "d": np.array([0.1, nan]), "f": np.array([0.1, -inf], "float32"),
        "g": np.zeros([2, 0], "float32"), "i": np.array([-(2**63), 2**63 - 1]),
        "m": np.arange(12, dtype="int32").reshape(2, 3, 2), "t": np.array([b"\xff\x00", "ä".encode()], object),
        "u": np.array([[b"a", b"\xff"], [b"", b"b"]], object),
    }  # fmt: skip
    outputs = [Output(name, array.dtype, array.ndim) for name, array in arrays.items()]
    for form in OutputFormat:
        plan = prediction_plan.Plan("v", "", prediction_plan.InputFormat.JSONL, (), ((),), 1, 0, 1.0, form, ("k",))
        writer = OutputFiles(plan, outputs).open(str(tmp_path / form.value), is_first=True)
        kept = ["\ud800", {"x": [1, None, nan, 10**30, b"\xff"]}]
        writer.write(Answers(2, arrays, {"k": kept}))
        writer.write(Answers(1, {}, {"k": [None]}, "ö"))
        writer.close()
    found = {form: read([tmp_path / form.value]) for form, read in READ.items()}
    big = '{"x":[1,null,NaN,1000000000000000000000000000000,{"b64":"/w=="}]}'
    cut, largest = float(np.float32(0.1)), 2**63 - 1
    one = {"b": True, "d": 0.1, "f": cut, "g": [], "i": -(2**63), "m": [[0, 1], [2, 3], [4, 5]]}
    two = {"b": False, "d": nan, "f": -inf, "g": [], "i": largest, "m": [[6, 7], [8, 9], [10, 11]]}
    assert repr(found[OutputFormat.JSONL]) == repr(
        [
            {"k": "\ud800", **one, "t": {"b64": "/wA="}, "u": ["a", {"b64": "/w=="}]},
            {"k": json.loads(big), **two, "t": "ä", "u": ["", "b"]},
            {"k": None, "error": "ö"},
        ]
    )
    assert found[OutputFormat.CSV] == [
        {"k": '"\\ud800"', "b": "true", "d": "0.1", "f": str(cut), "g": "[]", "i": str(-(2**63)),
         "m": "[[0,1],[2,3],[4,5]]", "t": '{"b64":"/wA="}', "u": '["a",{"b64":"/w=="}]'},
        {"k": big, "b": "false", "d": "nan", "f": "-inf", "g": "[]", "i": str(largest),
         "m": "[[6,7],[8,9],[10,11]]", "t": "ä", "u": '["","b"]'},
        {"error": "ö"},
    ]  # fmt: skip
    assert repr(found[OutputFormat.PARQUET]) == repr(
        [
            {"k": '"\\ud800"', **one, "t": b"\xff\x00", "u": [b"a", b"\xff"]},
            {"k": big, **two, "t": "ä".encode(), "u": [b"", b"b"]},
            {"error": "ö"},
        ]
    )
    assert [repr(dict(sorted(row.items()))) for row in found[OutputFormat.TFRECORD]] == [
        repr({"b": 1, "d": cut, "f": cut, "g": [], "i": -(2**63), "k": b'"\\ud800"', "m": list(range(6)),
              "t": b"\xff\x00", "u": [b"a", b"\xff"]}),
        repr({"b": 0, "d": nan, "f": -inf, "g": [], "i": largest, "k": big.encode(), "m": list(range(6, 12)),
              "t": "ä".encode(), "u": [b"", b"b"]}),
        repr({"error": "ö".encode()}),
    ]  # fmt: skip


def test_what_is_kept_of_parquet_has_its_type_and_of_other_formats_its_value(model: Path, tmp_path: Path) -> None:
    import datetime
    import decimal

    import pyarrow as pa
    from pyarrow import parquet

    day = datetime.date(2026, 11, 28)
    columns: dict[str, Any] = {
        "n": [1, 2], "text": ["a", "b"], "day": [day, None], "cost": [decimal.Decimal("1.10"), decimal.Decimal("2.00")],
        "list": [[1, None], []], "list.element": ["x", "y"], "\x1b;'\"--": ["'", '"'],
    }  # fmt: skip
    parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    keep = ("day", "cost", "list", "list.element", "\x1b;'\"--")
    for form in (OutputFormat.PARQUET, OutputFormat.JSONL):
        output = begin(
            model, tmp_path / "a.parquet", tmp_path / form.value, signature="named", output_format=form, keep=keep
        )
        compute(output)
    (path,) = parts(tmp_path / "parquet")
    schema = parquet.read_schema(path)
    assert schema.names == [*keep, "joined", "twice", "error"]
    assert [str(schema.field(name).type) for name in schema.names] == [
        "date32[day]", "decimal128(3, 2)", "list<element: int64>", "string", "string", "binary", "int64", "string",
    ]  # fmt: skip
    assert of_parquet([path])[0] == {
        "day": day, "cost": decimal.Decimal("1.10"), "list": [1, None], "list.element": "x", keep[-1]: "'",
        "joined": b"a1", "twice": 2,
    }  # fmt: skip
    assert of_json(parts(tmp_path / "jsonl")) == [
        {"day": "2026-11-28", "cost": "1.10", "list": [1, None], "list.element": "x", keep[-1]: "'", "joined": "a1",
         "twice": 2},
        {"day": None, "cost": "2.00", "list": [], "list.element": "y", keep[-1]: '"', "joined": "b2", "twice": 4},
    ]  # fmt: skip


def test_what_is_kept_of_records_lines_and_images(model: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    with tf.io.TFRecordWriter(str(tmp_path / "a.tfrecord")) as writer:
        for n in (1, 2):
            features = {
                "n": tf.train.Feature(int64_list=tf.train.Int64List(value=[n])),
                "text": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"a"])),
                "more": tf.train.Feature(float_list=tf.train.FloatList(value=[0.5] * n)),
            }
            writer.write(tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString())
        writer.write(b"\xff\xff no example")
    output = begin(
        model, tmp_path / "a.tfrecord", tmp_path / "r", signature="named", keep=("more", "none"), max_errors=1
    )
    compute(output)
    rows = of_json(parts(output))
    assert rows[:2] == [
        {"more": 0.5, "none": None, "joined": "a1", "twice": 2},
        {"more": [0.5, 0.5], "none": None, "joined": "a2", "twice": 4},
    ]
    assert rows[2].keys() == {"more", "none", "error"}
    (tmp_path / "a.jsonl").write_text(
        '{"n": 1, "text": "a", "id": [1]}\n{"n": 1, "text": "a"}\n{"id": 7}\nno json\n[]\n'
    )
    output = begin(model, tmp_path / "a.jsonl", tmp_path / "l", signature="named", keep=("id",), max_errors=3)
    compute(output)
    rows = of_json(parts(output))
    assert [(row["id"], "error" in row) for row in rows] == [
        ([1], False), (None, False), (7, True), (None, True), (None, True),
    ]  # fmt: skip
    tf.io.write_file(str(tmp_path / "1.png"), tf.io.encode_png(tf.zeros([4, 4, 3], tf.uint8)))
    output = begin(
        model, tmp_path / "*.png", tmp_path / "i", signature="image", keep=("file",), output_format=OutputFormat.CSV
    )
    compute(output)
    assert of_csv(parts(output)) == [{"file": str(tmp_path / "1.png"), "mean": "[0.0,0.0,0.0]"}]


def test_names_that_would_be_there_twice_are_refused(model: Path, tmp_path: Path) -> None:
    from slurm_tf.predict import answers

    (tmp_path / "a.csv").write_text("n,text,twice,error\n1,a,b,c\n")
    (tmp_path / "b.csv").write_bytes(b"n,\xff\n1,a\n")
    for keep, message in (
        (("no\x1b[31m",), r"--keep names 'no\\x1b\[31m'; needed one of 'n', 'text', 'twice', 'error'"),
        (("n", "n"), "--keep names 'n'; needed columns, each once"), (("",), "--keep names ''"),
        (("error",), "--keep names 'error'; needed columns, each once, and none of the name error"),
    ):  # fmt: skip
        with pytest.raises(UsageError, match=message):
            begin(model, tmp_path / "a.csv", tmp_path / "o", signature="named", keep=keep)
    with pytest.raises(ModelError, match="it has an output 'twice', and --keep names a column 'twice'"):
        begin(model, tmp_path / "a.csv", tmp_path / "o", signature="named", keep=("twice",))
    with pytest.raises(DatasetError, match="its header cannot be read"):
        begin(model, tmp_path / "b.csv", tmp_path / "o", signature="named", keep=("n",))
    with pytest.raises(ModelError, match="it has an output error"):
        answers.check_names("v", ["error"], ())
    assert not (tmp_path / "o").exists()
    (tmp_path / "twice.csv").write_text("n,text,id,id\n1,a,b,c\n")
    with pytest.raises(DatasetError, match=r"twice.csv: it has 2 columns 'id'; needed one"):
        begin(model, tmp_path / "twice.csv", tmp_path / "o", signature="named", keep=("id",))
    (tmp_path / "c.csv").write_text("n,text\n1,a\n")
    (tmp_path / "d.csv").write_text("text,n\na,1\n")
    output = begin(model, tmp_path / "[cd].csv", tmp_path / "o", signature="named", batch_size=1, keep=("n",))
    process = shard_process(output, "0")
    assert "d.csv: its columns are 'text', 'n'; needed 'n', 'text'" in process.communicate(timeout=60)[1]
    assert process.returncode == 65


def test_a_python_without_msgspec_writes_the_same_values(model: Path, tmp_path: Path) -> None:
    rows = ['{"n": 1, "text": "ä\\u0000", "id": 1e-7}', '{"n": 2, "text": "b", "id": NaN}', "no json"]
    rows.append('{"n": ' + 100_000 * "[" + 100_000 * "]" + "}")
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    found = []
    program = "from slurm_tf.predict import shard_process; shard_process.main()"
    for name, code in (("with", program), ("without", f"import sys; sys.modules['msgspec'] = None\n{program}")):
        output = begin(
            model, tmp_path / "a.jsonl", tmp_path / name, signature="named", keep=("id",), max_errors=2, batch_size=1
        )
        returned, said = interrupted(code, output, "all")
        assert returned == 0, said
        found.append(of_json(parts(output)))
    assert repr(found[0]) == repr(found[1])
    assert [row.get("joined") for row in found[0]] == ["ä\x001", "b2", None, None]
    assert found[0][3]["error"] == "it is nested too deeply"
