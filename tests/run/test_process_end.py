"""How a process ended, in words: of real processes, also by signals that have no name."""

import signal
import subprocess
import sys

import pytest

from slurm_tf.run import process_end

CASES = {
    signal.SIGKILL: "was ended by signal 9 (SIGKILL)",
    signal.SIGRTMIN: "was ended by signal 34 (SIGRTMIN)",
    signal.SIGRTMIN + 1: "was ended by signal 35",
}


@pytest.mark.parametrize(("number", "words"), CASES.items())
def test_a_process_that_a_signal_ended(number: int, words: str) -> None:
    program = f"import os; os.kill(os.getpid(), {int(number)})"
    code = subprocess.run([sys.executable, "-c", program], check=False, timeout=60).returncode
    assert process_end.words(code) == words


def test_a_process_that_ended_by_itself() -> None:
    assert process_end.words(3) == "ended with exit code 3"
    assert process_end.exit_status(0) == "exit code 0"


def test_every_number_has_a_name() -> None:
    names = [process_end.signal_name(number) for number in range(1, signal.NSIG)]
    assert len(set(names)) == len(names)
