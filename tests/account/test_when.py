"""Times as sacct reads them."""

import time
from datetime import datetime

import pytest

from slurm_tf.account import when
from slurm_tf.errors import UnitError


@pytest.fixture(autouse=True)
def _berlin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()


def here(*parts: int) -> int:
    return int(datetime(*parts).timestamp())  # type: ignore[arg-type]


NOW = 1795255200  # 2026-11-21T11:00:00 in Berlin


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("now", (2026, 11, 21, 11)),
        ("-7d", (2026, 11, 14, 11)),
        ("-2h", (2026, 11, 21, 9)),
        ("-90m", (2026, 11, 21, 9, 30)),
        ("-1w", (2026, 11, 14, 11)),
        ("d=2,h=1", (2026, 11, 19, 10)),
        ("Weeks=1, minutes=30", (2026, 11, 14, 10, 30)),
        ("2026-01-31", (2026, 1, 31)),
        ("2026-07-31T12:30", (2026, 7, 31, 12, 30)),
        ("2026-07-31T12:30:07", (2026, 7, 31, 12, 30, 7)),
        ("07/31", (2026, 7, 31)),
        ("07/31/25", (2025, 7, 31)),
        ("0731", (2026, 7, 31)),
        ("073125", (2025, 7, 31)),
        ("12:30", (2026, 11, 21, 12, 30)),
        ("today", (2026, 11, 21)),
        ("midnight", (2026, 11, 21)),
        ("noon", (2026, 11, 21, 12)),
        ("teatime", (2026, 11, 21, 16)),
        ("yesterday", (2026, 11, 20)),
        ("tomorrow", (2026, 11, 22)),
        ("now-7days", (2026, 11, 14, 11)),
        ("now-1week", (2026, 11, 14, 11)),
        ("now+90minutes", (2026, 11, 21, 12, 30)),
        ("now-30", (2026, 11, 21, 10, 59, 30)),
        ("Now-1hour", (2026, 11, 21, 10)),
    ],
)
def test_local_times(text: str, parts: tuple[int, ...]) -> None:
    assert when.parse(text, NOW) == here(*parts)


@pytest.mark.parametrize(
    "text", ["", "2026-13-01", "31.12.2026", "now-", "now-7fortnights", "-7days", "02/30", "d=", "d=1,", "x=3"]
)
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(UnitError, match="found '"):
        when.parse(text, NOW)
