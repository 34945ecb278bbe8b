"""The mutants that tests/mutants makes, finds again in changed code, and counts as killed."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.conftest import ROOT
from tests.mutants.matching import Matcher
from tests.mutants.places import Mutant, mutants_in, mutants_of
from tests.mutants.trial import find_tests

pytestmark = pytest.mark.slow

SOURCE = dedent('''
    """A module's docstring is no place."""
    import os

    def grace(left: "Optional[float]" = 3.0, *, why: str = "lost") -> float:
        """Return the seconds that are left."""
        if left < 5 and not why:
            os.write(1, b"")
            return left - 1
        raise ValueError(f"{left + 1} left")
''')


def mutants(source: str, module: str = "launch/grace") -> list[Mutant]:
    return mutants_of(module, dedent(source), {"State": ["RUNNING", "LOST"]})


def changed(source: str, mutant: Mutant) -> str:
    content = dedent(source).encode()
    return (content[: mutant.start] + mutant.replacement.encode() + content[mutant.end :]).decode()


def test_a_function_is_changed_in_each_of_its_places() -> None:
    assert [(each.operator, each.replacement) for each in mutants(SOURCE)] == [
        ("condition", "True"),
        ("condition", "False"),
        ("and-or", "(left < 5 or not why)"),
        ("comparison", "(left <= 5)"),
        ("number", "(6)"),
        ("negation", "(why)"),
        ("statement", "pass"),
        ("argument order", "(os.write(b'', 1))"),
        ("number", "(2)"),
        ("return value", "return None"),
        ("arithmetic", "(left + 1)"),
        ("number", "(2)"),
        ("statement", "pass"),
    ]


def test_one_place_is_changed_at_a_time() -> None:
    [swapped] = [each for each in mutants(SOURCE) if each.operator == "comparison"]
    assert changed(SOURCE, swapped) == SOURCE.replace("left < 5", "(left <= 5)")


def test_positions_are_right_after_letters_of_several_bytes() -> None:
    source = 'def f(a):\n    return g("äöü", a) == 3\n'
    [swapped] = [each for each in mutants(source) if each.operator == "comparison"]
    assert changed(source, swapped) == source.replace('g("äöü", a) == 3', "(g('äöü', a) != 3)")


def test_states_are_members_of_enums_and_strings_of_one_word() -> None:
    source = 'def f(a):\n    g(State.RUNNING, "Not a state.")\n    return a.state is State.LOST or a.why == "lost"\n'
    states = [each.replacement for each in mutants(source) if each.operator == "state"]
    assert states == ["(State.LOST)", "(State.RUNNING)", "('not-lost')"]


def test_every_mutant_of_the_package_is_another_program() -> None:
    sample = mutants_in(ROOT, ["launch/decide/heartbeat"])
    assert len(sample) > 20
    assert len({each.name for each in sample}) == len(sample)
    for mutant in sample:
        source = (ROOT / "slurm_tf" / f"{mutant.module}.py").read_text()
        assert ast.dump(ast.parse(changed(source, mutant))) != ast.dump(ast.parse(source)), mutant


OTHER = "def other(a):\n    return a.x * 3\n"


@pytest.mark.parametrize(
    ("new", "how"),
    [
        (SOURCE, "same function"),
        (SOURCE.replace("grace", "time_left").replace("why", "cause"), "function with other names"),
        (SOURCE.replace("raise", "print(left)\n    raise"), "same statement in its function"),
        (SOURCE.replace("def grace", "def time_left").replace("raise", "print()\n    raise"), "same statement"),
        (SOURCE.replace("why", "cause").replace("raise", "print()\n    raise"), "statement with other names"),
    ],
)
def test_a_mutant_is_found_again_in_changed_code(new: str, how: str) -> None:
    old = [*mutants(SOURCE), *mutants(OTHER, "launch/other")]
    matcher = Matcher(old, [*mutants(OTHER, "launch/other"), *mutants(new, "launch/decide/grace")])
    [removed] = [each for each in old if each.replacement == "pass" and each.statement.startswith("os.write")]
    [fixed] = [each for each in old if each.replacement == "True"]
    if how != "statement with other names":  # os.write(1, b'') has none
        assert (found := matcher.find(removed)) and found[1].statement == removed.statement
    assert (found := matcher.find(fixed)) and (found[0], found[1].module) == (how, "launch/decide/grace")


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        ("a.state is None and not a.over and b > 3", "x.state is None and not x.ended and y > 3", True),
        ("a", "x", False),
    ],
)
def test_only_a_long_statement_is_found_by_its_shape_alone(old: str, new: str, found: bool) -> None:
    before = mutants(f"def f(a, b):\n    if {old}:\n        return b\n    return 3\n")
    after = mutants(f"def h(x, y):\n    print(x)\n    if {new}:\n        return 4\n", "launch/decide/grace")
    [fixed] = [each for each in before if each.replacement == "True"]
    assert (Matcher(before, after).find(fixed) is not None) == found


def test_a_mutant_whose_place_is_gone_is_not_found() -> None:
    matcher = Matcher(mutants(SOURCE), mutants(SOURCE.replace("left < 5 and not why", "left")))
    [swapped] = [each for each in mutants(SOURCE) if each.operator == "and-or"]
    assert matcher.find(swapped) is None
    assert matcher.becomes == {}


def test_a_modules_tests_are_those_of_its_name_and_those_that_import_it() -> None:
    files = find_tests(ROOT, "launch/decide/hangs", {"launch/decide/*": ("tests/launch/test_job.py",)})
    assert files[0] == "tests/launch/decide/test_hangs.py"
    assert files[-1] == "tests/launch/test_job.py"
    assert "tests/launch/transport/test_ports.py" not in files


def write(tree: Path, function: str, tests: str) -> Path:
    (tree / "slurm_tf" / "launch").mkdir(parents=True)
    (tree / "tests" / "launch").mkdir(parents=True)
    (tree / "slurm_tf" / "launch" / "grace.py").write_text(f"def {function}(left, least):\n    return left < least\n")
    (tree / "tests" / "launch" / "test_grace.py").write_text(f"from slurm_tf.launch.grace import {function}\n{tests}")
    return tree


@pytest.mark.long
def test_the_share_killed_falls_when_a_test_is_removed(tmp_path: Path) -> None:
    sides, edge = (
        "def test_sides():\n    assert grace(4, 5) and not grace(6, 5)\n",
        "def test_edge():\n    assert not grace(5, 5)\n",
    )
    old = write(tmp_path / "old", "grace", sides + edge)
    new = write(tmp_path / "new", "time_left", sides.replace("grace", "time_left"))

    def measure(tree: Path, *more: "str | Path") -> dict[str, str]:
        file = tmp_path / f"{tree.name}.json"
        argv = [sys.executable, "-m", "tests.mutants", "--tree", tree, "--json", file, "--modules", "launch/*", *more]
        subprocess.run(argv, cwd=ROOT, check=True, timeout=120)
        return {each["operator"]: each["outcome"] for each in json.loads(file.read_text())}

    assert measure(old) == {"return value": "killed", "comparison": "killed"}
    after = measure(new, "--sample", tmp_path / "old.json", "--sample-tree", old)
    assert after == {"return value": "killed", "comparison": "survived"}
