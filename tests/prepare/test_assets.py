"""What a preparation learns is what Keras computes from the same files."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from slurm_tf.prepare import preparation
from tests.conftest import PYTHONPATH
from tests.prepare import recipes
from tests.prepare.test_preparation import rows_of

PROGRAM = """
import json, sys
import numpy, tensorflow as tf
folder, words, prices, edges, mean, variance = sys.argv[1], *map(json.loads, sys.argv[2:])
lookup = tf.keras.layers.StringLookup(vocabulary=f"{folder}/assets/country.vocab.txt", mask_token="")
normalize = tf.keras.layers.Normalization(axis=None, mean=mean, variance=variance)
buckets = tf.keras.layers.Discretization(bin_boundaries=edges)
print(json.dumps([
    lookup(tf.constant(words)).numpy().tolist(),
    normalize(tf.constant(prices)).numpy().tolist(),
    buckets(tf.constant(prices)).numpy().tolist(),
]))
"""


@pytest.mark.tensorflow
def test_keras_gives_the_same_numbers(tmp_path: Path) -> None:
    import json

    from slurm_tf.dataset import assets

    words = ["", "[UNK]", "häuser", "a b", "c", "a b", "c", "c", "häuser", "häuser", "z", "x"] * 2
    rows = [f'{row},"{word}",{row % 9}.25' for row, word in enumerate(words)]
    recipes.write_csv(tmp_path / "clicks.csv", rows, "id,country,price")
    features = (
        '[features.id]\nkind = "int64"\n[features.country]\nvocabulary = { min-count = 4 }\n'
        "[features.price]\nnormalized = true\n[features.part]\nbuckets = 3\n"
    )
    text = recipes.recipe_text(
        features=features, columns='{ id = "BIGINT", country = "VARCHAR", price = "DOUBLE" }',
        transform='sql = "x.sql"', shares="{ train = 1 }",
    ).replace("[transform]", 'null = ["NULL"]\n[transform]')  # fmt: skip
    recipe = recipes.load(tmp_path, text, {"x.sql": "SELECT *, price AS part FROM clicks"})
    manifest = preparation.prepare(recipe, False, lambda _text: None)
    found = sorted(rows_of(tmp_path / "out", manifest, "train", "id", "country", "price", "part"))
    out = str(tmp_path / "out")
    normalization, edges = assets.read_normalization(out, "price"), assets.read_buckets(out, "part").edges
    prices = [row % 9 + 0.25 for row in range(len(words))]
    arguments = map(json.dumps, (words, prices, edges, normalization.mean, normalization.variance))
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, out, *arguments], check=True, capture_output=True, timeout=300,
        env={**os.environ, "PYTHONPATH": PYTHONPATH},
    )  # fmt: skip
    numbers, normalized, parts = json.loads(done.stdout.splitlines()[-1])
    assert [row[1] for row in found] == numbers
    assert [row[3] for row in found] == parts
    assert [row[2] for row in found] == pytest.approx(normalized, rel=1e-6)
    assert assets.read_vocabulary(out, "country") == ("c", "häuser", "a b")
    assert numbers[:3] == [0, 1, 3]
