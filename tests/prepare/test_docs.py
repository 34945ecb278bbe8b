"""The recipe of docs/data.md makes a data set."""

from pathlib import Path

from slurm_tf.prepare import preparation
from tests import snippets
from tests.prepare import recipes


def test_the_recipe_of_the_docs(tmp_path: Path) -> None:
    (recipe,) = snippets.of("toml recipe")
    (sql,) = snippets.of("sql recipe")
    for part in range(2):
        rows = [f"{row},{row % 7},{'abc'[row % 3]},{row}.25,{row % 2 == 0}" for row in range(part, 400, 2)]
        recipes.write_csv(tmp_path / f"clicks-{part}.csv", rows, "id,user_id,country,price,clicked")
    recipes.write_csv(tmp_path / "users.csv", [f"{row},{10 * row}" for row in range(1, 7)], "user_id,age")
    loaded = recipes.load(tmp_path, recipe.text, {"clicks.sql": sql.text})
    manifest = preparation.prepare(loaded, False, lambda _text: None)
    assert manifest.unreproducible == ()
    assert sum(split.rows for split in manifest.splits) == 400
    assert sorted(manifest.assets) == ["age.buckets.json", "country.vocab.txt", "price.normalization.json"]
    assert {each.name: each.missing for each in manifest.statistics["train"]}["age"] > 0
