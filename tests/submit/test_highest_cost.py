"""What a job may cost at most, with the UsageFactor of its QOS in Slurm."""

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from slurm_tf.errors import UnreachableError
from slurm_tf.jobspec.plan import Plan
from slurm_tf.slurm import client
from slurm_tf.submit import highest_cost
from tests.conftest import RECORDED

TEXTS = json.loads((RECORDED / "slurm-22.05.8" / "limits.json").read_text())["alice"]
JOB = 'name = "a"\nstrategy = "multi_worker"\ncommand = ["x"]\ntime = "60"\n{qos}\n[roles.worker]\ncount = 2\n'
SITE = '[prices]\ncurrency = "EUR"\ncpu-hour = 1.0\ngpu-hour = 2.0\n{qos}\n'


@pytest.fixture
def slurm(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Have Slurm's commands print what was recorded, or nothing once the list says that they do not answer."""
    answers = [True]

    def run(argv: Sequence[str], *_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
        if answers[-1] and argv[0] == "sacctmgr":
            return subprocess.CompletedProcess(argv, 0, TEXTS["qos"], "")
        raise UnreachableError(f"{argv[0]} did not answer in 10 s")

    monkeypatch.setattr(client, "run", run)
    return answers


@pytest.mark.parametrize(
    ("of_job", "of_site", "cost"),
    [
        ("", "", "2.00"),
        ('qos = "urgent"', "", "5.00"),
        ('qos = "scavenge"', "", "0.00"),
        ('qos = "urgent"', "qos.urgent = 3.0", "6.00"),
        ('qos = "unheard"', "", "2.00"),
    ],
)
def test_the_price_of_a_qos(
    of_job: str, of_site: str, cost: str, slurm: list[bool], fit: Callable[..., Plan], tmp_path: Path
) -> None:
    """It is left out where Slurm, which knows it, does not answer."""
    (tmp_path / "site.toml").write_text(SITE.format(qos=of_site))
    plan = fit(JOB.format(qos=of_job), str(tmp_path / "site.toml"))
    assert highest_cost.words(plan) == f"0 GPU-hours, 2 CPU-hours, {cost} EUR"
    slurm.append(False)
    is_known = not of_job or of_site
    assert highest_cost.words(plan) == f"0 GPU-hours, 2 CPU-hours{f', {cost} EUR' if is_known else ''}"
