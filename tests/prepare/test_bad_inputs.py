"""Bad input ends a preparation with one error that names the file, line and column, and leaves nothing behind."""

import base64
import os
import struct
import subprocess
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
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
    # of a file clicks.jsonl in place of clicks.csv
    json_lines: tuple[str | bytes, ...] = ()


def with_rows(*rows: str, header: str = HEADER) -> str:
    return "\n".join([header, *GOOD, *rows]) + "\n"


def sql(text: str) -> dict[str, str]:
    return {"recipe": recipe_text(transform='sql = "x.sql"'), "sql": text}


def removed(name: str) -> Callable[[Path], None]:
    return lambda folder: (folder / name).unlink()


def written(name: str, content: str | bytes) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / name).parent.mkdir(mode=0o700, exist_ok=True)
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())

    return write


def folder_of_another(folder: Path) -> None:
    (folder / "out").mkdir()
    os.chown(folder / "out", 12345, 12345)


def link_of_another(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "out").symlink_to(folder / "real")
    os.chown(folder / "out", 12345, 12345, follow_symlinks=False)


def parquet(folder: Path, name: str = "clicks.parquet", **others: object) -> Path:
    columns = {"id": pa.array([1], pa.int64()), "country": ["a"], "price": [1.0], "clicked": [1], **others}
    pq.write_table(pa.table({name: values for name, values in columns.items() if values is not None}), folder / name)
    return folder / name


def parquet_with(**columns: object) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        parquet(folder, "clicks.parquet", **columns)

    return write


def cut_parquet(folder: Path) -> None:
    path = parquet(folder)
    path.write_bytes(path.read_bytes()[:-20])


def changed_parquet(folder: Path) -> None:
    parquet(folder)
    parquet(folder, "clicks-2.parquet", price=["1.0"])


