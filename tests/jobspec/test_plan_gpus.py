"""Plans of jobs with GPUs: typed values, options as the site spells them, one --gres with the user's own."""

from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec.plan import Plan
from slurm_tf.jobspec.resources import GpuOption, GpuRequest
from slurm_tf.units import Gpus
from tests.jobspec.test_plan import PS, WORKERS, options, site


@pytest.mark.parametrize(
    ("role", "spelling", "asked", "amounts"),
    [
        ('gpus-per-task = "a100:2"', "as-asked", (GpuOption.PER_TASK, 2), (4, 8)),
        ('gpus = "a100:8"', "gpus-per-task", (GpuOption.PER_TASK, 2), (4, 8)),
        ('gpus-per-task = "a100:2"\nntasks-per-node = 2', "gres", (GpuOption.GRES, 4), (4, 8)),
        ('gpus-per-node = "a100:2"', "as-asked", (GpuOption.PER_NODE, 2), (4, None)),
    ],
)
def test_gpus_are_one_typed_value(
    role: str,
    spelling: str,
    asked: tuple[GpuOption, int],
    amounts: tuple[int, int | None],
    fit: Callable[..., Plan],
    tmp_path: Path,
) -> None:
    """What the estimate counts is what the options ask for, in whatever option the site accepts."""
    (component,) = fit(WORKERS + role, site=site(tmp_path, f"gpu-spelling = '{spelling}'")).components
    assert component.resources is not None
    assert component.resources.gpus == GpuRequest(asked[0], (Gpus(asked[1], "a100"),))
    assert (component.amounts.cpus, component.amounts.gpus) == amounts
    assert component.amounts.gpu_types == ({"a100": amounts[1]} if amounts[1] else {})
    prefix = "gpu:" if spelling == "gres" else ""
    assert dict(component.options)[asked[0].value] == f"{prefix}a100:{asked[1]}"


def test_totals_of_gpus_add_up(fit: Callable[..., Plan]) -> None:
    plan = fit(PS.format(chief="gpus = 2", worker="gpus = 6", ps="gpus = 2"))
    assert len(plan.components) == 1
    assert options(plan)["gpus"] == "10"


