"""A type of GPUs has one name in job files, and what the site calls it in Slurm's options."""

from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec.plan import Plan
from slurm_tf.slurm.billing import Weights
from slurm_tf.submit import estimate

SITE = """
[gpu-types]
a100 = { name = "tesla_a100" }
v100 = { constraint = "volta" }
h100 = { name = "h100_80", constraint = "hbm80" }
[partitions.gpu]
gpus-per-node = "tesla_a100:4,v100:2,h100:8"
features = ["volta", "hbm80", "ib"]
"""
JOB = 'name = "a"\nstrategy = "multi_worker"\ncommand = ["x"]\npartition = "gpu"\ntime = 60\n'
WORKERS = "[roles.worker]\ncount = 2\nntasks-per-node = 1\n"


@pytest.fixture
def at_site(fit: Callable[..., Plan], tmp_path: Path) -> Callable[..., Plan]:
    """Return the plan of a job with these lines for its workers."""

    def make(role: str, site: str = "", more: str = "") -> Plan:
        path = tmp_path / "uni.toml"
        path.write_text(site + SITE)
        return fit(JOB + WORKERS + role + more, site=str(path))

    return make


@pytest.mark.parametrize(
    ("role", "option", "value", "constraint"),
    [
        ("gpus-per-task = 'a100:2'", "gpus-per-task", "tesla_a100:2", None),
        ("gpus-per-task = 'tesla_a100:2'", "gpus-per-task", "tesla_a100:2", None),
        ("gpus-per-node = 'v100:2'", "gpus-per-node", "2", "volta"),
        ("gpus-per-node = 'v100:2'\nconstraint = 'ib'", "gpus-per-node", "2", "ib&volta"),
        ("gpus-per-node = 'v100:2'\nconstraint = 'ib|hbm80'", "gpus-per-node", "2", "(ib|hbm80)&volta"),
        ("gpus-per-node = 'v100:2'\nconstraint = '[ib|hbm80]'", "gpus-per-node", "2", "[ib|hbm80]&volta"),
        ("gpus-per-node = 'v100:2'\nconstraint = 'volta'", "gpus-per-node", "2", "volta"),
        ("gpus = 'h100:4'", "gpus", "h100_80:4", "hbm80"),
        ("gpus-per-node = 'a100:1,tesla_a100:1'", "gpus-per-node", "tesla_a100:2", None),
        ("gpus-per-node = 2", "gpus-per-node", "2", None),
    ],
)
def test_how_the_site_is_asked(
    role: str, option: str, value: str, constraint: str | None, at_site: Callable[..., Plan]
) -> None:
    options = dict(at_site(role).components[0].options)
    assert (options[option], options.get("constraint")) == (value, constraint)
    spelled = dict(at_site(role, "gpu-spelling = 'gres'").components[0].options)["gres"]
    assert spelled == f"gpu:{value if option != 'gpus' else 'h100_80:2'}"


@pytest.mark.parametrize(
    ("role", "message"),
    [
        ("gpus-per-node = 'a100:5'", "5 GPUs|at most 4"),
        ("gpus-per-node = 't4:1'", "GPUs of type t4; needed of type tesla_a100 or v100 or h100"),
        ("gpus-per-node = 'v100:1,h100:1'", "found several types of GPUs; needed GPUs of one type: .* volta and hbm80"),
    ],
)
def test_types_are_checked_by_either_name(role: str, message: str, at_site: Callable[..., Plan]) -> None:
    with pytest.raises(ConfigError, match=message):
        at_site(role)


def test_roles_that_share_nodes_ask_by_the_sites_name_as_well(at_site: Callable[..., Plan]) -> None:
    plan = at_site("gpus-per-task = 'a100:1'\nmem = '8G'\n", more="[roles.chief]\nmem = '2G'\ncpus-per-task = 2\n")
    assert [dict(step.srun).get("gres") for step in plan.layout.steps] == ["none", None]
    assert dict(plan.layout.steps[1].srun)["gpus-per-task"] == "tesla_a100:1"
    assert dict(plan.components[0].options)["gpus-per-node"] == "tesla_a100:1"


def test_slurm_bills_by_the_sites_name_and_prices_go_by_the_job_files(at_site: Callable[..., Plan]) -> None:
    plan = at_site("gpus-per-task = 'a100:2'")
    weights = {"gpu": Weights({"gres/gpu:tesla_a100": 3.0})}
    assert estimate.billing_at_most(plan, weights) == 12.0
    assert estimate.at_most(plan).gpu_types == {"a100": 4.0}
