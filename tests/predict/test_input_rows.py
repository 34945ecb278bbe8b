"""Rows are counted and divided in their order, whatever stands in them."""

import csv
import gzip
import json
import random
from pathlib import Path

import pytest

from slurm_tf.errors import DatasetError, UsageError
from slurm_tf.predict import input_columns, input_rows
from slurm_tf.predict.prediction_plan import InputFormat, Part


def test_every_row_is_in_one_shard_and_in_its_order(tmp_path: Path) -> None:
    randomness = random.Random(1)
    expected: list[list[str]] = []
    for number in range(7):
        rows = [
            [str(randomness.random()), randomness.choice(["plain", 'a "quote"', "two\nlines\n\n", "ä,ö", ""]), "x"]
            for _ in range(randomness.choice([0, 1, 5, 40]))
        ]
        expected += rows
        with (tmp_path / f"{number}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["a", "b", "c"])
            writer.writerows(rows)
            file.write("\n" * randomness.choice([0, 2]))
    paths = input_rows.find(f"{tmp_path}/*.csv")
    for shards, batch in ((1, 1), (3, 4), (5, 8), (1000, 1), (2, 1000)):
        files, parts = input_rows.divide(paths, InputFormat.CSV, shards, batch)
        assert sum(file.rows for file in files) == len(expected)
        assert len(parts) <= shards
        sizes = [sum(part.rows for part in shard) for shard in parts]
        assert all(size % batch == 0 and size == sizes[0] for size in sizes[:-1])
        found: list[list[str]] = []
        for part in (part for shard in parts for part in shard):
            with Path(files[part.file].path).open("rb") as raw:
                raw.seek(part.start)
                text = raw.read().decode()
            rows_after = [row for row in csv.reader(text.splitlines(keepends=True)) if row]
            found += rows_after[: part.rows]
        assert found == expected


def test_blank_lines_are_no_rows_and_a_last_line_needs_no_break(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b'{"x": 1}\n\n  \n{"x": 2}\r\n{"x": 3}')
    files, parts = input_rows.divide([str(tmp_path / "a.jsonl")], InputFormat.JSONL, 3, 1)
    assert files[0].rows == 3
    lines = (tmp_path / "a.jsonl").read_bytes()
    assert [json.loads(lines[part.start :].splitlines()[0])["x"] for (part,) in parts] == [1, 2, 3]


def test_records_are_counted_also_compressed_and_a_torn_file_is_named(tmp_path: Path) -> None:
    record = (5).to_bytes(8, "little") + b"sums" + b"12345" + b"sums"
    (tmp_path / "a.tfrecord").write_bytes(record * 10)
    (tmp_path / "b.tfrecord.gz").write_bytes(gzip.compress(record * 3))
    files, parts = input_rows.divide(input_rows.find(f"{tmp_path}/*"), InputFormat.TFRECORD, 4, 2)
    assert [file.rows for file in files] == [10, 3]
    assert parts == (
        (Part(0, 0, 4),), (Part(0, 4, 4),), (Part(0, 8, 2), Part(1, 0, 2)), (Part(1, 2, 1),),
    )  # fmt: skip
    (tmp_path / "a.tfrecord").write_bytes(record * 10 + record[:-2])
    with pytest.raises(DatasetError, match="ends within a record"):
        input_rows.divide([str(tmp_path / "a.tfrecord")], InputFormat.TFRECORD, 1, 1)


def test_rows_of_compressed_text_are_those_of_the_text_and_a_torn_file_is_named(tmp_path: Path) -> None:
    text = b'\xef\xbb\xbfa,b\n1,"two\nlines"\n\n2,x\n3,y'
    (tmp_path / "a.csv").write_bytes(text)
    # as of two files that were compressed one by one and joined
    (tmp_path / "b.CSV.gz").write_bytes(gzip.compress(text[:9]) + gzip.compress(text[9:]))
    paths = input_rows.find(f"{tmp_path}/*")
    assert input_rows.format_of(paths) is InputFormat.CSV
    (plain, compressed), shards = input_rows.divide(paths, InputFormat.CSV, 6, 1)
    assert (plain.rows, compressed.rows) == (3, 3)
    starts = [(part.file, part.start) for (part,) in shards]
    assert starts == [(file, text.index(row)) for file in (0, 1) for row in (b"1,", b"2,", b"3,")]
    assert input_columns.header(paths[1]) == ["a", "b"]
    for damaged in (gzip.compress(text)[:-9], b"no gzip", gzip.compress(text)[:10] + b"\xff" * 20):
        (tmp_path / "b.CSV.gz").write_bytes(damaged)
        with pytest.raises(DatasetError, match=r"b\.CSV\.gz: it is damaged"):
            input_rows.divide(paths, InputFormat.CSV, 1, 1)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], "no file is named by"),
        (["a.csv", "a.jsonl"], "found files of csv, jsonl; needed files of one format"),
        (["a.xlsx"], "found the file .*a.xlsx; needed files whose names end with"),
    ],
)
def test_what_cannot_be_read_is_refused(tmp_path: Path, names: list[str], message: str) -> None:
    for name in names:
        (tmp_path / name).write_text("x\n")
    with pytest.raises(UsageError, match=message):
        input_rows.format_of(input_rows.find(f"{tmp_path}/*"))


def test_no_rows_and_an_open_quote_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n")
    with pytest.raises(DatasetError, match="the input has no rows"):
        input_rows.divide([str(tmp_path / "a.csv")], InputFormat.CSV, 1, 1)
    (tmp_path / "a.csv").write_text('a,b\n1,"2\n3,4\n')
    with pytest.raises(DatasetError, match="a quoted value does not end"):
        input_rows.divide([str(tmp_path / "a.csv")], InputFormat.CSV, 1, 1)
