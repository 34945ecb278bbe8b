"""Known bugs, by release."""

import pytest

from slurm_tf.slurm import known_bugs


@pytest.mark.parametrize(
    ("version", "sources"),
    [
        ("22.05.8", []),
        ("20.11.2", ["NEWS, 20.11.3"]),
        ("20.11.3", []),
        ("22.05.4", ["NEWS, 22.05.5"]),
        ("22.05.3-Bull.1.1", ["NEWS, 22.05.4", "NEWS, 22.05.4", "NEWS, 22.05.5"]),
        ("23.11.10", []),  # 10 is later than 4
        ("26.05.5", []),
    ],
)
def test_bugs_of_a_release(version: str, sources: list[str]) -> None:
    found = known_bugs.of_release(version)
    assert found is not None
    assert [bug.source for bug in found] == sources


@pytest.mark.parametrize("version", ["", "unknown", "22.05"])
def test_text_that_is_no_release(version: str) -> None:
    assert known_bugs.of_release(version) is None


def test_each_bug_is_mended_after_its_first_release() -> None:
    for bug in known_bugs.BUGS:
        assert bug.first < bug.mended
        assert bug.source.endswith("{}.{:02d}.{}".format(*bug.mended))
