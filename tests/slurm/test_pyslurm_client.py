"""The pyslurm client where there is no pyslurm, or none that fits; what it makes of pyslurm's values.

tests/cluster/test_client.py has it beside a live Slurm.
"""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from slurm_tf.errors import SlurmError, UnreachableError
from slurm_tf.slurm import pyslurm_client
from slurm_tf.slurm.client import CommandLineClient, connect

Program = Callable[[str, str], None]
# what libslurm does without a slurm.conf (22.05.8)
ENDS = """
import os, sys
os.write(2, b"python3: fatal: Could not establish a configuration source\\n")
os._exit(1)
"""
FITS = "__version__ = '{}'\ndef slurm_init(): pass\n"


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: Program) -> Callable[[str], None]:
    """Put a module `pyslurm` of this text, and the commands of Slurm 22.05.8, beside this Python."""
    program("scontrol", "#!/bin/sh\necho slurm-wlm 22.05.8\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "site"))

    def write(text: str) -> None:
        (tmp_path / "site").mkdir()
        (tmp_path / "site" / "pyslurm.py").write_text(text)

    return write


def test_commands_need_no_pyslurm() -> None:
    assert isinstance(connect("commands"), CommandLineClient)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("raise ModuleNotFoundError(\"No module named 'pyslurm'\")", "No module named 'pyslurm'"),
        ("raise ImportError('libslurm.so.42: cannot open shared object file')", "libslurm.so.42"),
        (FITS.format("25.11.2"), "found pyslurm 25.11.2 beside Slurm 22.05.8"),
    ],
)
def test_without_a_pyslurm_that_fits(install: Callable[[str], None], text: str, words: str) -> None:
    install(text)
    with pytest.raises(SlurmError, match=r"(?s)needed pyslurm of Slurm's own release.*HINT: pip install") as error:
        connect("pyslurm")
    assert words in error.value.found
    assert not isinstance(error.value, UnreachableError)
    assert "\n" not in error.value.found


def test_without_a_slurm_conf_the_process_goes_on(install: Callable[[str], None]) -> None:
    install(ENDS)
    with pytest.raises(UnreachableError, match="Could not establish a configuration source"):
        connect("pyslurm")


# as pyslurm 22.5.3 gives them: nothing for array task 0 and component 0, slurmdbd's tasks as a bit map
@pytest.mark.parametrize(
    ("array", "task", "waiting", "ids"),
    [
        (None, None, None, ["7"]),
        (1, None, None, ["1_0"]),
        (1, 4, None, ["1_4"]),
        (1, None, "2-3,6-10:2", ["1_2", "1_3", "1_6", "1_8", "1_10"]),
        (1, None, "0x0C", ["1_2", "1_3"]),
        (1, None, "0x10001", ["1_0", "1_16"]),
    ],
)
def test_ids(array: int | None, task: int | None, waiting: str | None, ids: list[str]) -> None:
    job = SimpleNamespace(id=7, array_id=array, array_task_id=task, array_tasks_waiting=waiting)
    assert pyslurm_client._ids(job) == ids


def test_components_of_heterogeneous_jobs_in_accounting() -> None:
    jobs = [SimpleNamespace(id=number, array_id=array) for number, array in ((3, None), (2, None), (9, 5), (7, None))]
    named = pyslurm_client._with_component_ids(jobs, [2, 5, 7])
    assert [(job.id, component) for job, component in named] == [(2, "2+0"), (3, "2+1"), (7, ""), (9, "")]


@pytest.mark.parametrize(
    ("text", "is_mixed", "state"),
    [
        ("IDLE", False, "idle"),
        ("ALLOCATED", False, "allocated"),
        ("ALLOCATED", True, "mixed"),
        ("IDLE+DRAIN", False, "drained"),
        ("ALLOCATED+DRAIN", False, "draining"),
        ("IDLE+COMPLETING", False, "completing"),
        ("IDLE+COMPLETING+DRAIN", False, "draining"),
        ("DOWN*+DRAIN", False, "drained"),
        ("DOWN+NOT_RESPONDING", False, "down"),
        ("IDLE+PLANNED", False, "planned"),
        ("IDLE+RESERVED", False, "reserved"),
        ("IDLE+MAINTENANCE", False, "maint"),
        ("ALLOCATED+MAINTENANCE", False, "allocated"),
        ("ALLOCATED+FAIL", False, "failing"),
        ("IDLE+FAIL", False, "fail"),
        ("UNKNOWN", False, "unknown"),
        ("IDLE+INVALID_REG", False, "inval"),
        ("IDLE+DRAIN+INVALID_REG", False, "inval"),
        ("ALLOCATED+INVALID_REG", True, "inval"),
        ("IDLE+REBOOT_ISSUED", False, "reboot"),
        ("IDLE+DRAIN+REBOOT_REQUESTED", False, "reboot"),
        ("ALLOCATED+REBOOT_REQUESTED", False, "allocated"),
        ("IDLE+PERFCTRS", False, "perfctrs"),
        ("IDLE+BLOCKED", False, "blocked"),
    ],
)
def test_node_states_in_sinfos_words(text: str, is_mixed: bool, state: str) -> None:
    assert pyslurm_client._node_state(text, is_mixed) == state
