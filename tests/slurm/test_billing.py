"""TRESBillingWeights, from what Slurm 22.05.8 printed, against the billing that it showed for such jobs."""

import pytest

from slurm_tf.slurm import billing
from slurm_tf.slurm.billing import Amounts, Weights
from tests.conftest import RECORDED

SLURM = RECORDED / "slurm-22.05.8"
# scontrol --all --oneliner show partition; scontrol show config, its lines on priority
PARTITIONS = (SLURM / "scontrol-partitions.txt").read_text()
CONFIG = (SLURM / "scontrol-config.txt").read_text()
MAX_TRES = (SLURM / "scontrol-config-max-tres.txt").read_text()


@pytest.mark.parametrize(
    ("partition", "held", "billed"),
    [
        # as `scontrol show job` said in TRES=
        ("main", Amounts(1, 256, 1, 2, {"a100": 2}), 11),
        ("main", Amounts(1, 256, 1, 2), 11),
        ("main", Amounts(1, 256, 1, 1, {"a100": 1}), 6),
        ("main", Amounts(6, 1800, 1, 0), 6),
        ("main", Amounts(2, 2048, 2, 2, {"a100": 2}), 12),
        ("main", Amounts(8, 2048, 1, 4, {"a100": 4}), 28),
        ("main", Amounts(1, 8192, 1, 0), 3),
        ("main", Amounts(1, 4000, 1, 0), 1),
        ("main", Amounts(4, 7900, 2, 0), 5),
        ("main", Amounts(1, 2000, 1, 2, {"a100": 2}), 11),
        ("negative", Amounts(3, 2048, 1, 0), 5),
        ("negative", Amounts(1, 200, 1, 0), 1),
        ("big", Amounts(2, 1024, 1, 0), 2),
    ],
)
def test_billing_is_slurms(partition: str, held: Amounts, billed: int) -> None:
    assert billing.parse(PARTITIONS, CONFIG)[partition].billing(held) == billed


def test_partitions_with_weights_and_the_default() -> None:
    found = billing.parse(PARTITIONS, CONFIG)
    assert set(found) == {"", "main", "odd", "negative", "big"}
    assert found[""] == found["main"]
    assert found["odd"].by_tres == {"cpu": 0.9, "mem": 1.0, "node": 3.0, "energy": 0.1}


@pytest.mark.parametrize("config", [MAX_TRES, CONFIG.replace("PriorityFlags", "Flags"), ""])
def test_under_another_rule_than_the_sum_nothing_is_said(config: str) -> None:
    assert billing.parse(PARTITIONS, config) == {}


@pytest.mark.parametrize(
    ("weights", "held"),
    [
        ({"cpu": 1.0}, Amounts(None, 1, 1, 0)),
        ({"mem": 0.1}, Amounts(1, None, 1, 0)),
        ({"node": 1.0}, Amounts(1, 1, None, 0)),
        ({"gres/gpu": 1.0}, Amounts(1, 1, 1, None)),
        ({"gres/gpu:a100": 1.0}, Amounts(1, 1, 1, None)),
        ({"cpu": 1.0, "energy": 0.1}, Amounts(1, 1, 1, 0)),
        ({"cpu": -1.0}, Amounts(1, 1, 1, 0)),
    ],
)
def test_an_amount_that_counts_and_is_not_known(weights: dict[str, float], held: Amounts) -> None:
    assert Weights(weights).billing(held) is None


def test_an_amount_that_does_not_count_need_not_be_known() -> None:
    assert Weights({"cpu": 2.0, "mem": 0.0}).billing(Amounts(3, None, None, None)) == 6


def test_gpus_of_any_type_may_be_the_dearest() -> None:
    weights = Weights({"gres/gpu": 1.0, "gres/gpu:a100": 3.0, "gres/gpu:t4": 0.5})
    counts = [weights.billing(Amounts(1, 1, 1, 2, {kind: 2} if kind else {})) for kind in ("A100", "t4", "v100", "")]
    assert counts == [8, 3, 2, 8]


@pytest.mark.parametrize("text", ["", "CPU", "CPU=x", "CPU=1,,Mem=2", "CPU=1Z"])
def test_weights_that_cannot_be_read_are_none(text: str) -> None:
    assert billing.parse(f"PartitionName=p Default=NO TRESBillingWeights={text}\n", CONFIG) == {}
