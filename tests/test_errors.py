"""The error tree: what its docstring draws is what there is."""

import inspect
import re

import pytest

from slurm_tf import errors
from slurm_tf.errors import SlurmTfError

CLASSES = {
    name: each
    for name, each in inspect.getmembers(errors, inspect.isclass)
    if issubclass(each, SlurmTfError) and each is not SlurmTfError
}


def test_the_docstring_draws_every_error_with_its_exit_code() -> None:
    drawn = dict(re.findall(r"[├└]── (\w+) +(\d+)", errors.__doc__ or ""))
    assert set(drawn) == set(CLASSES)
    for name, code in drawn.items():
        assert CLASSES[name].exit_code == int(code) or name == "StoppedError"


def test_an_error_says_found_needed_and_what_to_do() -> None:
    error = SlurmTfError("found 2", "1", "take one away", "job.toml: roles.chief.count")
    assert str(error) == "job.toml: roles.chief.count: found 2; needed 1\nHINT: take one away"
    assert str(SlurmTfError("found 2")) == "found 2"


def test_a_signal_gives_a_shells_exit_code() -> None:
    assert errors.StoppedError("the coordinator got SIGTERM", 143).exit_code == 143


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_exit_codes_tell_success_and_plain_failure_apart(name: str) -> None:
    assert CLASSES[name].exit_code not in (0, 130) or name == "StoppedError"