def png(size: int = 3) -> bytes:
    """Return a whole PNG file of gray pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    pixels = zlib.compress(bytes(size * (size + 1)))
    header = struct.pack(">IIBBBBB", size, size, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


def image(content: bytes, name: str = "cat/1.png") -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "photos" / "dog").mkdir(parents=True)
        (folder / "photos" / "dog" / "0.png").write_bytes(png())
        (folder / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "photos" / name).write_bytes(content)

    return write


def class_without_images(folder: Path) -> None:
    image(png())(folder)
    (folder / "photos" / "bird").mkdir()


def arrays(**columns: object) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "arrays").mkdir()
        for name, values in columns.items():
            np.save(folder / "arrays" / f"{name}.npy", np.array(values))

    return write


ARRAYS = recipe_text(
    "arrays", '[features.id]\nkind = "int64"\n[features.x]\nkind = "float"\nshape = [2]\n',
    columns='{ id = "BIGINT", x = "FLOAT[]" }', source_format="arrays",
)  # fmt: skip
PARQUET = recipe_text("clicks*.parquet", source_format="parquet")
# a JPEG file of 8 x 8 gray pixels, as libjpeg writes it
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAFA3PEY8MlBGQUZaVVBfeMiCeG5uePWvuZHI////////////////////////////////"
    "////////////////////wAALCAAIAAgBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAAP/EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAI"
    "AQEAAD8AP//Z"
)
IMAGES = recipe_text("photos", '[features.image]\nkind = "bytes"\n', columns="", source_format="images", key='["file"]')
LINE = "clicks.csv: line 22"
FIRST = '{"id":1,"country":"a","price":1,"clicked":0}'
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
    Bad("a fraction in integers", (LINE + ", column id", '"1.5"', "an integer"), with_rows("1.5,a,1,0")),
    Bad("a hexadecimal number", (LINE + ", column clicked", '"0x10"', "BIGINT"), with_rows("21,a,1,0x10")),
    Bad("a number with _", (LINE + ", column price", '"1_0"', "DOUBLE"), with_rows("21,a,1_0,0")),
    Bad("text that overflows to infinity", (LINE + ", column price", '"1e400"'), with_rows("21,a,1e400,0")),
    Bad("a wrong value after a value of two lines", ("clicks.csv: line 24, column id", '"x"'),
        with_rows('21,"a\na",1,0', "x,a,1,0")),
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
    Bad("a split without rows", ("the split test has none of 20 rows", "larger share"),
        recipe=recipe_text(shares="{ train = 0.999999, test = 0.000001 }")),
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
    Bad("JSON that is cut off", ("clicks.jsonl: line 2", "JSON"), json_lines=(FIRST, '{"id":2,"cou')),
    Bad("JSON of another type", ("clicks.jsonl: line 2, column id", '"many"', "BIGINT"),
        json_lines=(FIRST, '{"id":"many"}')),
    Bad("a fraction of JSON in integers", ("clicks.jsonl: line 4, column id", "found 1.5", "BIGINT"),
        json_lines=(FIRST, "", '{"id":7}', '{"price":2,"id":1.5}')),
    Bad("a text of JSON in integers", ("clicks.jsonl: line 2, column id", 'found "7"'),
        json_lines=(FIRST, '{"id":"7"}')),
    Bad("an overflow of JSON", ("clicks.jsonl: line 2", "too big"), json_lines=(FIRST, '{"id":7,"price":1e400}')),
    Bad("a date of JSON in another form", ("clicks.jsonl: line 2, column country", '"5.1.2026"', "2026-01-31"),
        json_lines=(FIRST.replace('"a"', '"2026-01-01"'), '{"id":2,"country":"5.1.2026"}'),
        recipe=recipe_text(columns=recipes.COLUMNS.replace("VARCHAR", "DATE"), transform='sql = "x.sql"'),
        sql="SELECT id, year(country)::VARCHAR AS country, price, clicked FROM clicks"),
    Bad("an unknown key of JSON", ("clicks.jsonl: line 2", "'prise'", "did you mean 'price'"),
        json_lines=(FIRST, '{"id":2,"prise":1}')),
    Bad("a key of JSON twice", ("clicks.jsonl: line 2", "'id' twice"), json_lines=(FIRST, '{"id":2,"id":3}')),
    Bad("a line of JSON that is null", ("clicks.jsonl: line 2", "found null", "one object"),
        json_lines=(FIRST, "null")),
    Bad("a line of JSON that is a list", ("clicks.jsonl: line 2", "found [1]"), json_lines=(FIRST, "[1]")),
    Bad("two objects of JSON on a line", ("clicks.jsonl: line 3", "JSON"),
        json_lines=(FIRST, '{"id":2}', '{"id":3} {"id":4}')),
    Bad("bad UTF-8 in JSON", ("clicks.jsonl: line 2", "UTF-8"), json_lines=(FIRST, b'{"id":2,"country":"\xff"}')),
    Bad("Parquet of another type", ("clicks.parquet: id", "INTEGER", "BIGINT"), recipe=PARQUET,
        arrange=parquet_with(id=pa.array([1], pa.int32()))),
    Bad("Parquet without a column", ("clicks.parquet: price", "price as well"), recipe=PARQUET,
        arrange=parquet_with(price=None)),
    Bad("Parquet that is cut off", ("clicks.parquet",), recipe=PARQUET, arrange=cut_parquet, error=SlurmTfError),
    Bad("a later Parquet file of another schema", ("clicks-2.parquet: price", "VARCHAR", "DOUBLE"), recipe=PARQUET,
        arrange=changed_parquet),
    Bad("arrays of other lengths", ("arrays", "id has 3", "x has 2 rows"), recipe=ARRAYS,
        arrange=arrays(id=[1, 2, 3], x=[[1.0, 2.0], [3.0, 4.0]])),
    Bad("arrays of another type", ("arrays/: row 1, column id", "1.5", "BIGINT"), recipe=ARRAYS,
        arrange=arrays(id=[1.0, 1.5], x=[[1.0, 2.0], [3.0, 4.0]])),
    Bad("arrays of numbers that overflow", ("arrays/: row 0, column x", "1e+39", "FLOAT"), recipe=ARRAYS,
        arrange=arrays(id=[1, 2], x=[[1e39, 2.0], [3.0, 4.0]])),
    Bad("arrays of another shape", ("id", "BIGINT[]", "BIGINT"), recipe=ARRAYS,
        arrange=arrays(id=[[1], [2]], x=[[1.0, 2.0], [3.0, 4.0]])),
    Bad("arrays of objects", ("arrays/x.npy", "numbers"), recipe=ARRAYS, arrange=arrays(id=[1], x=[{}])),
    Bad("a PNG file that is cut off", ("1.png", "it ends after"), recipe=IMAGES, arrange=image(png()[:-20])),
    Bad("a PNG file with a changed byte", ("1.png", "not those that were written"), recipe=IMAGES,
        arrange=image(png().replace(b"\x00\x03", b"\x00\x04", 1))),
    Bad("a PNG file that is none", ("1.png", "does not begin"), recipe=IMAGES, arrange=image(b"GIF89a")),
    Bad("a JPEG file that is cut off", ("1.jpg", "it ends after"), recipe=IMAGES,
        arrange=image(JPEG[:-10], "cat/1.jpg")),
    Bad("a class without images", ("photos/bird", "no images"), recipe=IMAGES, arrange=class_without_images),
    Bad("an image of no class", ("photos/1.png", "no class"), recipe=IMAGES, arrange=image(png(), "1.png")),
    Bad("a folder in that of a class", ("photos/cat/more", "folder"), recipe=IMAGES,
        arrange=image(png(), "cat/more/1.png")),
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
    text = bad.recipe
    if bad.json_lines:
        lines = [line if isinstance(line, bytes) else line.encode() for line in bad.json_lines]
        (tmp_path / "clicks.jsonl").write_bytes(b"\n".join(lines))
        text = text.replace("clicks.csv", "clicks.jsonl").replace('"csv"', '"jsonl"')
    bad.arrange(tmp_path)
    path = recipes.write(tmp_path, text, {"x.sql": bad.sql})
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
