"""What a user may ask for, after each refusal of Slurm 22.05.8."""

import re
from collections.abc import Callable

import pytest

from slurm_tf.errors import SlurmError, UnreachableError
from slurm_tf.slurm import sbatch_choices
from slurm_tf.slurm.sbatch_choices import Topic
from tests.conftest import RECORDED

FOLDER = RECORDED / "slurm-22.05.8"
REFUSALS = dict(re.findall(r"^# (sbatch .*)\n((?:sbatch: .*\n)+)", (FOLDER / "sbatch-refusals.txt").read_text(), re.M))
NODES = "no more than nodes have: main, cpu, short: 4 nodes with 8 CPUs, 8G, gpu:a100:4,nvme:200"
PARTITIONS = "a partition that you have: main (default, up to 1-00:00:00); cpu (up to 1-00:00:00); short (up to 2:00)"
QOS = "a QOS of yours: evictable; gpuq; normal; scavenge; slow-scavenge; strict; urgent"
RESERVATIONS = (
    "a reservation: maint (from 2026-11-27T22:59 to 2026-11-27T23:59); "
    "course (from 2026-12-01T09:00 to 2026-12-01T11:00)"
)
NEEDED = {
    "sbatch -p nosuch": PARTITIONS,
    "sbatch -A nosuch": "an account of yours: vision; nlp",
    "sbatch --qos nosuch": QOS,
    "sbatch --mem=99G": NODES,
    "sbatch --gres gpu:9": NODES,
    "sbatch -C nofeature": NODES,
    "sbatch --reservation=nosuch": RESERVATIONS,
    "sbatch -w node9": NODES,
    "sbatch --gpus-per-task=h100:1 -n1": NODES,
    "sbatch --license=abc": "",
    "sbatch --qos strict --gres=gpu:4": "",
}


@pytest.fixture
def recorded_tables(program: Callable[[str, str], None]) -> None:
    """Put the commands that are asked into PATH; each prints what was recorded."""
    for name, file in (("sinfo", "partitions"), ("sacctmgr", "associations"), ("scontrol", "reservations")):
        program(name, f"#!/bin/sh\nexec /bin/cat {FOLDER}/{name}-{file}.txt\n")


@pytest.mark.usefixtures("recorded_tables")
def test_each_refusal_is_answered_with_what_there_is() -> None:
    assert {line: sbatch_choices.explained(SlurmError(text)).needed for line, text in REFUSALS.items()} == NEEDED


@pytest.mark.parametrize(
    ("reason", "topic"),
    [
        ("PartitionTimeLimit", Topic.PARTITION),
        ("PartitionNodeLimit", Topic.NODES),
        ("BadConstraints", Topic.NODES),
        ("AccountNotAllowed", Topic.ACCOUNT),
        ("InvalidQOS", Topic.QOS),
        ("QOSMaxGRESPerUser", None),
        ("Priority", None),
    ],
)
def test_a_reason_of_a_job_that_cannot_start(reason: str, topic: Topic | None) -> None:
    assert sbatch_choices.topic(reason) is topic


@pytest.mark.parametrize("text", ["", "exit 1", "echo 'Unable to contact slurm controller' >&2; exit 1"])
def test_what_slurm_does_not_say_is_unknown(text: str, program: Callable[[str, str], None]) -> None:
    program("sinfo", f"#!/bin/sh\n{text}\n")
    said = sbatch_choices.words(Topic.PARTITION)
    if not text:
        assert said == "a partition that you have, and there is none"
    else:
        assert re.fullmatch(r"a partition that you have; which there are is unknown: .*exit code 1.*", said)
    # not installed
    assert "which there are is unknown: found no sacctmgr in PATH" in sbatch_choices.words(Topic.ACCOUNT)


def test_a_silent_controller_is_no_refusal() -> None:
    error = UnreachableError("sbatch: error: Invalid account: Unable to contact slurm controller")
    assert sbatch_choices.explained(error) is error


def test_different_qos_have_their_accounts_and_many_choices_are_cut(program: Callable[[str, str], None]) -> None:
    assert sbatch_choices.parse_qos("a||normal,long\nb|gpu|normal\n") == ("normal (account a, b)", "long (account a)")
    assert sbatch_choices.parse_accounts("a||normal\nb|gpu|normal\na||x\n") == ("a", "b (partition gpu)")
    rows = "\n".join(f"a{number}||n" for number in range(15))
    program("sacctmgr", f"#!/bin/sh\necho '{rows}'\n")
    assert sbatch_choices.words(Topic.ACCOUNT).endswith("; a11; and 3 more")
