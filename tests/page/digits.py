"""The digits of scikit-learn as a prepared data set, of pixels or of PNG files; and a table."""

from pathlib import Path
from typing import Any

from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.page import grey_png
from tests.prepare.data_sets import write_data_set

PIXELS = Schema((Feature("image", Kind.FLOAT, (8, 8, 1)), Feature("label", Kind.INT64)))
FILES = Schema((Feature("image", Kind.BYTES), Feature("label", Kind.INT64)))
TABLE = Schema(
    (
        Feature("id", Kind.INT64),
        Feature("age", Kind.FLOAT),
        Feature("income", Kind.FLOAT),
        Feature("country", Kind.INT64),
        Feature("clicked", Kind.INT64),
    )
)


def write_digits(folder: Path, rows: int = 1797, as_files: bool = False) -> Path:
    """Write handwritten digits of 8 x 8 pixels from 0 to 16: four fifths in train, the others in test."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    found: list[dict[str, Any]] = []
    for image, label in zip(digits.images[:rows], digits.target[:rows], strict=True):
        pixels = image.ravel().tolist()
        content = grey_png.encode(pixels, (8, 8), 0, 16) if as_files else pixels
        found.append({"image": content, "label": int(label)})
    splits = {"train": [row for n, row in enumerate(found) if n % 5], "test": found[::5]}
    return write_data_set(folder, FILES if as_files else PIXELS, splits, count=1)


def write_table(folder: Path, rows: int = 400) -> Path:
    """Write a table in which a country and a high income decide who clicked."""
    found = []
    for n in range(rows):
        age, income, country = 20.0 + n % 50, 1000.0 * (n * 37 % 101), n % 7
        clicked = int((country in (2, 3)) != (income > 60000))
        found.append({"id": n, "age": age, "income": income, "country": country, "clicked": clicked})
    return write_data_set(folder, TABLE, {"train": found[: rows * 3 // 4], "test": found[rows * 3 // 4 :]}, key=["id"])
