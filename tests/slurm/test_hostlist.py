"""Node lists: every expression that somebody else's tests or logs hold, and what Slurm makes of it."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_tf.errors import HostlistError
from slurm_tf.slurm import hostlist

ROWS = [
    line.split("\t")
    for line in (Path(__file__).parent.parent / "vectors" / "hostlists.tsv").read_text().splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize(("text", "wanted"), [row[:2] for row in ROWS], ids=[row[0] or "empty" for row in ROWS])
def test_vectors(text: str, wanted: str) -> None:
    if wanted == "ERROR":
        with pytest.raises(HostlistError):
            hostlist.expand(text)
    else:
        assert hostlist.expand(text) == (() if wanted == "NO_NODES" else tuple(wanted.split(",")))


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("n[1-3],m[5-4]", "5-4"),
        ("a,zappa[1,x],b", "x"),
        ("n1,m[2", "m[2"),
        ("n]", "n]"),
        ("n[[1]]", "n[["),
        ("n[1-99999999999999999999]", "1-99999999999999999999"),
    ],
)
def test_an_error_shows_the_faulty_part(text: str, part: str) -> None:
    with pytest.raises(HostlistError, match=r"needed a") as error:
        hostlist.expand(text)
    assert error.value.part == part
    assert part in str(error.value)


def test_a_product_that_would_fill_the_memory_is_refused() -> None:
    with pytest.raises(HostlistError, match=r"names \d+ nodes"):
        hostlist.expand("a[1-60000]b[1-60000]c[1-60000]")


names = st.from_regex(r"[a-z][a-z0-9.-]{0,8}", fullmatch=True)


@pytest.mark.slow
@given(st.lists(names, max_size=20))
def test_plain_names_stay_as_they_are(nodes: list[str]) -> None:
    assert hostlist.expand(",".join(nodes)) == tuple(nodes)


@given(names, st.integers(0, 3000), st.integers(0, 300), st.integers(1, 5))
def test_a_range_counts_up_in_the_width_of_its_start(prefix: str, low: int, more: int, width: int) -> None:
    start = f"{low:0{width}}"
    expected = tuple(f"{prefix}-{number:0{len(start)}}" for number in range(low, low + more + 1))
    assert hostlist.expand(f"{prefix}-[{start}-{low + more}]") == expected


@pytest.mark.parametrize(
    ("text", "numbers"), [("2(x3),1", (2, 2, 2, 1)), ("4", (4,)), ("6,1(x2)", (6, 1, 1)), ("1(x12)", (1,) * 12)]
)
def test_counts(text: str, numbers: tuple[int, ...]) -> None:
    assert hostlist.counts(text) == numbers


@pytest.mark.parametrize("text", ["", "2(x3", "2x3", "a", "2,,1", "-1", "2(x0)", "1(x99999999)"])
def test_text_that_is_no_counts(text: str) -> None:
    with pytest.raises(HostlistError):
        hostlist.counts(text)


@given(st.lists(st.tuples(st.integers(0, 500), st.integers(1, 9)), min_size=1, max_size=20))
def test_counts_of_any_runs(runs: list[tuple[int, int]]) -> None:
    text = ",".join(f"{number}(x{times})" if times > 1 else str(number) for number, times in runs)
    assert hostlist.counts(text) == tuple(number for number, times in runs for _ in range(times))


@pytest.mark.parametrize(
    ("nodes", "text"),
    [
        (["n10", "n2", "n1", "n3"], "n[1-3,10]"),
        (["n1"], "n1"),
        (["n09", "n10", "n11"], "n09,n[10-11]"),
        (["n08", "n09"], "n[08-09]"),
        (["login", "a1.x", "a2.x", "r1n1", "r1n2"], "login,a[1-2].x,r1n[1-2]"),
        ([], ""),
    ],
)
def test_names_are_compressed(nodes: list[str], text: str) -> None:
    assert hostlist.compress(nodes) == text
    assert sorted(hostlist.expand(text)) == sorted(nodes)
