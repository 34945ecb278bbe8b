"""Sweeps and arrays: which points a job has, and what Slurm is asked for."""

from collections.abc import Callable

import pytest

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import params, sweep
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.plan import Plan
from slurm_tf.jobspec.sweep import Array

ONE = 'name = "a"\nstrategy = "single"\ncommand = ["x", "--lr={lr}", "{n} {lr}"]\n[roles.worker]\n'
GIVEN = "params = {lr = 1, n = 1}\n"
GRID = 'sweep = {lr = [0.1, 1e-3], n = [1, true, "a b"]}\n'
HET = (
    'name = "a"\nstrategy = "between_graph"\ncommand = ["x", "{lr}"]\nsweep.lr = [1, 2]\n'
    '[roles.worker]\nconstraint = "ib"\n[roles.ps]\n'
)


def array(job: Job) -> Array | None:
    return sweep.array(job, params.resolve(job).swept)


def test_a_grid_is_an_array(load: Callable[..., Job]) -> None:
    found = array(load(GRID + ONE))
    assert found is not None
    assert found.indexes == "0-5"
    assert found.points[0] == {"lr": 0.1, "n": 1}
    assert found.points[1] == {"lr": 0.1, "n": True}
    assert found.points[5] == {"lr": 0.001, "n": "a b"}


@pytest.mark.parametrize(("text", "indexes"), [("%2", "0-5%2"), ("1,3-4%1", "1,3-4%1"), ("0-5:2", "0,2,4"), ("5", "5")])
def test_some_points_and_how_many_at_once(text: str, indexes: str, load: Callable[..., Job]) -> None:
    found = array(load(f'array = "{text}"\n' + GRID + ONE))
    assert found is not None
    assert found.indexes == indexes


def test_a_plain_array_has_points_without_values(load: Callable[..., Job]) -> None:
    job = load(GIVEN + ONE, environ={"SBATCH_ARRAY_INX": "3-4"})
    assert array(job) == Array({3: {}, 4: {}}, None)
    assert array(load(GIVEN + ONE)) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('array = "%2"\n' + GIVEN, "array: found '%2'; needed indexes, as there is no"),
        ('array = "x"\n' + GIVEN, "array: found 'x'; needed indexes as sbatch"),
        ('array = "4-6"\n' + GRID, "found index 6; needed indexes from 0 to 5: the sweep has 6 points"),
        (
            "sweep.rate = [1]\n" + GIVEN,
            "sweep.rate: nothing uses it; needed an argument of `command` or a",
        ),
        ("sweep.lr = []\n", "sweep.lr: found an empty list"),
        ("sweep.'a b' = [1]\n", "sweep.a b: found the key 'a b'"),
        ("sweep.lr = 1\n", "sweep.lr: found 1; needed a list"),
        ("sweep.lr = [[1]]\n", "sweep.lr"),
    ],
)
def test_what_is_no_sweep(text: str, message: str, fit: Callable[..., Plan]) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(text + ONE)


def test_an_argument_of_a_roles_own_command(fit: Callable[..., Plan]) -> None:
    own = HET.replace("[roles.ps]", '[roles.ps]\ncommand = ["server", "{lr}"]').replace('"{lr}"]\nsweep', '"a"]\nsweep')
    assert fit(own).array is not None
    with pytest.raises(ConfigError, match=r"sweep.lr: nothing uses it"):
        fit(own.replace("{lr}", "b"))


def test_one_job_array_where_slurm_can_and_a_job_a_point_where_it_cannot(fit: Callable[..., Plan]) -> None:
    one = fit('array = "%2"\n' + GRID + ONE)
    assert one.one_job
    assert ("array", "0-5%2") in one.components[0].options
    assert ("output", f"{one.run.logs}/slurm-%A_%a.out") in one.components[0].options
    assert one.settings.points["4"] == {"lr": 0.001, "n": True}
    each = fit(HET)
    assert len(each.components) == 2
    assert not each.one_job
    assert tuple(each.settings.points) == ("0", "1")
    assert not any(name == "array" for component in each.components for name, _ in component.options)


def test_here_a_sweep_of_one_point_can_run(fit: Callable[..., Plan]) -> None:
    fitted = fit("sweep = {lr = [5], n = [6]}\n" + ONE, "local")
    assert fitted.settings.roles[0].command == ("x", "--lr=5", "6 5")
    with pytest.raises(ConfigError, match=r"found 6 points; needed one.*(.|\n)*HINT: choose one: slurm-tf run .* lr=V"):
        fit(GRID + ONE, "local")
