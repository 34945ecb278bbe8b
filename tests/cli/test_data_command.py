"""The verbs of data, as a person types them."""

import json
import os
from pathlib import Path

import pytest

from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.errors import DatasetError, UsageError
from tests.cli.test_alike import typed
from tests.cli.test_cli import slurm_tf
from tests.prepare.data_sets import write_data_set

SCHEMA = Schema(
    (Feature("user", Kind.INT64), Feature("country", Kind.BYTES), Feature("price", Kind.FLOAT, default=0.0))
)


def data_set(folder: Path, country: bytes = b"de", first_of_test: int = 200) -> Path:
    users = {"train": range(200), "test": range(first_of_test, first_of_test + 40)}
    splits = {
        name: [{"user": user, "country": country, "price": user % 7 / 2 if user % 5 else None} for user in each]
        for name, each in users.items()
    }
    return write_data_set(folder, SCHEMA, splits, key=["user"])


@pytest.mark.slow
def test_verify_exits_with_1_if_anything_is_damaged(tmp_path: Path) -> None:
    folder = data_set(tmp_path / "clicks")
    whole = slurm_tf("data", "verify", "clicks", cwd=tmp_path)
    assert (whole.returncode, whole.stdout) == (0, "clicks: 4 shards, 240 rows, 16.2 kB: whole\n")
    os.unlink(folder / "test-00001-of-00002.tfrecord")
    damaged = slurm_tf("data", "verify", "clicks", "--json", cwd=tmp_path)
    assert damaged.returncode == 1
    assert json.loads(damaged.stdout)["damages"] == [
        {
            "file": "clicks/test-00001-of-00002.tfrecord",
            "found": "No such file or directory",
            "needed": "a file of 1364 bytes",
        }
    ]


def test_show(tmp_path: Path) -> None:
    folder = str(data_set(tmp_path / "clicks"))
    shown = json.loads(typed("data", "show", folder, "--json").output)
    assert [split["name"] for split in shown["splits"]] == ["train", "test"]
    assert shown["digest"] in typed("data", "show", folder).output


def test_stats(tmp_path: Path) -> None:
    folder = str(data_set(tmp_path / "clicks"))
    found = json.loads(typed("data", "stats", folder, "--split", "test", "--json").output)
    assert list(found) == ["test"]
    assert [(each["name"], each["rows"], each["missing"]) for each in found["test"]] == [
        ("user", 40, 0), ("country", 40, 0), ("price", 40, 8),
    ]  # fmt: skip
    with pytest.raises(DatasetError, match="found the split eval; needed one of train, test"):
        typed("data", "stats", folder, "--split", "eval", catch_exceptions=False)


def test_leaks_and_drift(tmp_path: Path) -> None:
    folder = str(data_set(tmp_path / "clicks", first_of_test=190))
    found = json.loads(typed("data", "compare", folder, "--json").output)
    (leak,) = found["leaks"]
    assert (leak["splits"], leak["count"]) == (["train", "test"], 10)
    assert (
        typed("data", "compare", folder).output.splitlines()[-1].startswith("Leak: 10 keys are in train and in test: ")
    )
    assert json.loads(typed("data", "compare", folder, "--quick", "--json").output)["leaks"] is None
    earlier = str(data_set(tmp_path / "earlier", country=b"fr", first_of_test=190))
    drift = json.loads(typed("data", "compare", folder, earlier, "--json").output)
    assert {each["name"]: each["differs"] for each in drift["comparisons"][0]["features"]} == {
        "user": False, "country": True, "price": False,
    }  # fmt: skip
    same = json.loads(typed("data", "compare", folder, folder, "--json").output)
    assert same["changes"] == ["the digests are equal: the data is the same"]
    with pytest.raises(UsageError, match="found --key or --quick"):
        typed("data", "compare", folder, earlier, "--quick", catch_exceptions=False)


def test_pages(tmp_path: Path) -> None:
    folder = str(data_set(tmp_path / "clicks", country=b"<script>alert(1)</script>\x1b"))
    for words in (["stats", folder], ["compare", folder], ["compare", folder, folder]):
        page = tmp_path / "page.html"
        done = typed("data", *words, "--html", str(page))
        assert done.output == f"slurm-tf: wrote {page}\n"
        text = page.read_text()
        assert "<script" not in text
        assert "\x1b" not in text
        # two plots of numbers, one of categories
        assert text.count("<polyline") == 2 * (4 if len(words) == 3 else 2)
        assert text.count("<svg") == 3
        page.unlink()


def test_without_the_packages_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = str(data_set(tmp_path / "clicks"))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "pyarrow" else name)
    with pytest.raises(UsageError, match=r"pyarrow is not installed(.|\n)*pip install 'slurm-tf\[prepare\]'"):
        typed("data", "verify", folder, catch_exceptions=False)
