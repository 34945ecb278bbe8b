"""The order of groups, the conditions of --name and --state, and jobs divided among their nodes."""

import pytest

from slurm_tf.account import row_order
from slurm_tf.account.usage import Aggregate
from slurm_tf.account.usage_record import UsageRecord
from slurm_tf.account.window import Window
from slurm_tf.cli import group_options
from slurm_tf.errors import UsageError
from tests.account import stored

WINDOW = Window(0, 100_000)


def job(number: int, name: str, seconds: int, **more: object) -> UsageRecord:
    values = {"started": 1000, "ended": 1000 + seconds, "cpus": 2, "state_text": "COMPLETED", **more}
    return UsageRecord(id=str(number), raw_id=str(number), cluster="hpc", name=name, **values)  # type: ignore[arg-type]


JOBS = [
    job(1, "b", 100, eligible=900, state_text="FAILED"),
    job(2, "a", 900),
    job(3, "c", 500, eligible=500, gpus=1, state_text="CANCELLED by 7"),
    job(4, "c", 10),
    job(5, "it's [a]*", 1, state_text="OUT_OF_ME+"),
]


def keys(sort: str) -> list[str]:
    sums = Aggregate(stored.jobs(JOBS), WINDOW, ("name",), now=WINDOW.end)
    return [row.key[0] for row in row_order.ordered(sums.rows(), ("name",), sort)]


@pytest.mark.parametrize(
    ("sort", "names"),
    [
        ("", "cab"), ("name", "abc"), ("cpu-hours", "acb"), ("jobs", "cab"), ("wait", "cba"), ("gpu", "cab"),
        ("lost", "cba"),
    ],
)  # fmt: skip
def test_the_largest_comes_first_and_what_is_unknown_last(sort: str, names: str) -> None:
    assert [key for key in keys(sort) if len(key) == 1] == list(names)


def test_every_word_sorts() -> None:
    for word in row_order.NUMBERS:
        assert sorted(keys(word)) == sorted(keys(""))
        row_order.check(word, ("user",))
    with pytest.raises(UsageError, match="found --sort name; needed one of user, gpu-hours, cpu-hours"):
        row_order.check("name", ("user",))


@pytest.mark.parametrize(
    ("names", "states", "ids"),
    [
        (["?"], [], "1234"), (["a", "b"], [], "12"), (["it's*"], [], "5"), (["it's [[]a]*"], [], "5"), (["A"], [], ""),
        ([], ["F"], "1"), ([], ["failed", "CA"], "13"), (["c"], ["CD"], "4"), (["'"], [], ""),
    ],
)  # fmt: skip
def test_names_and_states_choose_jobs(names: list[str], states: list[str], ids: str) -> None:
    where = " and ".join(group_options.conditions(names, states))
    found = stored.jobs(JOBS).execute(f"select id from jobs where {where} order by id").fetchall()
    assert "".join(number for (number,) in found) == ids


def test_each_node_has_an_equal_part_of_its_jobs() -> None:
    jobs = [
        job(1, "a", 900, nodes="n[1-3]", node_count=3, cpus=6, gpus=3, memory=300, used_memory=150 * 2**20),
        job(2, "a", 100, nodes="n2", node_count=1, cpus=1),
        job(3, "a", 50, nodes="no[list", node_count=1),
        job(4, "a", 50, node_count=1),
    ]
    sums = Aggregate(stored.jobs(jobs), WINDOW, ("node",), now=WINDOW.end)
    found = {row.key[0]: row.amounts for row in sums.rows()}
    assert list(found) == ["n2", "n1", "n3", "", "no[list"]
    assert (found["n2"].cpu_seconds, found["n2"].gpu_seconds, found["n2"].jobs) == (2 * 900 + 100, 900, 2)
    assert found["n1"].node_seconds == 900
    assert found["n1"].memory_use == pytest.approx(0.5)
    total = sums.total()
    assert (total.jobs, total.incarnations, total.cpu_seconds, total.node_seconds) == (4, 4, 5700, 2900)
