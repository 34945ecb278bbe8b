"""Amounts as Slurm writes them."""

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_tf import units
from slurm_tf.errors import UnitError
from slurm_tf.units import Gpus


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 300),
        ("5:30", 330),
        ("1:05:30", 3930),
        ("12:30:00", 45000),
        ("2-0", 172800),
        ("2-3", 183600),
        ("2-3:04", 183840),
        ("2-03:04:05", 183845),
        ("90:00", 5400),
        ("0", 0),
    ],
)
def test_times_of_the_sbatch_manual(text: str, seconds: int) -> None:
    assert units.parse_time(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["UNLIMITED", "unlimited", "INFINITE"])
def test_no_limit(text: str) -> None:
    assert units.parse_time(text) is None


@pytest.mark.parametrize("text", ["", "1h", "-5", "1-", "1:2:3:4", "5 ", "٣", "1-2-3", "1.5", "99999999999999999999"])
def test_text_that_is_no_time(text: str) -> None:
    with pytest.raises(UnitError, match=r"needed a time as sbatch writes it"):
        units.parse_time(text)


@given(st.integers(0, 10**8))
def test_times_come_back(seconds: int) -> None:
    length = timedelta(seconds=seconds)
    assert units.parse_time(units.format_time(length)) == length
    assert units.parse_time(units.format_time(None)) is None


@pytest.mark.parametrize(
    ("text", "mib"), [("4G", 4096), ("512", 512), ("512M", 512), ("1024K", 1), ("1025K", 2), ("1T", 1 << 20), ("0", 0)]
)
def test_memory(text: str, mib: int) -> None:
    assert units.parse_memory(text) == mib


@pytest.mark.parametrize("text", ["", "G", "4.5G", "-1", "4 G", "4X", "4GiB"])
def test_text_that_is_no_memory(text: str) -> None:
    with pytest.raises(UnitError):
        units.parse_memory(text)


@given(st.integers(0, 1 << 50))
def test_memory_comes_back(mib: int) -> None:
    assert units.parse_memory(units.format_memory(mib)) == mib


@pytest.mark.parametrize(
    ("mib", "other", "text"),
    [
        (65336, 65536, "63.80G"), (65536, 65536, "64G"), (32768, 65536, "32G"), (0, 65536, "0"), (1, 65536, "0.001G"),
        (65535, 65536, "63.999G"), (65537, 65536, "64.001G"), (512, 8192, "0.50G"), (3000, 1500, "3000M"),
        (2048, 1500, "2048M"), (1536 * 1024, 1 << 20, "1.50T"), (5, 0, "5M"),
    ],
)  # fmt: skip
def test_two_amounts_of_memory_have_one_unit(mib: int, other: int, text: str) -> None:
    assert units.format_memory_beside(mib, other) == text


@given(st.integers(0, 1 << 50), st.integers(0, 1 << 50))
def test_two_amounts_of_memory_are_equal_only_if_they_are(mib: int, other: int) -> None:
    text = units.format_memory_beside(mib, other)
    assert (text == units.format_memory(other)) == (mib == other and mib > 0)
    assert (float(text.rstrip("MGTP")) == 0) == (mib == 0)


@given(
    st.lists(
        st.builds(Gpus, st.integers(0, 10**6 - 1), st.from_regex(r"([A-Za-z0-9_.+][A-Za-z0-9_.+-]*)?", fullmatch=True)),
        min_size=1,
    )
)
def test_gpus_come_back(gpus: list[Gpus]) -> None:
    assert units.parse_gpus(units.format_gpus(gpus)) == tuple(gpus)


@pytest.mark.parametrize(
    ("text", "gpus"),
    [
        ("2", [Gpus(2)]),
        ("3090", [Gpus(3090)]),
        ("1k", [Gpus(1024)]),
        ("a100:2", [Gpus(2, "a100")]),
        ("a100", [Gpus(1, "a100")]),
        ("2080ti:2", [Gpus(2, "2080ti")]),
        ("2080ti", [Gpus(1, "2080ti")]),
        ("3090:1", [Gpus(1, "3090")]),
        ("1g.5gb:2", [Gpus(2, "1g.5gb")]),
        ("1g.5gb", [Gpus(1, "1g.5gb")]),
        ("1g.10gb+me:1", [Gpus(1, "1g.10gb+me")]),
        ("nvidia_a100-sxm4-40gb:4", [Gpus(4, "nvidia_a100-sxm4-40gb")]),
        ("a100:4,t4:2", [Gpus(4, "a100"), Gpus(2, "t4")]),
        ("a100,3090:2,1", [Gpus(1, "a100"), Gpus(2, "3090"), Gpus(1)]),
    ],
)
def test_gpus_as_sbatch_reads_them(text: str, gpus: list[Gpus]) -> None:
    assert units.parse_gpus(text) == tuple(gpus)


@pytest.mark.parametrize(
    "text", ["", "a100:", ":2", "-1", "2:a100", "a b:2", "a100:2:1", "a100:2,", ",", "1.5:x", "-x"]
)
def test_text_that_is_no_number_of_gpus(text: str) -> None:
    with pytest.raises(UnitError):
        units.parse_gpus(text)


def test_ports() -> None:
    assert units.parse_ports("20000-20999") == (20000, 20999)
    for text in ("", "20000", "20999-20000", "1-2000", "20000-70000"):
        with pytest.raises(UnitError):
            units.parse_ports(text)


@pytest.mark.parametrize(("text", "hours"), [("12h", 12), ("30d", 720), ("2w", 336), ("0d", 0)])
def test_ages(text: str, hours: int) -> None:
    assert units.parse_age(text) == timedelta(hours=hours)


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1.5d", "30D", "30d ", "1234567d", "³d"])
def test_what_is_no_age(text: str) -> None:
    with pytest.raises(UnitError, match="hours, days or weeks"):
        units.parse_age(text)
