"""What a user is told once for each site."""

from pathlib import Path

import pytest

from slurm_tf.submit import said_once


def test_it_is_said_once_for_each_site_and_again_where_that_cannot_be_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    told = [said_once.is_first("a", site) for site in ("one", "one", "two", "one", "two")]
    assert told == [True, False, True, False, False]
    assert said_once.is_first("b", "one")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    assert [said_once.is_first("a", "one") for _ in range(2)] == [True, True]
