"""A job file with many errors: one message names all of them, with what to write instead."""

from collections.abc import Callable
from pathlib import Path

import pytest
import tomllib

from slurm_tf.errors import ConfigError, ConfigGroupError
from slurm_tf.jobspec import checks, configuration, toml_values
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.plan import Plan

# what somebody writes who knows sbatch, and has not read about job files
WRONG = """
nmae = "flowers"
strategy = "multi_worker"
command = "python x.py --rate 0.1"
nodes = 2
gres = "gpu:2"
mail-type = "END"
time = "soon"
walltime = "1:00:00"
modules = ["cuda"]
worker = 2

[roles.worker]
count = "4"
gpus = 2
gpus-per-node = 2
mem = "lots"
time = "1:00:00"
gres = "gpu:a100:2,nvme:1"
ntasks = 3
cpu-per-task = 2

[roles.ps]
count = 1

[sweep]
rate = 0.1

[env]
A = 1
SLURM_X = "a"
B = "\\n"

[watch]
step = "UNLIMITED"

[sbatch]
mem = "4G"
job-name = "x"
nodes = 3
gres = "gpu:2"
"""
OPTIONS: dict[str, str | bool] = {"mem": "4G", "nodes": "2", "ntasks": "4", "output": "x"}


def message(path: Path, options: dict[str, str | bool]) -> str:
    with pytest.raises(ConfigError) as error:
        checks.check(configuration.load(path, {}, "generic", (), options))
    return str(error.value).replace(f"{path.parent}/", "")


def test_one_message_has_all_errors(job_file: Callable[[str], Path], golden: Callable[[str, str], None]) -> None:
    golden("job_file_errors.txt", message(job_file(WRONG), OPTIONS) + "\n")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        # what follows from a key that is wrong is not said as well
        ('name = "a"\nstrateg = "ps"\ncommand = ["x"]\n[roles.worker]\n', 1),
        ('name = "a"\nstrategy = "pss"\ncommand = ["x"]\n[roles.worker]\n', 1),
        ('name = "a"\nstrategy = "single"\ncomand = ["x"]\n[roles.worker]\n', 1),
        ('name = "a"\nstrategy = "single"\ncommand = "x {rate}"\n[params]\nrate = 1\n[roles.worker]\n', 1),
        # but all else
        ('name = "a"\nstrategy = "ps"\ncommand = ["{x}"]\ntime = "x"\n[roles.worker]\nmem = "x"\ngpus = "x:"\n', 6),
    ],
)
def test_each_error_is_said_once(text: str, number: int, load: Callable[..., Job]) -> None:
    with pytest.raises(ConfigError) as error:
        checks.check(load(text))
    errors = error.value.errors if isinstance(error.value, ConfigGroupError) else [error.value]
    assert len(errors) == number, str(error.value)


@pytest.mark.parametrize(
    ("text", "example"),
    [
        ("python x.py --rate 0.1", 'command = ["python", "x.py", "--rate", "0.1"]'),
        ('python x.py "a b"', 'command = ["python", "x.py", "a b"]'),
        ("cd data && python x.py > log", 'command = ["bash", "-c", "cd data && python x.py > log"]'),
        ("python 'x", 'command = ["python", "train.py"]'),
    ],
)
def test_a_command_line_as_a_command(text: str, example: str) -> None:
    assert toml_values.command(text) == example


def test_each_variable_that_is_wrong_is_named(job_file: Callable[[str], Path]) -> None:
    environ = {"SBATCH_OUTPUT": "x", "SBATCH_MEM_PER_NODE": "4G", "SBATCH_PARTITION": "gpu"}
    job = configuration.load(job_file('name = "a"\nstrategy = "single"\ncommand = ["x"]\n'), environ, "generic")
    assert {error.where for error in job.errors} == {"environment: SBATCH_OUTPUT", "environment: SBATCH_MEM_PER_NODE"}
    assert job.spec.partition == "gpu"


