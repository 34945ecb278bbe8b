"""A recipe of two sources with a join, windows, a vocabulary and a normalized feature, for one engine or the other."""

import importlib.util
import os
import shutil
from pathlib import Path

import pytest

from tests.prepare import recipes

SQL = """
    SELECT c.id, c.country, c.price, c.clicked, r.region, 3 * c.price::DECIMAL(18,2) AS tripled,
        sum(c.clicked) OVER (PARTITION BY c.country ORDER BY c.id) AS clicks,
        avg(c.price) OVER (PARTITION BY c.country) AS mean
    FROM clicks c JOIN regions r USING (country) WHERE c.id % 11 <> 0
"""
_FEATURES = """
[features.clicks]
normalized = true
[features.region]
kind = "bytes"
[features.mean]
kind = "float"
[features.tripled]
kind = "float"
"""
_REGIONS = (
    '[sources.regions]\nformat = "csv"\npath = "regions.csv"\ncolumns = { country = "VARCHAR", region = "VARCHAR" }'
)


def needs(*names: str) -> pytest.MarkDecorator:
    """Return the mark of a test that needs packages and programs: where one is missing, it is skipped, and says so."""
    missing = [name for name in names if not (importlib.util.find_spec(name) or shutil.which(name))]
    if "java" in missing and os.environ.get("JAVA_HOME"):
        missing.remove("java")
    install = "pip install 'slurm-tf[spark]'; apt-get install default-jre-headless mariadb-server"
    return pytest.mark.skipif(bool(missing), reason=f"there is no {', no '.join(missing)}: {install}")


def text(engine: str, output: str) -> str:
    """Return the recipe, which writes to the folder `output`."""
    found = recipes.recipe_text(
        "clicks*.csv", recipes.FEATURES + _FEATURES, transform='sql = "join.sql"', top=f'cpus = 2\nengine = "{engine}"',
        output=f'folder = "{output}"\nshards = 3',
    )  # fmt: skip
    return found.replace("[transform]", f"{_REGIONS}\n[transform]")


def write_sources(folder: Path, count: int) -> None:
    """Write three files of clicks with `count` rows each, the regions and the SQL."""
    for number in range(3):
        recipes.write_csv(folder / f"clicks{number}.csv", recipes.csv_rows(count, number * count))
    regions = [f"{country},r{number % 3}" for number, country in enumerate("abcdefg")]
    recipes.write_csv(folder / "regions.csv", regions, "country,region")
    (folder / "join.sql").write_text(SQL)
