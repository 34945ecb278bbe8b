"""What quota and lfs quota print of a home folder.

No quota is at hand here: the texts are in the form in which sites show the output of these programs.
"""

import os
from pathlib import Path

import pytest

from slurm_tf.launch.examination import quota
from slurm_tf.run.machine_facts import Quota
from tests.conftest import RECORDED

TEXTS = {path.stem: path.read_text() for path in (RECORDED / "quota").iterdir()}
# a server of Lustre did not answer: its numbers are in brackets
BRACKETS = """\
     Filesystem    kbytes    quota   limit   grace   files   quota   limit   grace
          /fred [1041408]  5242880 6291456       -     [0]       0       0       -
"""


@pytest.mark.parametrize(
    ("text", "home", "expected"),
    [
        (TEXTS["quota-4.06"], "/home/alice", Quota(51234567 << 10, 76800000 << 10, 154321, 350000)),
        (TEXTS["quota-4.06"], "/workspace", Quota(0, 524288000 << 10, 1, 0)),
        (TEXTS["quota-4.06"], "/homes/alice", None),
        (TEXTS["lfs-2.15"], "/lustre/orion/home/alice", Quota(104847442 << 10, 104857600 << 10, 921718, 1048576)),
        (BRACKETS, "/fred/alice", Quota(1041408 << 10, 6291456 << 10, 0, 0)),
        ("Disk quotas for user alice (uid 1000): none\n", "/home/alice", None),
        ("          /lus  7 0 0 - 3 0 0 -\n", "/lus/alice", None),
        ("/home has no quota\n", "/home/alice", None),
        ("", "/home/alice", None),
    ],
)
def test_parse(text: str, home: str, expected: Quota | None) -> None:
    assert quota.parse(text, home) == expected


@pytest.mark.parametrize(
    ("programs", "problem"),
    [
        ({}, "there is no program quota or lfs to ask"),
        ({"quota": "echo quota: error >&2; exit 1"}, "quota says: quota: error"),
        ({"lfs": "echo no Lustre >&2; exit 1", "quota": "true"}, "lfs says: no Lustre; quota names no quota of it"),
        ({"lfs": "exit 1", "quota": "echo / 1 2 3 - 4 5 6 -"}, ""),
    ],
)  # fmt: skip
def test_programs_that_do_not_say_it(programs: dict[str, str], problem: str, tmp_path: Path) -> None:
    for name, line in programs.items():
        path = tmp_path / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)
    found, why = quota.of_home(str(tmp_path), {"PATH": str(tmp_path)})
    assert why == problem
    assert found == (None if problem else Quota(1024, 3072, 4, 6))


def test_a_program_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "quota"
    path.write_text("#!/bin/sh\nexec sleep 600\n")
    path.chmod(0o755)
    monkeypatch.setattr(quota, "_SECONDS", 0.1)
    found, why = quota.of_home(str(tmp_path), {"PATH": f"{tmp_path}:{os.defpath}"})
    assert (found, why) == (None, "quota does not answer in 0 s")
