"""A first recipe for files and folders makes a data set as it is, or with what it says is to be done."""

import sqlite3
from pathlib import Path

import numpy as np
import pytest

from slurm_tf.errors import UsageError
from slurm_tf.prepare import first_recipe, preparation
from tests.prepare import recipes
from tests.prepare.test_preparation import rows_of


def test_csv_with_another_delimiter(tmp_path: Path) -> None:
    rows = [f"{row};w{row % 3};{row}.5;2020-01-0{row % 9 + 1}" for row in range(40)]
    recipes.write_csv(tmp_path / "my clicks.csv", rows, "id;word;price;day")
    text = first_recipe.text_of([str(tmp_path / "my clicks.csv")])
    assert "[sources.my_clicks]" in text and 'delimiter = ";"' in text
    assert "# day has the type DATE, which no feature has" in text
    recipe = recipes.load(tmp_path, text)
    assert dict(recipe.keys.sources["my_clicks"].columns) == {
        "id": "BIGINT", "word": "VARCHAR", "price": "DOUBLE", "day": "DATE"
    }  # fmt: skip
    manifest = preparation.prepare(recipe, False, lambda _text: None)
    assert sum(split.rows for split in manifest.splits) == 40


def test_texts_that_only_duckdb_takes_for_a_type_are_text(tmp_path: Path) -> None:
    rows = [f"{row},{row % 9 + 1:02}.01.2026,{row}:00:00" for row in range(1, 10)]
    recipes.write_csv(tmp_path / "days.csv", rows, "id,day,hour")
    recipe = recipes.load(tmp_path, first_recipe.text_of([str(tmp_path / "days.csv")]))
    assert dict(recipe.keys.sources["days"].columns) == {"id": "BIGINT", "day": "VARCHAR", "hour": "VARCHAR"}


def test_sqlite_json_and_several_sources(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "shop.sqlite") as connection:
        connection.execute('create table "my users" (id integer, name text, rate real, photo blob)')
        connection.execute("insert into \"my users\" values (1, 'a', 1.5, x'00')")
    (tmp_path / "clicks.jsonl").write_text('{"id": 1, "words": ["a", "b"]}\n')
    text = first_recipe.text_of([str(tmp_path / "shop.sqlite"), str(tmp_path / "clicks.jsonl")])
    text = text.replace("{train = 0.9, test = 0.1}", "{train = 1}")
    recipe = recipes.load(tmp_path, text, {"join.sql": "SELECT * FROM my_users JOIN clicks USING (id)"})
    assert dict(recipe.keys.sources["my_users"].columns) == {
        "id": "BIGINT", "name": "VARCHAR", "rate": "DOUBLE", "photo": "BLOB"
    }  # fmt: skip
    assert dict(recipe.keys.sources["clicks"].columns) == {"id": "BIGINT", "words": "VARCHAR[]"}
    manifest = preparation.prepare(recipe, False, lambda _text: None)
    assert sum(split.rows for split in manifest.splits) == 1


def test_arrays(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    folder.mkdir()
    pixels = np.arange(12 * 4, dtype=np.float32).reshape(12, 2, 2)
    for part in range(2):
        each = slice(part * 6, part * 6 + 6)
        np.savez(folder / f"{part}.npz", pixels=pixels[each], label=np.arange(12)[each])
    text = first_recipe.text_of([str(folder)])
    text = text.replace('key = ["label"]', 'key = ["file", "row"]').replace("[-1]", "[2, 2]")
    text = text.replace("{train = 0.9, test = 0.1}", "{train = 0.5, test = 0.5}")
    manifest = preparation.prepare(recipes.load(tmp_path, text), False, lambda _text: None)
    labels = [
        row
        for split in ("train", "test")
        for row in rows_of(tmp_path / "data" / "digits", manifest, split, "label", "pixels")
    ]
    assert sorted(labels) == [(number, 4.0 * number) for number in range(12)]


@pytest.mark.parametrize(("name", "words"), [("x.xlsx", "one of .csv"), ("none.csv", "there is no")])
def test_what_cannot_be_looked_at(tmp_path: Path, name: str, words: str) -> None:
    (tmp_path / "x.xlsx").touch()
    with pytest.raises(UsageError) as error:
        first_recipe.text_of([str(tmp_path / name)])
    assert words in str(error.value)
