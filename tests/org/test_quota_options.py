"""What options say of limits, and what Slurm has of them."""

from datetime import timedelta

import pytest

from slurm_tf.errors import UnitError
from slurm_tf.org import quota_options
from slurm_tf.org.quota_options import Wish
from slurm_tf.slurm.associations import AssociationLimits, QosRecord

GPU = "gres/gpu"


@pytest.mark.parametrize(
    ("text", "tres"),
    [
        ("8", {GPU: 8}),
        ("0", {GPU: 0}),
        # a limit of a type alone is passed by --gres=gpu:2
        ("a100:4", {GPU: 4, f"{GPU}:a100": 4}),
        ("a100:4,v100:8", {GPU: 12, f"{GPU}:a100": 4, f"{GPU}:v100": 8}),
        ("6,a100:4", {GPU: 6, f"{GPU}:a100": 4}),
        ("UNLIMITED", {}),
    ],
)
def test_a_limit_on_a_type_comes_with_one_on_all_gpus(text: str, tres: dict[str, int]) -> None:
    old = Wish(AssociationLimits({GPU: 3, f"{GPU}:t4": 1, "cpu": 5}))
    assert quota_options.with_options(old, {"gpus": text}).limits.grp_tres == {"cpu": 5, **tres}


def test_each_option() -> None:
    wish = quota_options.with_options(
        Wish(),
        {"cpus": "64", "mem": "512G", "gpu-hours": "0.5", "max-time": "2-0", "gpus-per-job": "2", "gpus-per-user": "3"},
    )
    assert wish.limits == AssociationLimits({"cpu": 64, "mem": 524288}, {GPU: 30}, {GPU: 2}, timedelta(days=2))
    assert wish.qos("a") == QosRecord("a", (), {}, {GPU: 3})
    assert quota_options.with_options(wish, {"gpus-per-user": "unlimited"}).qos("a") is None


def test_gpu_hours_that_are_a_total_are_in_the_qos() -> None:
    wish = quota_options.with_options(Wish(), {"gpu-hours": "1000", "no-decay": True})
    assert wish.of_association.grp_tres_mins == {}
    assert wish.qos("a") == QosRecord("a", ("NoDecay",), {GPU: 60000})
    back = quota_options.wish_of(wish.of_association, wish.qos("a"))
    assert back.limits == wish.limits
    assert quota_options.with_options(back, {"no-decay": False}).of_association.grp_tres_mins == {GPU: 60000}


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("gpus", "-1", "gpus: found '-1'"),
        ("gpus", "a100:2,a100:1", "each type of GPU once"),
        ("gpus", "2;rm", "GPUs as sbatch writes them"),
        ("cpus", "1.5", "cpus: found '1.5'; needed a whole number, or UNLIMITED"),
        ("cpus", "4,node=1", "a whole number"),
        ("mem", "lots", "an amount of memory"),
        ("gpu-hours", "1e9", "hours, such as 1000 or 0.5"),
        ("gpu-hours", "nan", "hours"),
        ("max-time", "00:00:30", "whole minutes"),
        ("max-time", "soon", "a time as sbatch writes it"),
    ],
)
def test_bad_values(name: str, text: str, words: str) -> None:
    with pytest.raises(UnitError, match=words.replace("(", r"\(")):
        quota_options.with_options(Wish(), {name: text})
