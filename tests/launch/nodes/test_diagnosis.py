"""Which nodes a diagnosis names, by their figures."""

import itertools
from collections import Counter
from collections.abc import Callable, Sequence

import pytest

from slurm_tf.launch.nodes.diagnosis import diagnose, diagnose_mpi, mpi_table, rounds, table
from slurm_tf.run.preflight_report import Figures, Node

MS, MB = 1e-3, 1e6


def names(count: int) -> list[str]:
    return [f"n{number}" for number in range(1, count + 1)]


def measured(count: int, change: Callable[[str, str], dict[str, object]] = lambda *_: {}) -> list[Figures]:
    """Return healthy figures of all pairs that differ by a third, and what `change` says of a pair."""
    found = []
    for number, (source, target) in enumerate(itertools.permutations(names(count), 2)):
        wobble = 1 + number % 5 / 12
        values: dict[str, object] = {"latency": 0.1 * MS * wobble, "bandwidth": 1000 * MB / wobble}
        found.append(Figures(source, target, **{**values, **change(source, target)}))  # type: ignore[arg-type]
    return found


def reasons(count: int, figures: Sequence[Figures], nodes: Sequence[Node] = ()) -> dict[str, str]:
    return diagnose(nodes or [Node(name) for name in names(count)], figures, 4.0)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 16])
def test_healthy_nodes_are_not_named(count: int) -> None:
    assert reasons(count, measured(count)) == {}


@pytest.mark.parametrize("count", [3, 4, 5, 16])
def test_a_node_that_answers_late_is_named_alone(count: int) -> None:
    figures = measured(count, lambda *pair: {"latency": 50 * MS} if "n3" in pair else {})
    assert reasons(count, figures) == {"n3": "answers in 50.000 ms, others in 0.100 ms"}


@pytest.mark.parametrize("count", [3, 4, 16])
@pytest.mark.parametrize(("end", "verb"), [(0, "sends"), (1, "receives")])
def test_a_node_whose_link_is_slow_in_one_direction_is_named_alone(count: int, end: int, verb: str) -> None:
    figures = measured(count, lambda *pair: {"bandwidth": 12 * MB} if pair[end] == "n2" else {})
    (found,) = reasons(count, figures).items()
    assert found[0] == "n2"
    assert found[1].startswith(f"{verb} 12.0 MB/s, others ")


def test_two_slow_nodes_of_four_are_named() -> None:
    figures = measured(4, lambda *pair: {"latency": 20 * MS} if {"n1", "n4"} & set(pair) else {})
    assert set(reasons(4, figures)) == {"n1", "n4"}


def test_one_bad_measurement_names_no_node() -> None:
    figures = measured(4, lambda *pair: {"latency": 80 * MS, "bandwidth": MB} if pair == ("n1", "n2") else {})
    assert reasons(4, figures) == {}


def test_a_round_trip_below_a_millisecond_is_never_slow() -> None:
    assert reasons(3, measured(3, lambda *pair: {"latency": 0.9 * MS} if "n3" in pair else {})) == {}


def test_the_factor_decides() -> None:
    figures = measured(4, lambda *pair: {"bandwidth": 200 * MB} if pair[0] == "n2" else {})
    nodes = [Node(name) for name in names(4)]
    assert set(diagnose(nodes, figures, 4.0)) == {"n2"}
    assert diagnose(nodes, figures, 6.0) == {}


@pytest.mark.parametrize("count", [3, 4, 16])
def test_a_node_that_nobody_reaches_is_named_alone(count: int) -> None:
    gone: dict[str, object] = {"error": "timed out", "latency": None, "bandwidth": None}
    figures = measured(count, lambda _, target: gone if target == "n1" else {})
    others = [name for name in names(count) if name != "n1"]
    shown = ", ".join(sorted(others)[:5]) + (f" and {count - 6} others" if count > 6 else "")
    assert reasons(count, figures) == {"n1": f"no connection with {shown}: timed out"}


def test_of_two_that_do_not_reach_each_other_both_are_named() -> None:
    figures = measured(4, lambda *pair: {"error": "refused"} if set(pair) == {"n2", "n3"} else {})
    assert reasons(4, figures) == {
        "n2": "no connection with n3: refused",
        "n3": "no connection with n2: refused",
    }


def test_a_silent_node_does_not_make_its_partners_bad() -> None:
    figures = measured(3, lambda *pair: {"error": "timed out"} if "n3" in pair else {})
    nodes = [Node("n1"), Node("n2"), Node("n3", error="its agent does not answer")]
    assert reasons(3, figures, nodes) == {"n3": "its agent does not answer"}


def test_who_sees_no_others_files_and_is_not_seen() -> None:
    nodes = [Node("n1", unseen=("n2",)), Node("n2", unseen=("n1", "n3")), Node("n3", unseen=("n2",))]
    assert reasons(3, measured(3), nodes) == {"n2": "does not share the run's folder with n1, n3"}


def test_too_few_gpus() -> None:
    nodes = [Node("n1", 4, 4), Node("n2", 3, 4), Node("n3", 5, 4)]
    assert reasons(3, measured(3), nodes) == {"n2": "has 3 GPUs of 4"}
    lines = table(nodes, measured(3), {"n2": "has 3 GPUs of 4"})
    assert lines[2].endswith("3/4   has 3 GPUs of 4")
    assert lines[1].endswith("ok")


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7, 8, 64])
def test_rounds_bring_each_pair_together_once_in_each_direction(count: int) -> None:
    found = rounds(names(count), 64)
    assert Counter(pair for pairs in found for pair in pairs) == Counter(itertools.permutations(names(count), 2))
    for pairs in found:
        assert max(Counter(name for pair in pairs for name in pair).values()) == 1


def test_in_a_large_job_each_meets_some() -> None:
    found = rounds(names(1000), 64)
    assert len(found) == 128
    assert set(Counter(source for pairs in found for source, _ in pairs).values()) == {64}


def test_the_better_of_two_measurements_counts() -> None:
    first, second = Figures("a", "b", error="timed out"), Figures("a", "b", 2.0, 3.0)
    assert first.better(second) == second.better(first) == second
    assert Figures("a", "b", 1.0, 2.0).better(second) == Figures("a", "b", 1.0, 3.0)


def test_a_node_that_is_slow_by_mpi_alone() -> None:
    figures = measured(4, lambda *pair: {"bandwidth": 10 * MB} if "n4" in pair else {"bandwidth": 900 * MB})
    assert diagnose_mpi(figures, 4.0) == {"n4": "by MPI allreduces 10.0 MB/s, others 900.0 MB/s"}
    assert mpi_table(figures, {})[4] == "n4    0.100               10.0             ok"
