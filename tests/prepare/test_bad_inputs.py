"""Bad input ends a preparation with one error that names the file, line and column, and leaves nothing behind."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from slurm_tf.errors import ConfigError, DatasetError, SlurmTfError, StorageError
from slurm_tf.prepare import preparation, recipe_file
from tests.prepare import recipes
from tests.prepare.recipes import FEATURES, HEADER, recipe_text

GOOD = recipes.csv_rows(20)
HIVE = (
    '[sources.clicks]\nformat = "hive"\n[features.id]\nkind = "int64"\n[split]\nkey = ["id"]\n[output]\nfolder = "out"'
)


@dataclass(frozen=True)
class Bad:
    """A file clicks.csv and a recipe; and what the one error says."""

    name: str
    says: tuple[str, ...]
    csv: str | bytes = "\n".join([HEADER, *GOOD]) + "\n"
    recipe: str = recipe_text()
    sql: str = ""
    error: type[SlurmTfError] = DatasetError
    arrange: Callable[[Path], None] = field(default=lambda _folder: None)


def with_rows(*rows: str, header: str = HEADER) -> str:
    return "\n".join([header, *GOOD, *rows]) + "\n"


def sql(text: str) -> dict[str, str]:
    return {"recipe": recipe_text(transform='sql = "x.sql"'), "sql": text}


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def written(name: str, text: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(mode=0o700, exist_ok=True)
        (folder / name).write_text(text)

    return write


def folder_of_another(folder: Path) -> None:
    (folder / "out").mkdir()
    os.chown(folder / "out", 12345, 12345)


def link_of_another(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "out").symlink_to(folder / "real")
    os.chown(folder / "out", 12345, 12345, follow_symlinks=False)


def parquet(folder: Path) -> None:
    table = pa.table({"id": pa.array([1], pa.int32()), "country": ["a"], "price": [1.0], "clicked": [1]})
    pq.write_table(table, folder / "clicks.parquet")


def image(content: bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "photos" / "cat").mkdir(parents=True)
        (folder / "photos" / "cat" / "1.png").write_bytes(content)

    return write


IMAGES = recipe_text("photos", '[features.image]\nkind = "bytes"\n', columns="", source_format="images", key='["file"]')
LINE = "clicks.csv: line 22"
BAD = [
    Bad("ragged", (LINE, "found 3 values", "4"), with_rows("21,a,1.5")),
    Bad("too many values", (LINE, "found 5 values", "4"), with_rows("21,a,1.5,0,9")),
    Bad("wrong header", ("clicks.csv: line 1", "id,land,price,clicked".replace(",", ", "), "country"),
        with_rows(header="id,land,price,clicked")),
    Bad("columns in another order", ("clicks.csv: line 1", "order of the columns"),
        with_rows(header="country,id,price,clicked")),
    Bad("no header", ("clicks.csv: line 1", "the names of its columns"), "\n".join(GOOD)),
    Bad("another delimiter", ("clicks.csv: line 1", "delimiter"), with_rows().replace(",", ";")),
    Bad("empty file", ("clicks.csv", "the file is empty"), ""),
    Bad("header alone", ("clicks.csv: line 2", "no row"), HEADER + "\n"),
    Bad("no such file", ("clicks.csv", "no such file"), arrange=removed("clicks.csv")),
    Bad("no file of a pattern", ("*.tsv", "no such file"), recipe=recipe_text("*.tsv")),
    Bad("overflow", (LINE, "column id", "99999999999999999999", "BIGINT"), with_rows("99999999999999999999,a,1,0")),
    Bad("text in a number", (LINE, "column price", '"cheap"', "DOUBLE"), with_rows("21,a,cheap,0")),
    Bad("bad UTF-8", (LINE, "UTF-8"), with_rows().encode() + b"21,\xff\xfe,1.5,0\n"),
    Bad("bad UTF-8 in the header", ("clicks.csv: line 1", "UTF-8"), b"id,\xff\n1,2\n"),
    Bad("a quote that is not closed", (LINE, "quote"), with_rows('21,"a,1.5,0')),
    Bad("missing without a default", (LINE + ", column price", "price is missing", "id=21", "default"),
        with_rows("21,a,,0")),
    Bad("NaN", (LINE + ", column price", "price is nan", "id=21", "allow-nan"), with_rows("21,a,nan,0")),
    Bad("infinite", (LINE + ", column price", "price is inf"), with_rows("21,a,inf,0")),
    Bad("too large for float", ("price is 1e+300", "32 bits"), with_rows("21,a,1e300,0")),
    Bad("a key twice", ("clicks.csv: line 9", LINE, "two rows have the key id=7"), with_rows("7,a,1.5,0")),
    Bad("a row without a key", ("1 rows have no key", "id"), with_rows(",a,1.5,0")),
    Bad("no rows after the transform", ("there are no rows",), **sql("SELECT * FROM clicks WHERE id < 0")),  # type: ignore[arg-type]
    Bad("SQL that reads another file", ("/etc/passwd", "sources of the recipe alone"),
        **sql("SELECT * FROM read_csv('/etc/passwd', columns={'x': 'VARCHAR'}, auto_detect=false)"), error=ConfigError),  # type: ignore[arg-type]
    Bad("SQL of an unknown column", ("prize", "transform.sql"), **sql("SELECT prize FROM clicks"), error=ConfigError),  # type: ignore[arg-type]
    Bad("SQL that writes", ("one SELECT statement",), **sql("COPY clicks TO 'x.csv'"), error=ConfigError),  # type: ignore[arg-type]
    Bad("a cast that fails", ("Could not convert", "recipe.toml"),
        **sql("SELECT id, country, country::DOUBLE AS price, clicked FROM clicks")),  # type: ignore[arg-type]
    Bad("a feature without a column", ("features.prize", "no column prize", "'price'"), error=ConfigError,
        recipe=recipe_text(features=FEATURES.replace("price", "prize"))),
    Bad("a feature of another type", ("features.country", "VARCHAR", "int64"), error=ConfigError,
        recipe=recipe_text(features='[features.country]\nkind = "int64"\n')),
    Bad("a float as key", ("split.key", "DOUBLE", "CAST"), error=ConfigError, recipe=recipe_text(key='["price"]')),
    Bad("JSON that is cut off", ("clicks.jsonl: line 2", "JSON"),
        arrange=written("clicks.jsonl", '{"id":1,"country":"a"}\n{"id":2,"cou'),
        recipe=recipe_text("clicks.jsonl", source_format="jsonl")),
    Bad("JSON of another type", ("clicks.jsonl: line 1", '"many"'),
        arrange=written("clicks.jsonl", '{"id":"many"}\n'),
        recipe=recipe_text("clicks.jsonl", source_format="jsonl")),
    Bad("Parquet of another type", ("clicks.parquet: id", "INTEGER", "BIGINT"), arrange=parquet,
        recipe=recipe_text("clicks.parquet", source_format="parquet")),
    Bad("an image that is cut off", ("1.png", "no whole image"), recipe=IMAGES,
        arrange=image(b"\x89PNG\r\n\x1a\nhalf")),
    Bad("a folder without images", ("photos", "a folder a class"), recipe=IMAGES,
        arrange=lambda folder: (folder / "photos").mkdir()),
    Bad("a word with a line's end", ("features.country", "control characters"),
        with_rows('21,"a\nb",1,0', '22,"a\nb",1,0', '23,"a\nb",1,0', '24,"a\nb",1,0', '25,"a\nb",1,0')),
    Bad("a column that does not vary", ("features.price", "all values in train are 7"), error=DatasetError,
        csv="\n".join([HEADER, *(f"{row},a,7,0" for row in range(20))]),
        recipe=recipe_text(features="[features.price]\nnormalized = true\n")),
    Bad("another's folder as output", ("out", "belongs to user id"), error=DatasetError,
        arrange=folder_of_another),
    Bad("a link of another user as output", ("out", "link of user id 12345"), error=DatasetError,
        arrange=link_of_another),
    Bad("files in the output folder", ("out", "one that is empty"), error=DatasetError,
        arrange=written("out/mine", "")),
    Bad("a Hive table", ("sources.clicks", "Spark"), recipe=HIVE, error=ConfigError),
]  # fmt: skip


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.name)
def test_bad_input_is_one_error_and_nothing_is_left(tmp_path: Path, bad: Bad) -> None:
    (tmp_path / "clicks.csv").write_bytes(bad.csv if isinstance(bad.csv, bytes) else bad.csv.encode())
    bad.arrange(tmp_path)
    path = recipes.write(tmp_path, bad.recipe, {"x.sql": bad.sql})
    before = sorted(str(each) for each in tmp_path.rglob("*"))
    with pytest.raises(bad.error) as error:
        preparation.prepare(recipe_file.load(path), False, lambda _text: None)
    text = str(error.value)
    for words in bad.says:
        assert words in text
    assert "\n" not in text.replace("\nHINT: ", "") and len(text) < 600
    assert sorted(str(each) for each in tmp_path.rglob("*")) == before


@pytest.mark.skipif(os.getuid() != 0, reason="only root can mount a small file system")
def test_a_full_disk_leaves_what_goes_on(tmp_path: Path) -> None:
    recipes.write_csv(tmp_path / "clicks.csv", recipes.csv_rows(20_000))
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1300k", "none", str(small)], check=True)
    try:
        text = recipe_text(output=f'folder = "{small}/out"', top=f'cpus = 1\nscratch = "{tmp_path}/spill"')
        with pytest.raises(StorageError, match="space"):
            preparation.prepare(recipes.load(tmp_path, text), False, lambda _text: None)
        assert not (small / "out" / "manifest.json").exists()
        subprocess.run(["mount", "-o", "remount,size=16m", str(small)], check=True)
        assert preparation.prepare(recipes.load(tmp_path, text), True, lambda _text: None).split("train").rows
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_a_recipe_names_all_that_is_wrong_with_it(tmp_path: Path) -> None:
    text = recipe_text(shares="{ train = 0.8, test = 0.3 }", columns='{ id = "INT8" }').replace("kind", "kid", 1)
    with pytest.raises(ConfigError) as error:
        recipes.load(tmp_path, text)
    assert "kid" in str(error.value) and "did you mean 'kind'" in str(error.value)
    text = recipe_text(
        shares="{ train = 0.8, test = 0.3 }", columns='{ id = "INT8" }', output='folder = "x"\nshards = 0'
    )
    with pytest.raises(ConfigError) as error:
        recipes.load(tmp_path, text.replace("shards = 0", "shards = { train = 1 }"))
    for words in ("sources.clicks.columns.id", "1.1", "output.shards"):
        assert words in str(error.value)