@pytest.mark.parametrize("text", ["a\x1b[31m", "a\x9b", "a\u202eb", "\x7f", 'quote " and \\', "é 漢"])
def test_an_example_is_toml_and_moves_no_cursor(text: str) -> None:
    written = toml_values.toml([text])
    assert written.isprintable()
    assert tomllib.loads(f"x = {written}") == {"x": [text]}


@pytest.mark.parametrize(
    ("name", "text", "hint"),
    [
        ("job.toml", "command = python x.py\n", 'command = ["python", "x.py"]'),
        ("job.sh", "#!/bin/bash\nsrun python x.py\n", "`slurm-tf examples` copies some to start from"),
        ("x.py", "import os\n", "`slurm-tf examples` copies some to start from"),
    ],
)
def test_what_is_no_toml(name: str, text: str, hint: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        configuration.load(path, {}, "generic")
    assert hint in error.value.do


LIMITS = """
default-partition = "cpu"
[partitions.cpu]
max-nodes = 2
cpus-per-node = 16
mem-per-node = "64G"
gpus-per-node = 0
[partitions.gpu]
max-time = "2:00:00"
mem-per-node = "64G"
gpus-per-node = "a100:4"
[partitions.any]
"""


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (
            "gpus-per-task = 1",
            "roles.worker.gpus-per-task: asks for 1 GPUs on a node; needed none: partition 'cpu' has ",
        ),
        ("gpus = 4", "HINT: partitions with GPUs: gpu (a100:4 on a node)"),
        (
            "mem-per-cpu = '8G'\ncpus-per-task = 5\nntasks-per-node = 2",
            "mem-per-cpu: asks for 81920 MiB of memory on a ",
        ),
        ("mem-per-gpu = '20G'\ngpus = 16\npartition = 'gpu'", "mem-per-gpu: asks for 81920 MiB of memory on a node"),
        ("cpus-per-task = 9", "cpus-per-task: asks for 4 nodes for 4 tasks, 1 on each; needed at most 2, the limit of"),
        ("mem-per-cpu = '33G'", "roles.worker.mem-per-cpu: asks for 4 nodes for 4 tasks, 1 on each; needed at most 2"),
        ("count = 33", "roles.worker.cpus-per-task: asks for 3 nodes for 33 tasks, 16 on each; needed at most 2"),
        ("partition = 'gpu'\ngpus-per-task = 'v100'", "gpus-per-task: asks for GPUs of type v100; needed of type a100"),
    ],
)
def test_every_limit_of_a_profile(asked: str, message: str, fit: Callable[..., Plan], tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text(LIMITS)
    text = 'name = "a"\nstrategy = "multi_worker"\ncommand = ["x"]\n[roles.worker]\n'
    count = "" if "count" in asked else "count = 4\n"
    with pytest.raises(ConfigError) as error:
        fit(text + count + asked, site=str(site))
    assert message in str(error.value)
    fit(text + count + asked.replace("'gpu'", "'any'") + "\npartition = 'any'" * ("partition" not in asked), str(site))


def test_roles_that_share_nodes_are_compared_together(fit: Callable[..., Plan], tmp_path: Path) -> None:
    """What the profile says of nodes is used where Slurm does not answer."""
    site = tmp_path / "site.toml"
    site.write_text(LIMITS)
    text = 'name = "a"\nstrategy = "ps"\ncommand = ["x"]\n[roles.chief]\nmem = "1G"\n[roles.ps]\nmem = "1G"\n'
    text += '[roles.worker]\ncount = 2\nmem = "1G"\ncpus-per-task = {}\n'
    assert dict(fit(text.format(9), str(site)).components[0].options)["nodes"] == "2"
    with pytest.raises(ConfigError, match=r"roles: chief, worker, ps on the same nodes ask for \d+ (CPUs|nodes)"):
        fit(text.format(16), str(site))
