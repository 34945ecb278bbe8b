"""Writes small recipes and their sources for tests."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from slurm_tf.prepare import recipe_file
from slurm_tf.prepare.recipe_file import LoadedRecipe

COLUMNS = '{ id = "BIGINT", country = "VARCHAR", price = "DOUBLE", clicked = "BIGINT" }'
HEADER = "id,country,price,clicked"
FEATURES = """
[features.id]
kind = "int64"
[features.country]
vocabulary = { min-count = 2, max-size = 5 }
[features.price]
kind = "float"
[features.clicked]
kind = "int64"
"""


def csv_rows(count: int, first: int = 0) -> list[str]:
    """Return rows of CSV with the columns COLUMNS, and all ids from `first` on."""
    return [f"{row},{'abcdefg'[row * row % 7]},{row % 100}.5,{row % 2}" for row in range(first, first + count)]


def write_csv(path: Path, rows: Sequence[str], header: str = HEADER) -> Path:
    path.write_text("\n".join([header, *rows]) + "\n")
    return path


def recipe_text(
    path: str = "clicks.csv",
    features: str = FEATURES,
    *,
    columns: str = COLUMNS,
    source_format: str = "csv",
    transform: str = "",
    key: str = '["id"]',
    shares: str = "{ train = 0.8, test = 0.2 }",
    output: str = 'folder = "out"\nshards = 3',
    top: str = "cpus = 1",
) -> str:
    """Return a recipe with one source, clicks."""
    return (
        f"{top}\n[sources.clicks]\nformat = {json.dumps(source_format)}\npath = {json.dumps(path)}\n"
        + (f"columns = {columns}\n" if columns else "")
        + (f"[transform]\n{transform}\n" if transform else "")
        + f"{features}\n[split]\nkey = {key}\nshares = {shares}\n[output]\n{output}\n"
    )


def write(folder: Path, text: str, others: Mapping[str, str] = {}) -> Path:
    """Write a recipe and other files; return the path of the recipe."""
    for name, content in others.items():
        (folder / name).write_text(content)
    path = folder / "recipe.toml"
    path.write_text(text)
    return path


def load(folder: Path, text: str, others: Mapping[str, str] = {}) -> LoadedRecipe:
    """Write a recipe and other files; return the recipe as it is read."""
    return recipe_file.load(write(folder, text, others))
