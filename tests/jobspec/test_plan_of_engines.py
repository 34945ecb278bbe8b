"""Plans of roles that do not train: an engine, and TensorFlow's data service."""

from collections.abc import Callable

import pytest

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec.plan import Plan
from slurm_tf.run.settings import RoleMemory
from tests.jobspec.test_plan import HEAD


@pytest.mark.parametrize("strategy", ["ps", "between_graph", "horovod"])
def test_a_data_service_is_refused_where_elements_would_be_lost(strategy: str, fit: Callable[..., Plan]) -> None:
    roles = "".join(f"[roles.{name}]\n" for name in ("worker", "data-dispatcher", "data-worker"))
    with pytest.raises(ConfigError, match=f"found 1 data-worker tasks; needed 0 under strategy {strategy}"):
        fit(f"{HEAD}strategy = '{strategy}'\n{roles}")


@pytest.mark.parametrize(
    ("command", "python"), [('["/venv/bin/python3.11", "x.py"]', "/venv/bin/python3.11"), ('["train"]', "python3")]
)
def test_a_data_service_runs_in_the_jobs_python(command: str, python: str, fit: Callable[..., Plan]) -> None:
    text = f"name = 'a'\nstrategy = 'single'\ncommand = {command}\n[roles.worker]\n[roles.data-dispatcher]\n"
    plan = fit(text + "[roles.data-worker]\ncount = 2\ncommand = ['own']\n")
    commands = {role.name: role.command for role in plan.settings.roles}
    assert list(commands) == ["worker", "data-dispatcher", "data-worker"]
    assert commands["data-dispatcher"] == (python, "-m", "slurm_tf.train.data.service")
    assert commands["data-worker"] == ("own",)


@pytest.mark.parametrize(
    ("roles", "memory"),
    [
        # in one step: what each node has is for all of them there
        (("mem = '4G'", "mem = '4G'"), (RoleMemory(4096, ("worker", "driver")),) * 2),
        (("mem = '4G'", "mem-per-cpu = '1G'\ncpus-per-task = 3"), (RoleMemory(4096, ("worker",)), RoleMemory(3072))),
        # a component of its own
        (("mem = '4G'\npartition = 'gpu'", "mem = 0"), (RoleMemory(4096, ("worker",)), None)),
    ],
)
def test_the_memory_of_an_engines_tasks(
    roles: tuple[str, str], memory: tuple[RoleMemory | None, ...], fit: Callable[..., Plan]
) -> None:
    text = HEAD + f"strategy = 'engine'\n[roles.worker]\ncount = 3\n{roles[0]}\n[roles.driver]\n{roles[1]}\n"
    found = {role.name: role.memory for role in fit(text).settings.roles}
    assert (found["worker"], found["driver"]) == memory
