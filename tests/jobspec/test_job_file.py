"""Job files: what may stand in one, and the one error that anything else gives."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import layers
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.job_file import TOPOLOGIES, JobSpec, Strategy
from slurm_tf.jobspec.plan import Plan
from tests.conftest import ROOT

SINGLE = """
name = "a"
strategy = "single"
command = ["x"]
[roles.worker]
"""
PS = """
name = "a"
strategy = "ps"
command = ["x"]
[roles.chief]
[roles.worker]
count = 2
[roles.ps]
"""

ENGINE = """
name = "a"
strategy = "engine"
command = ["x"]
[roles.worker]
mem = "2G"
[roles.driver]
mem-per-cpu = "1G"
"""

SERVICE = """
name = "a"
strategy = "serve"
[roles.replica]
count = 2
[serve]
"""

# what is wrong: the file's text, key path, what was found, what was needed, what to do
WRONG = {
    "unknown key": ("strateg = 1\n" + SINGLE, "strateg", "'strateg'", "one of name", "did you mean 'strategy'?"),
    "unknown key of a role": (SINGLE + "cpu-per-task = 1", "roles.worker.cpu-per-task", "", "", "'cpus-per-task'"),
    "unknown role": (SINGLE + "[roles.worke]", "roles.worke", "'worke'", "chief, worker, ps", "'worker'"),
    "wrong type": (SINGLE + 'count = "1"', "roles.worker.count", "'1'", "a whole number", ""),
    "number of the wrong kind": (SINGLE + "count = 1.5", "roles.worker.count", "1.5", "a whole number", ""),
    "below the least": (SINGLE + "count = -1", "roles.worker.count", "-1", ">= 0", ""),
    "a truth as a number": (SINGLE + "count = true", "roles.worker.count", "True", "a whole number", ""),
    "command as one text": (SINGLE.replace('["x"]', '"x"'), "command", "'x'", "a list", ""),
    "command with a number": (SINGLE.replace('["x"]', '["x", 1]'), "command[1]", "1", "text", ""),
    "no command": (SINGLE.replace('["x"]', "[]"), "command", "[]", "length >= 1", ""),
    "a role without a command": (
        SINGLE.replace('command = ["x"]', ""),
        "command",
        "none for worker",
        "[roles.worker]",
        "",
    ),
    "an empty command of a role": (SINGLE + "command = []", "roles.worker.command", "[]", "length >= 1", ""),
    "no name": (SINGLE.replace('name = "a"', ""), "name", "missing", "a value", ""),
    "empty name": (SINGLE.replace('"a"', '""'), "name", "''", "length >= 1", ""),
    "a role of an engine without memory": (
        ENGINE.replace('mem-per-cpu = "1G"', ""),
        "roles.driver",
        "driver has no memory",
        "mem, mem-per-cpu",
        "mem = 0 is all",
    ),
    "an engine without a driver": (ENGINE + "count = 0", "roles.driver", "found 0 driver", "1 under", "[roles.driver]"),
    "data workers without a dispatcher": (
        SINGLE + "[roles.data-worker]",
        "roles.data-worker",
        "[roles.data-worker] alone",
        "both [roles.data-dispatcher] and",
        "",
    ),
    "a service without a model": (SERVICE, "serve.models", "no model", "models = {NAME = FOLDER}", ""),
    "a model that is no part of a URL": (
        SERVICE + "models = {'a/b' = 'x'}",
        "serve.models",
        "the model 'a/b'",
        "a part of URLs",
        "",
    ),
    "a service as an array": ("array = '1-3'" + SERVICE + "models = {a = 'x'}", "array", "in a service", "none", ""),
    "a certificate without its key": (
        SERVICE + "models = {a = 'x'}\ncertificate = 'c.pem'",
        "serve.certificate",
        "one of certificate and key",
        "both or none",
        "",
    ),
    "an overlap without end": (
        SERVICE + "models = {a = 'x'}\noverlap = 'UNLIMITED'",
        "serve.overlap",
        "UNLIMITED",
        "a time that ends",
        "",
    ),
    "serve elsewhere": (SINGLE + "[serve]\nopen = true", "serve", "under strategy single", "strategy serve", ""),
    "a service without replicas": (
        SERVICE.replace("count = 2", "count = 0") + "models = {a = 'x'}",
        "roles.replica",
        "0 replica",
        "at least 1",
        "[roles.replica]",
    ),
    "unknown strategy": (
        SINGLE.replace('"single"', '"mirored"'),
        "strategy",
        "'mirored'",
        "multi_worker",
        "'mirrored'",
    ),
    "env of a number": (SINGLE + "[env]\nA = '1'\nB = 2", "env.B", "2", "text", ""),
    "sbatch of a list": (SINGLE + "[sbatch]\nx = []", "sbatch.x", "[]", "text", ""),
    "no time": (SINGLE.replace("[roles", 'time = "soon"\n[roles', 1), "time", "'soon'", "days-hours", ""),
    "no memory": (SINGLE + 'mem = "4.5G"', "roles.worker.mem", "'4.5G'", "such as", ""),
    "no GPUs": (SINGLE + 'gpus = "a100:"', "roles.worker.gpus", "'a100:'", "a100:2", ""),
    "two kinds of memory": (SINGLE + "mem = 1\nmem-per-cpu = 1", "roles.worker.mem-per-cpu", "mem and", "one of", ""),
    "newline in a value": (SINGLE + '[sbatch]\ncomment = "a\\nb"', "sbatch.comment", "'a\\nb'", "control", ""),
    "escape in a value": (SINGLE.replace('"a"', '"a\\u001b[0m"'), "name", "x1b", "U+001B", ""),
    "control in an argument": (SINGLE.replace('["x"]', '["x", "\\t"]'), "command[1]", "'\\t'", "U+0009", ""),
    "control in setup": (SINGLE.replace("[roles", 'setup = "\\u0000"\n[roles', 1), "setup", "", "U+0000", ""),
    "no variable's name": (SINGLE + "[env]\n'A B' = 'x'", "env.A B", "'A B'", "letters", ""),
    "a variable of Slurm": (SINGLE + "[env]\nSLURM_JOB_ID = '1'", "env.SLURM_JOB_ID", "SLURM_JOB_ID", "neither", ""),
    "our own TF_CONFIG": (SINGLE + "[env]\nTF_CONFIG = '{}'", "env.TF_CONFIG", "TF_CONFIG", "neither", ""),
    "an option that is ours": (SINGLE + "[sbatch]\nnodes = 2", "sbatch.nodes", "nodes", "ntasks-per-node", ""),
    "an option with dashes": (SINGLE + "[sbatch]\n'--hold' = true", "sbatch.--hold", "'--hold'", "without", ""),
    "flags elsewhere": ("cluster-flags = true\n" + SINGLE, "cluster-flags", "true", "between_graph", ""),
    "registration without end": (
        SINGLE + "[launch]\nregister-timeout='UNLIMITED'",
        "launch.register-timeout",
        "UN",
        "",
        "",
    ),
    "horovod's table elsewhere": (
        SINGLE + "[horovod]\ncontroller = 'mpi'",
        "horovod.controller",
        "mpi",
        "strategy",
        "",
    ),
    "a controller that is none": (
        SINGLE + "[horovod]\ncontroller = 'nccl'",
        "horovod.controller",
        "'nccl'",
        "gloo",
        "",
    ),
    "zero workers": (SINGLE + "count = 0", "roles.worker", "0 worker", "1 under", "[roles.worker]"),
    "two workers, single": (SINGLE + "count = 2", "roles.worker.count", "2 worker", "1 under", ""),
    "two chiefs": (
        PS.replace("[roles.chief]", "[roles.chief]\ncount = 2"),
        "roles.chief.count",
        "2 chief",
        "1 under",
        "",
    ),
    "no chief": (PS.replace("[roles.chief]", ""), "roles.chief", "0 chief", "1 under strategy ps", ""),
    "no ps": (PS.replace("[roles.ps]", ""), "roles.ps", "0 ps", "at least 1", ""),
    "two evaluators": (PS + "[roles.evaluator]\ncount = 2", "roles.evaluator.count", "2 evaluator", "0 or 1", ""),
    "ps, multi_worker": (PS.replace('"ps"', '"multi_worker"'), "roles.ps.count", "1 ps", "0 under", "[roles.worker]"),
}


@pytest.mark.parametrize("what", WRONG)
def test_one_error_with_file_key_found_needed(what: str, fit: Callable[..., Plan], tmp_path: Path) -> None:
    text, key, found, needed, hint = WRONG[what]
    with pytest.raises(ConfigError) as error:
        fit(text)
    assert error.value.where == f"{tmp_path}/job.toml: {key}"
    assert found in error.value.found
    assert needed in error.value.needed
    assert hint in error.value.do


@pytest.mark.parametrize(
    ("data", "found"),
    [(b"name = ", "Invalid value"), (b"name = '\xff'", "byte 8 is no UTF-8"), (b"a = 1\na = 2", "Cannot overwrite")],
)
def test_a_file_that_is_no_toml(data: bytes, found: str, tmp_path: Path) -> None:
    path = tmp_path / "job.toml"
    path.write_bytes(data)
    with pytest.raises(ConfigError, match=found) as error:
        layers.read_toml(path)
    assert error.value.where == str(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        layers.read_toml(tmp_path / "none.toml")


def test_numbers_without_quotes_stay_what_they_are(load: Callable[..., Job]) -> None:
    # YAML would make 45000 of the time and 7 of the account
    job = load(SINGLE.replace("[roles", 'time = "12:30:00"\naccount = "007"\n[roles', 1))
    assert (job.spec.time, job.spec.account) == ("12:30:00", "007")


def test_every_strategy_has_a_topology_and_a_template() -> None:
    names = set(msgspec.inspect.type_info(Strategy).values)  # type: ignore[attr-defined]
    assert set(TOPOLOGIES) == names
    assert {path.name for path in (ROOT / "templates" / "strategy").iterdir()} == {f"{n}.sbatch.j2" for n in names}


def test_setup_may_hold_lines_and_tabs(load: Callable[..., Job]) -> None:
    job = load(SINGLE.replace("[roles", 'setup = "a\\n\\tb"\n[roles', 1))
    layers.check_strings(job.spec, "x", free=("setup",))


def test_the_schema_names_every_key() -> None:
    schema = msgspec.json.schema(JobSpec)
    assert schema["$defs"]["JobSpec"]["additionalProperties"] is False
    assert "gpus-per-task" in schema["$defs"]["Role"]["properties"]
