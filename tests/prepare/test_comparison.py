"""Differences are found where there are some, and not where chance explains them."""

import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.dataset import dataset_manifest
from slurm_tf.dataset.schema import Feature, Kind, Schema
from slurm_tf.errors import DatasetError
from slurm_tf.prepare import comparison, data_comparison, feature_columns, leaks
from slurm_tf.prepare.comparison import Difference, Measure
from slurm_tf.prepare.form import Form
from slurm_tf.prepare.row_errors import RowErrors
from slurm_tf.prepare.row_statistics import StatisticsCollector
from tests.prepare.batches import batch_of
from tests.prepare.data_sets import write_data_set


def difference(feature: Feature, before: Sequence[Any], after: Sequence[Any]) -> Difference:
    schema, statistics = Schema((feature,)), []
    for values in (before, after):
        collector = StatisticsCollector(schema)
        batch = batch_of(schema, [{feature.name: value} for value in values])
        collector.add(feature_columns.checked(schema, batch, RowErrors(batch, "x")))
        statistics.append(collector.result())
    (found,) = comparison.differences(schema, *statistics)
    return found


@pytest.mark.parametrize("size", [30, 300, 3000])
def test_chance_is_no_difference(size: int) -> None:
    """Of twenty pairs of samples from one distribution, of each kind, at most one is said to differ."""
    made = random.Random(size)
    kinds: dict[str, tuple[Feature, Callable[[], Any]]] = {
        "numbers": (Feature("x", Kind.FLOAT), lambda: made.gauss(1000, 1)),
        "counts": (Feature("x", Kind.INT64), lambda: made.randrange(1000)),
        "categories": (Feature("x", Kind.INT64), lambda: made.choice([1, 2, 2, 3])),
        "words": (Feature("x", Kind.BYTES), lambda: b"w%d" % int(made.paretovariate(0.5))),
        "missing": (Feature("x", Kind.INT64, default=0), lambda: made.choice([1, None])),
    }
    for name, (feature, draw) in kinds.items():
        said = [
            difference(feature, [draw() for _ in range(size)], [draw() for _ in range(size // 3)]).differs
            for _ in range(20)
        ]
        assert said.count(True) <= 1, name
        assert None not in said


@pytest.mark.parametrize(
    ("feature", "before", "after", "measure", "value"),
    [
        (Feature("x", Kind.FLOAT), [n / 100 for n in range(1000)], [n / 100 + 3 for n in range(1000)], "PSI", 1.4),
        (Feature("x", Kind.INT64), list(range(1000)), [*range(500), *range(500)], "PSI", 1.8),
        (Feature("x", Kind.BYTES), [b"a", b"b"] * 500, [b"a"] * 900 + [b"b"] * 100, "L-infinity", 0.4),
        (Feature("x", Kind.BYTES), [b"a"] * 1000, [b"c"] * 1000, "L-infinity", 1.0),
        (Feature("x", Kind.INT64, default=0), [1, 2] * 500, [1, 2, None, None] * 250, "L-infinity", 0.0),
        (Feature("x", Kind.BYTES), [b"a" * 200] * 500, [b"a" * 300] * 500, "PSI", None),
    ],
)
def test_what_differs(
    feature: Feature, before: Sequence[Any], after: Sequence[Any], measure: str, value: float | None
) -> None:
    found = difference(feature, before, after)
    assert found.differs
    assert found.measure is Measure(measure)
    assert value is None or found.value == pytest.approx(value, rel=0.5)


def test_of_the_most_frequent_values_alone_a_difference_is_the_least_that_is_sure() -> None:
    # all words are as frequent, and each list of the 100 most frequent ones has others
    before, after = ([b"w%d" % (n % 150) for n in order] for order in (range(3000), range(100, 3100)))
    assert not difference(Feature("x", Kind.BYTES), before, after).differs


def test_values_that_only_the_second_one_has() -> None:
    found = difference(Feature("x", Kind.BYTES), [b"a", b"b"], [b"a", b"c", b"c"])
    assert found.new_values == ("c",)


def test_what_is_not_known() -> None:
    empty = difference(Feature("x", Kind.FLOAT), [1.0], [])
    assert (empty.value, empty.differs) == (None, None)
    image = difference(Feature("x", Kind.INT64, (2,)), [[1, 2]], [[3, 4]])
    assert (image.value, image.differs) == (None, None)


def test_schemas() -> None:
    before = Schema((Feature("a", Kind.INT64), Feature("b", Kind.INT64), Feature("c", Kind.INT64)))
    after = Schema((Feature("d", Kind.INT64), Feature("b", Kind.FLOAT, (2,)), Feature("c", Kind.INT64, default=1)))
    assert comparison.schema_changes(before, after) == (
        "a is no longer there",
        "d is new",
        "b was int64 and is float of shape (2,)",
    )


KEYED = Schema((Feature("user", Kind.INT64), Feature("name", Kind.BYTES)))


def test_versions_with_other_features_and_splits(tmp_path: Path) -> None:
    earlier = write_data_set(tmp_path / "1", KEYED, {"train": rows(1, 2, 3), "eval": rows(4)})
    fewer = Schema((Feature("user", Kind.INT64), Feature("age", Kind.INT64)))
    now = write_data_set(tmp_path / "2", fewer, {"train": [{"user": 1, "age": 9}], "test": [{"user": 2, "age": 8}]})
    manifests = [dataset_manifest.read(str(folder)) for folder in (earlier, now)]
    found = data_comparison.of_versions(*manifests)
    assert found.changes == (
        "train: 3 rows earlier, 1 now",
        "eval: the split is no longer there",
        "test: the split is new",
        "schema: name is no longer there",
        "schema: age is new",
    )
    (train,) = found.comparisons
    assert [each.name for each in train.differences] == ["user"]


def rows(*users: int) -> list[Mapping[str, Any]]:
    return [{"user": user, "name": b"n%d" % user} for user in users]


@pytest.mark.parametrize("form", Form)
def test_leaks(tmp_path: Path, form: Form) -> None:
    splits = {"train": rows(*range(100)), "test": rows(*range(97, 110)), "eval": rows(*range(200, 210))}
    folder = write_data_set(tmp_path / "d", KEYED, splits, form)
    manifest = dataset_manifest.read(str(folder))
    for key, names in (("user", ("97", "98", "99")), ("name", ("n97", "n98", "n99"))):
        (leak,) = leaks.leaks(str(folder), manifest, [key])
        found = tuple(name.strip('"') for name in leak.keys)
        assert (leak.splits, leak.count, found) == (("train", "test"), 3, names)
    (both,) = leaks.leaks(str(folder), manifest, ["user", "name"])
    assert both.count == 3


def test_no_leaks_and_no_key(tmp_path: Path) -> None:
    folder = write_data_set(tmp_path / "d", KEYED, {"train": rows(1, 2, 3), "test": rows(4)})
    manifest = dataset_manifest.read(str(folder))
    assert leaks.leaks(str(folder), manifest, ["user"]) == ()
    with pytest.raises(DatasetError, match="session is not in the records; needed some of user, name"):
        leaks.leaks(str(folder), manifest, ["session"])