@pytest.mark.parametrize(
    ("asked", "spelling", "option", "value"),
    [
        ("gpus-per-task = 'a100:2'", "as-asked", "gpus-per-task", "a100:2"),
        ("gpus-per-task = 2\nntasks-per-node = 2", "gres", "gres", "gpu:4"),
        ("gpus-per-node = 'h100:4'", "gres", "gres", "gpu:h100:4"),
        ("gpus = 8\nntasks-per-node = 2", "gpus-per-node", "gpus-per-node", "4"),
        ("gpus = 4", "gpus-per-task", "gpus-per-task", "1"),
        ("gpus-per-node = 4\nntasks-per-node = 4", "gpus-per-task", "gpus-per-task", "1"),
        ("gpus-per-node = '2080ti'", "as-asked", "gpus-per-node", "2080ti:1"),
        ("gpus-per-node = '1g.5gb'", "gres", "gres", "gpu:1g.5gb:1"),
        ("gpus-per-task = 'a100:4,t4:2'\nntasks-per-node = 2", "gres", "gres", "gpu:a100:8,gpu:t4:4"),
        ("gpus = 'a100:4,t4:8'", "gpus-per-task", "gpus-per-task", "a100:1,t4:2"),
    ],
)
def test_gpus_as_the_site_spells_them(
    asked: str, spelling: str, option: str, value: str, fit: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = fit(WORKERS + asked, site=site(tmp_path, f"gpu-spelling = '{spelling}'"))
    found = {name: value for name, value in options(plan).items() if "g" in name[:2]}
    assert found == {option: value}


def test_a_component_without_gpus_says_so_where_another_has_some(fit: Callable[..., Plan]) -> None:
    text = PS.format(chief="", worker="gpus-per-task = 1", ps="partition = 'cpu'")
    assert [options(fit(text), number).get("gres") for number in range(3)] == ["none", None, "none"]
    with_nvme = fit(text + "[sbatch]\ngres = 'nvme:100'\n")
    assert [options(with_nvme, number).get("gres") for number in range(3)] == ["nvme:100"] * 3
    without = fit(PS.format(chief="", worker="", ps="partition = 'cpu'"))
    assert [options(without, number).get("gres") for number in range(2)] == [None, None]


@pytest.mark.parametrize(
    ("role", "own", "gres"),
    [
        ("gpus-per-node = 'v100'", "nvme:100", "gpu:v100:1,nvme:100"),
        ("gpus-per-node = 'v100:2,t4:1'", "nvme:100,lustre", "gpu:v100:2,gpu:t4:1,nvme:100,lustre"),
        ("gpus-per-node = 2", "", "gpu:2"),
        ("gpus-per-node = 2", "none", "gpu:2"),
        ("", "nvme:100", "nvme:100"),
        ("", "none", "none"),
    ],
)
def test_one_gres_with_the_gpus_and_the_users_own(
    role: str, own: str, gres: str, fit: Callable[..., Plan], tmp_path: Path
) -> None:
    plan = fit(WORKERS + f"{role}\n[sbatch]\ngres = '{own}'\n", site=site(tmp_path, "gpu-spelling = 'gres'"))
    assert [value for name, value in plan.components[0].options if name == "gres"] == [gres]


def test_gpus_that_no_role_states_are_left_to_slurm(fit: Callable[..., Plan]) -> None:
    assert fit(WORKERS).settings.gpu_sharing == "as-given"
    assert fit("gpu-sharing = 'all'\n" + WORKERS).settings.gpu_sharing == "as-given"
    assert fit(WORKERS + "gpus-per-task = 0\n").settings.gpu_sharing == "split"
    assert fit(PS.format(chief="", worker="gpus = 3", ps="")).settings.gpu_sharing == "split"
    # without Slurm there is no list, and every task would see all devices of the machine
    assert fit(WORKERS, site="local").settings.gpu_sharing == "split"


def test_gpus_of_several_types(fit: Callable[..., Plan]) -> None:
    plan = fit(PS.format(chief="gpus = 'a100:1,t4:1'", worker="gpus = 'a100:3,t4:3'", ps="gpus = 't4,a100'"))
    assert len(plan.layout.steps) == 3  # in another order they are not equal
    plan = fit(PS.format(chief="gpus = 'a100:1,t4:1'", worker="gpus = 'a100:3,t4:3'", ps="gpus = 'a100,t4'"))
    assert options(plan)["gpus"] == "a100:5,t4:5"
    assert plan.components[0].amounts.gpu_types == {"a100": 5, "t4": 5}
    assert [role.gpus for role in plan.settings.roles] == [2, 2, 2]


def test_gpus_that_the_site_cannot_be_asked_for(fit: Callable[..., Plan], tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"roles.worker.gpus-per-task: .*asked for as gres\nHINT: say ntasks-per-node"
    ):
        fit(WORKERS + "gpus-per-task = 1", site=site(tmp_path, "gpu-spelling = 'gres'"))


PARTITION_IS_ITS_GPUS = "gpu-spelling = 'none'\ndefault-partition = 'dgx'\n[partitions.dgx]\ngpus-per-node = 'a100:4'\n"


@pytest.mark.parametrize(
    ("role", "of_a_task", "gpus"),
    [
        ("gpus-per-task = 1\nntasks-per-node = 2", 1, 8),
        ("gpus = 4\nntasks-per-node = 4", 1, 4),
        ("gpus-per-node = 'a100:4'\nntasks-per-node = 2", 2, 8),
        ("gpus-per-node = 3\nntasks-per-node = 2", None, 8),
        ("count = 1\ngpus-per-task = 4", 4, 4),
    ],
)
def test_a_site_whose_partitions_are_their_gpus_is_not_asked_for_them(
    role: str, of_a_task: int | None, gpus: int, fit: Callable[..., Plan], tmp_path: Path
) -> None:
    text = WORKERS.replace("count = 4\n", "") + role if "count" in role else WORKERS + role
    plan = fit(text, site=site(tmp_path, PARTITION_IS_ITS_GPUS))
    (component,) = plan.components
    assert not [name for name, _ in component.options if "g" in name[:2]]
    assert [(each.gpus, each.node_gpus) for each in plan.settings.roles] == [(of_a_task, 4)]
    # the job has its nodes' GPUs
    assert (component.amounts.gpus, component.amounts.gpu_types) == (gpus, {"a100": gpus})


def test_roles_with_and_without_gpus_are_one_component_where_slurm_is_not_asked_for_them(
    fit: Callable[..., Plan], tmp_path: Path
) -> None:
    each = "ntasks-per-node = 5\n"
    text = PS.format(chief=each, worker=each + "gpus-per-task = 1", ps=each)
    plan = fit(text, site=site(tmp_path, PARTITION_IS_ITS_GPUS))
    assert len(plan.components) == 1
    assert plan.components[0].amounts.gpus == 4
    assert [(role.gpus, role.node_gpus) for role in plan.settings.roles] == [(0, 0), (1, 4), (0, 0)]
    assert plan.settings.gpu_sharing == "split"


@pytest.mark.parametrize(
    ("role", "message"),
    [
        ("gpus-per-task = 1", "gpus-per-task: found gpus-per-task; needed ntasks-per-node as well"),
        (
            "gpus-per-task = 3\nntasks-per-node = 2",
            "asks for 6 GPUs on a node; needed at most 4, the limit of partition",
        ),
        (
            "partition = 'dgx,cpu'\ngpus = 4",
            "needed partitions with the same gpus-per-node in the profile of .*; found dgx,cpu",
        ),
        ("partition = 'cpu'\ngpus = 4", r"needed a partition with gpus-per-node in the profile of .*; found cpu"),
        ("mem-per-gpu = '1G'", "mem-per-gpu: found mem-per-gpu; needed mem or mem-per-cpu"),
    ],
)
def test_what_a_site_without_gres_cannot_give(
    role: str, message: str, fit: Callable[..., Plan], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        fit(WORKERS + role, site=site(tmp_path, PARTITION_IS_ITS_GPUS))
