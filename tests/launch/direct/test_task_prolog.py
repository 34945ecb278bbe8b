"""The TaskProlog without Slurm: real processes with the variables of a step."""

import shutil
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm_tf.errors import TopologyError
from slurm_tf.launch.direct import direct_launch
from slurm_tf.submit import task_prolog
from tests import container_image
from tests.free_ports import free_range
from tests.launch.direct.direct_tasks import LAUNCHER, PROGRAM, SHOW, after, one_error, places, seen, start, step
from tests.submit.test_new_run import pythons

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("python", pythons())
def test_launch_and_the_task_prolog_run_on_every_python_that_is_here(python: str, tmp_path: Path) -> None:
    prolog = tmp_path / "prolog"
    prolog.write_bytes(task_prolog.task_prolog(python))
    launch = [python, "-IS", str(prolog), "launch", "--roles=worker=2", "--", *PROGRAM]
    assert places([environ for environ, _ in seen(start(launch, 2, tmp_path))]) == ["worker:0", "worker:1"]
    done = start(["/bin/sh", str(prolog)], 2, tmp_path, environ={"SLURM_TF_ROLES": "worker=2"})
    assert places([after(each.stdout, {}) for each in done]) == ["worker:0", "worker:1"]


@pytest.fixture
def prolog(tmp_path: Path) -> str:
    path = tmp_path / "task prolog"
    path.write_bytes(task_prolog.task_prolog(sys.executable))
    path.chmod(0o700)
    return str(path)


SHELLS = [shell for shell in ("sh", "dash", "bash") if shutil.which(shell)]


@pytest.mark.parametrize("shell", SHELLS)
def test_a_prolog_gives_what_launch_gives(prolog: str, tmp_path: Path, shell: str) -> None:
    variables = {
        "SLURM_TF_ROLES": "ps=1,worker=2",
        "CUDA_VISIBLE_DEVICES": "0,1",
        "http_proxy": "x",
        "no_proxy": "a.b, c",
    }
    variables |= {"TF_CONFIG": "stale", "SLURM_TF_PORTS": "{}-{}".format(*free_range(3))}
    done = start([shell, prolog], 3, tmp_path, environ=variables)
    assert [(each.returncode, each.stderr) for each in done] == [(0, "")] * 3
    set_by_prolog = [after(each.stdout, {**step(rank, 3, tmp_path), **variables}) for rank, each in enumerate(done)]
    launched = [environ for environ, _ in seen(start([*LAUNCHER, "--", *PROGRAM], 3, tmp_path, environ=variables))]
    assert places(set_by_prolog) == places(launched) == ["ps:0", "worker:0", "worker:1"]
    for mine, theirs in zip(set_by_prolog, launched, strict=True):
        differ = {name for name in set(mine) | set(theirs) if mine.get(name) != theirs.get(name)}
        # the ports, and what the programs' own Python sets
        assert differ <= {"TF_CONFIG", "LC_CTYPE", "_", "PWD", "OLDPWD", "SHLVL"}


def test_both_reach_a_program_that_a_container_runtime_starts(prolog: str, tmp_path: Path) -> None:
    container_image.require()
    # an image whose variables count would say its own TF_CONFIG
    program = ["ch-run", str(container_image.folder()), "--", "python3", "-c", SHOW]
    variables = {"SLURM_TF_ROLES": "ps=1,worker=1", "USER": "root"}
    launched = [environ for environ, _ in seen(start([*LAUNCHER, "--", *program], 2, tmp_path, environ=variables))]
    assert places(launched) == ["ps:0", "worker:0"]
    done = start(["sh", prolog], 2, tmp_path, environ=variables)
    lines = [after(each.stdout, variables) for each in done]
    prologued = [seen(start(program, 1, tmp_path, environ=each))[0][0] for each in lines]
    assert places(prologued) == ["ps:0", "worker:0"]


@pytest.mark.parametrize(
    "variables",
    [
        {"SLURM_TF_ROLES": ""},
        {"SLURM_TF_ROLES": "worker=1", "SLURM_TF_COORDINATOR": "n1:5"},
        {"SLURM_TF_ROLES": "worker=1", "SLURM_STEP_ID": ""},
        *({"SLURM_TF_ROLES": "worker=1", "SLURM_STEP_ID": str(number)} for number in range(4294967290, 4294967296)),
    ],
)
@pytest.mark.parametrize("shell", SHELLS)
def test_a_prolog_that_nobody_asked_leaves_at_once(
    prolog: str, tmp_path: Path, shell: str, variables: dict[str, str]
) -> None:
    # a Python that would be noticed
    (done,) = start([shell, prolog], 1, tmp_path, environ={"SLURM_TF_PYTHON": "/bin/echo", **variables})
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_a_prolog_says_what_is_wrong_where_it_is_shown(prolog: str, tmp_path: Path) -> None:
    text = one_error(start([prolog], 2, tmp_path, environ={"SLURM_TF_ROLES": "worker=3"}), 65)
    assert text.split("\n") == [
        "print slurm-tf: the roles 'worker=3' are 3 tasks, the step has 2; needed one role for each task of the step",
        "print slurm-tf: HINT: srun --ntasks=3, or other roles",
        "",
    ]
    (done,) = start([prolog], 1, tmp_path, environ={"SLURM_TF_ROLES": "worker=1", "SLURM_TF_PYTHON": "/no/python"})
    assert done.returncode == 69
    assert done.stdout.startswith("print slurm-tf: found no /no/python on ")
    # whatever else goes wrong
    (done,) = start([prolog], 1, tmp_path, environ={"SLURM_TF_ROLES": "worker=1", "SLURM_NTASKS": ""})
    assert done.returncode == 69
    assert "print slurm-tf: SLURM_NTASKS is ''" in done.stdout


VALUES = st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"]))
ENVIRONS = st.dictionaries(st.text("ABC_", min_size=1, max_size=3), VALUES)


@given(ENVIRONS, ENVIRONS)
def test_the_lines_of_a_prolog_make_any_environment(old: dict[str, str], new: dict[str, str]) -> None:
    assert after("".join(f"{line}\n" for line in direct_launch.changes(old, new)), old) == new


def test_a_value_that_no_line_holds_is_refused() -> None:
    with pytest.raises(TopologyError, match="needed one line"):
        list(direct_launch.changes({}, {"A": "b\nexport C=d"}))
    assert list(direct_launch.changes({"A": "b\nc"}, {"A": "b\nc"})) == []
