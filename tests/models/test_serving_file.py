"""serving.json says which versions are loaded, and which one answers."""

from pathlib import Path

import pytest

from slurm_tf.errors import ModelError
from slurm_tf.models import serving_file
from slurm_tf.models.serving_file import Canary, PolicyKind, Serving, VersionPolicy


def test_what_is_written_is_read(tmp_path: Path) -> None:
    assert serving_file.read(str(tmp_path)) == Serving()
    policy = VersionPolicy(PolicyKind.SPECIFIC, 1, (2, 3))
    serving = Serving(3, {"stable": 2}, Canary(4, 12.5), policy)
    serving_file.write(str(tmp_path), serving)
    assert serving_file.read(str(tmp_path)) == serving
    assert (tmp_path / "serving.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("serving", "default", "loaded"),
    [
        (Serving(), 5, {5}),
        (Serving(policy=VersionPolicy(count=2)), 5, {4, 5}),
        (Serving(policy=VersionPolicy(PolicyKind.ALL)), 5, {1, 2, 4, 5}),
        (Serving(policy=VersionPolicy(PolicyKind.SPECIFIC, 1, (1, 3))), 5, {1}),
        (Serving(promoted=2), 2, {2}),
        (Serving(promoted=2, policy=VersionPolicy(count=2)), 2, {1, 2}),
        (Serving(promoted=3), None, {2}),
        (Serving(labels={"old": 1, "gone": 3}), 5, {1, 5}),
        (Serving(promoted=4, canary=Canary(5, 10)), 4, {4, 5}),
    ],
)
def test_which_versions_are_loaded(serving: Serving, default: "int | None", loaded: set[int]) -> None:
    assert serving.default([1, 2, 4, 5]) == default
    assert serving.loaded([1, 2, 4, 5]) == loaded


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"format": "1.0", "promoted": "3", "labels": {}, "canary": null, "policy": {}}', 'promoted is "3"'),
        ("{}", "it does not say its format"),
        (
            '{"format": "1.0", "promoted": 3, "labels": {}, "canary": {"version": 4, "percent": 101, "of": 1},'
            ' "policy": {"kind": "latest", "count": 1, "versions": []}}',
            "canary.percent is 101; needed 0 to 100",
        ),
        (
            '{"format": "1.0", "promoted": null, "labels": {}, "canary": null,'
            ' "policy": {"kind": "latest", "count": 0, "versions": []}}',
            "policy.count is 0",
        ),
        (
            '{"format": "1.0", "promoted": null, "labels": {}, "canary": null,'
            ' "policy": {"kind": "newest", "count": 1, "versions": []}}',
            'policy.kind is "newest"',
        ),
    ],
)
def test_a_damaged_file_is_one_error_that_names_it(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "serving.json").write_text(text)
    with pytest.raises(ModelError, match=message) as raised:
        serving_file.read(str(tmp_path))
    assert raised.value.where == str(tmp_path / "serving.json")
