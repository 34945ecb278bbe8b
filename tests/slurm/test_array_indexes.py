"""Array indexes: what sbatch takes and squeue prints."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_tf.errors import UnitError
from slurm_tf.slurm import array_indexes

INDEXES = st.sets(st.integers(0, 4_000_000), min_size=1, max_size=50).map(lambda found: tuple(sorted(found)))
NEAR = st.sets(st.integers(0, 30), min_size=1).map(lambda found: tuple(sorted(found)))
LIMIT = st.none() | st.integers(1, 1000)


@given(INDEXES | NEAR, LIMIT)
def test_parse_undoes_render(indexes: tuple[int, ...], limit: int | None) -> None:
    text = array_indexes.render(indexes, limit)
    assert array_indexes.parse(text) == (indexes, limit)
    # what is rendered is as short as it gets: rendering what was parsed changes nothing
    assert array_indexes.render(*array_indexes.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "indexes", "limit"),
    [
        ("0", (0,), None),
        ("0-3", (0, 1, 2, 3), None),
        ("1,3,5-9:2", (1, 3, 5, 7, 9), None),
        ("5-9:3%2", (5, 8), 2),
        ("3,1,1-2", (1, 2, 3), None),
        ("007", (7,), None),
        ("0-4000000:1000000", (0, 1_000_000, 2_000_000, 3_000_000, 4_000_000), None),
    ],
)
def test_what_sbatch_takes(text: str, indexes: tuple[int, ...], limit: int | None) -> None:
    assert array_indexes.parse(text) == (indexes, limit)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ",",
        "1,",
        "-1",
        "1-",
        "3-1",
        "0-4:0",
        "1-2-3",
        "a",
        "1 ",
        "0x1",
        "\u0661",
        "1%",
        "1%0",
        "%2",
        "1%2%3",
        "1-5...",
        "0-4000001",
        "0-999999999",
        "99999999999999999999",
    ],
)
def test_what_is_no_list_of_indexes(text: str) -> None:
    with pytest.raises(UnitError, match="needed indexes"):
        array_indexes.parse(text)


@pytest.mark.parametrize(
    ("job_id", "tasks"),
    [
        ("42", ("42",)),
        ("42_3", ("42_3",)),
        ("42+1", ("42+1",)),
        ("42_[3-5%2]", ("42_3", "42_4", "42_5")),
        ("42_[0,8]", ("42_0", "42_8")),
    ],
)
def test_ids_of_the_tasks_that_an_id_stands_for(job_id: str, tasks: tuple[str, ...]) -> None:
    assert array_indexes.expand(job_id) == tasks
