"""Amounts as sacct prints them, of any release; the formats' sources are in slurm/sacct_amounts.py."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as some

from slurm_tf.errors import UnitError
from slurm_tf.slurm import sacct_amounts, sacct_fields
from slurm_tf.slurm.sacct_amounts import Tres
from tests.conftest import ROOT


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("00:00:00", 0), ("02:03:04", 7384), ("1-02:03:04", 93784), ("451-06:00:24", 38988024), ("00:01.234", 1.234),
        ("59:59.999", 3599.999), ("01:13.329", 73.329), ("100:00:00", 360000),
    ],
)  # fmt: skip
def test_times(text: str, seconds: float) -> None:
    assert sacct_amounts.seconds(text) == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "1-02", "a:b:c", "1:2:3:4", "00:nan", "-1:00:00", "INVALID", "1.5:00:00", "00:1e5"]
)
def test_no_times(text: str) -> None:
    with pytest.raises(UnitError):
        sacct_amounts.seconds(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("4224K", 4224 * 1024), ("1.20G", round(1.2 * 2**30)), ("51154944", 51154944), ("2T", 2**41),
        ("62.50G", 62.5 * 2**30), ("1P", 2**50), ("1E", 2**60),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert sacct_amounts.size(text) == size


@pytest.mark.parametrize("text", ["", "K", "-5", "4 G", "4Gc", "1e5", "²"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(UnitError):
        sacct_amounts.size(text)


@pytest.mark.parametrize(
    ("text", "held"),
    [
        ("", Tres()),
        ("billing=8,cpu=8,gres/gpu:a100=2,gres/gpu=2,mem=20M,node=1", Tres(8, 1, 2, "a100", 20, 8)),
        ("cpu=8,gres/gpu:v100=1,gres/gpu:a100=4,mem=4G,node=2", Tres(8, 2, 5, "a100+v100", 4096, 0)),
        ("cpu=1,gres/gpu=3,node=1", Tres(1, 1, 3)),
        ("cpu=1,gres/gpumem=80G,gres/gpuutil=50,gres/shard=4,mem=128,node=1", Tres(1, 1, 0, "", 128)),
        ("billing=2.50K,cpu=1K,gres/gpu:a100=0,mem=62.50G,node=1", Tres(1024, 1, 0, "", 64000, 2560)),
        ("cpu=2,energy=18446744073709551614,license/x=1,node=1,fs/disk=0", Tres(2, 1)),
    ],
)
def test_what_an_allocation_holds(text: str, held: Tres) -> None:
    assert sacct_amounts.tres(text) == held


@given(some.permutations(["cpu=8", "gres/gpu:a100=2", "gres/gpu:v100=1", "gres/gpu=3", "mem=20M", "node=1"]))
def test_the_order_of_tres_does_not_matter(parts: list[str]) -> None:
    assert sacct_amounts.tres(",".join(parts)) == Tres(8, 1, 3, "a100+v100", 20)


@pytest.mark.parametrize(
    ("text", "cpus", "nodes", "memory"),
    [
        ("4000Mc", 8, 2, 32000), ("16000Mn", 8, 2, 32000), ("312.50G", 80, 4, 320000), ("0n", 8, 2, 0),
        ("1Gn", 1, 1, 1024), ("191846Mn", 720, 20, 3836920), ("2147486648Mn", 8, 1, 24000), ("200M", 2, 2, 200),
    ],
)  # fmt: skip
def test_the_memory_that_was_asked_for(text: str, cpus: int, nodes: int, memory: int) -> None:
    """The last but one is Open XDMoD's: 2^31 + 3000 of 17.02 is 3000 MB for each CPU, and AllocTRES says mem=24000M."""
    assert sacct_amounts.requested_memory(text, cpus, nodes) == memory


def test_numbers_that_are_none() -> None:
    assert [sacct_amounts.number(text) for text in ("", "0", "3", "18446744073709551614", "x")] == [
        None,
        0,
        3,
        None,
        None,
    ]


def test_fields_are_those_of_all_releases() -> None:
    by_release = json.loads((ROOT / "tests" / "vectors" / "sacct-fields-by-version.json").read_text())
    assert {name for names in by_release.values() for name in names.split()} == sacct_fields.KNOWN


@pytest.mark.parametrize(
    ("word", "name"),
    [
        ("jobid", "JobID"),
        ("JOBIDRAW", "JobIDRaw"),
        ("elapsed", "Elapsed"),
        ("start", "Start"),
        ("none", None),
        ("", None),
    ],
)
def test_fields_as_format_names_them(word: str, name: str | None) -> None:
    assert sacct_fields.named(word) == name
