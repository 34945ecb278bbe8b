"""Bad nodes of a run: where they are known, how they are left out, how they are forgotten."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.contract import RunFolder
from slurm_tf.errors import RunError
from slurm_tf.spec.plan import Plan
from slurm_tf.submit import bad_nodes, render, runs


def remember(folder: RunFolder, version: int = 1, **reasons: str) -> None:
    Path(folder.path).mkdir(parents=True, exist_ok=True)
    nodes = {node: {"reason": reason, "at": 0.0} for node, reason in reasons.items()}
    Path(folder.bad_nodes).write_text(json.dumps({"contract": version, "nodes": nodes}))


@pytest.mark.parametrize(
    ("own", "bad", "text"),
    [
        ("", {}, ""),
        ("", {"b": "", "a": ""}, "a,b"),
        ("n[1-3]", {}, "n[1-3]"),
        ("n[1-3]", {"n2": "", "n4": ""}, "n[1-3],n4"),
        ("n[1-", {"n2": ""}, "n[1-,n2"),  # sbatch will say what it thinks of that
    ],
)
def test_the_users_own_stay(own: str, bad: dict[str, str], text: str) -> None:
    assert bad_nodes.exclude(own, bad) == text


def test_a_run_knows_what_its_points_found(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path / "r"))
    assert bad_nodes.known(run) == {}
    remember(run, n1="a")
    remember(run.point(0), n2="b")
    remember(run.point(12), n3="c")
    remember(RunFolder(f"{run.path}/code-1"), n4="d")
    assert bad_nodes.known(run) == {"n1": "a", "n2": "b", "n3": "c"}
    bad_nodes.forget(run)
    assert bad_nodes.known(run) == {}


def test_of_another_version(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path))
    remember(run, version=2, n1="a")
    with pytest.raises(RunError, match="contract version 2"):
        bad_nodes.known(run)


def test_a_preflights_script_is_the_jobs_but_for_one_word(fit: Callable[..., Plan]) -> None:
    plan = fit('name = "a"\nstrategy = "single"\ncommand = ["x"]\n[roles.worker]\n')
    training, preflight = (render.script(plan, preflight).splitlines() for preflight in (False, True))
    differing = [(one, other) for one, other in zip(training, preflight, strict=True) if one != other]
    assert [other for _, other in differing] == [one.replace(" -- ", " --preflight -- ") for one, _ in differing]
    assert len(differing) == 1


def test_the_launcher_has_all_that_a_preflight_needs() -> None:
    packed = {str(path.relative_to(runs._PACKAGE)) for each in runs.LAUNCHER_FILES for path in runs._PACKAGE.glob(each)}
    assert {"launch/preflight.py", "launch/probe.py", "launch/verdict.py", "launch/opening.py"} <= packed
