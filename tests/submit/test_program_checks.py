"""What of a job's program is looked for before it is submitted: its files, its environment, modules."""

import json
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec.configuration import Job
from slurm_tf.submit import environments, new_run

JOB = 'name = "a"\nstrategy = "single"\ncommand = {}\nsetup = {}\n[roles.worker]\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of code with a program, a package, two virtual environments and a conda."""
    for path in ("train.py", "pkg/train.py", "empty/bin/activate", "full/bin/activate", "modules/cuda/12.4"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    (tmp_path / "full/lib/python3.11/site-packages/tensorflow").mkdir(parents=True)
    (tmp_path / "full/lib/python3.11/site-packages/tensorflow/__init__.py").write_text("")
    for name in ("empty", "full"):
        (tmp_path / name / "pyvenv.cfg").write_text("")
        program(tmp_path / name / "bin" / "python", "echo False")
    for name in ("tf", "other"):
        (tmp_path / "conda" / "envs" / name / "conda-meta").mkdir(parents=True)
    program(tmp_path / "conda" / "envs" / "other" / "bin" / "python", "echo False")
    return tmp_path


def program(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("command", "setup", "message"),
    [
        ('["python", "trian.py"]', "", "command: there is no {}/trian.py; needed the program\nHINT: did you mean "),
        ('["python", "-u", "-W", "error", "x/y.py"]', "module load cuda", "command: there is no {}/x/y.py"),
        ('["python", "~/train.py"]', "", "HINT: no shell replaces ~ in a command: "),
        ('["python3.11", "-mpkg.trian"]', "", "command: there is no module pkg.trian in {}; needed pkg/trian.py"),
        ('["./train.py"]', "", "command: {}/./train.py cannot be executed; needed a program\nHINT: chmod +x ./"),
        ('["./nothing"]', "", "command: there is no {}/./nothing; needed the program\nHINT: a line of setup "),
        ('["python", "train.py"]', "set -eu\nsource venv/bin/activate", "setup: there is no {}/venv/bin/activate;"),
        (
            '["python", "trian.py"]',
            "source venv/bin/activate",
            "found 2 errors\n{}/job.toml: command: there is no {}/trian.py; needed the program\nHINT: did you mean "
            "'train.py'?\n{}/job.toml: setup: there is no {}/venv/bin/activate; needed a virtual environment\nHINT: "
            "python3 -m venv {}/venv makes one",
        ),
        (
            '["python", "train.py"]',
            "source conda/etc/profile.d/conda.sh && conda activate 'tensor flow'",
            "setup: there is no conda environment 'tensor flow'; needed one of base, other, tf\nHINT: conda create -n "
            "'tensor flow' python",
        ),
    ],
)  # fmt: skip
def test_what_is_missing_is_refused(
    command: str, setup: str, message: str, folder: Path, load: Callable[..., Job]
) -> None:
    with pytest.raises(ConfigError) as error:
        new_run.preview(load(JOB.format(command, json.dumps(setup))), "", to_submit=True)
    assert message.replace("{}", str(folder)) in str(error.value)
    assert not (folder / "runs").exists()


@pytest.mark.parametrize(
    ("command", "setup"),
    [
        ('["python", "train.py"]', "source empty/bin/activate"),
        ('["python", "-m", "pkg.train"]', ""),
        ('["python", "-m", "tensorflow.tools"]', ""),
        ('["python", "-c", "x.py"]', ""),
        ('["python", "{rate}.py"]', ""),
        ('["python", "made.py"]', "cp train.py made.py"),
        ('["python", "elsewhere.py"]', "cd /data"),
        ('["python", "/of/the/nodes.py"]', "source /opt/venv/bin/activate"),
        ('["/opt/of/the/nodes", "x"]', "source $NOT_SET_HERE/bin/activate"),
        ('["python", "train.py"]', "conda activate tf"),
        ('["python", "train.py"]', "source venv/bin/activate || true"),
        ('["python", "train.py"]', "if [ -d venv ]; then\n  source venv/bin/activate\nfi"),
        ('["python", "train.py"]', "[[ -d venv ]] && source venv/bin/activate"),
        ('["python", "train.py"]', "echo \"it's"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_what_may_be_on_the_nodes_is_not(command: str, setup: str, load: Callable[..., Job]) -> None:
    params = "[params]\nrate = 1\n" if "{rate}" in command else ""
    new_run.preview(load(JOB.format(command, json.dumps(setup)) + params), "", to_submit=True)


@pytest.mark.parametrize(
    ("command", "setup", "environ", "lines"),
    [
        ("python", "source full/bin/activate", {}, []),
        (
            "python",
            "source empty/bin/activate",
            {},
            [
                "{}/empty/bin/python, which runs the job's program, has no TensorFlow: {}/empty/bin/python -m pip "
                "install tensorflow"
            ],
        ),
        ("full/bin/python", "", {}, []),
        ("python", "conda activate other", {"CONDA_EXE": "{}/conda/bin/conda"}, ["{}/conda/envs/other/bin/python, "]),
        ("python", "conda activate $NAME", {"CONDA_EXE": "{}/conda/bin/conda"}, []),
        ("python", "", {"PATH": "{}/empty/bin"}, ["{}/empty/bin/python, which "]),
        ("python", "module load python", {"PATH": "{}/empty/bin"}, []),
        ("no-such-program", "", {}, ["there is no program no-such-program in PATH here, and the job has no setup"]),
        ("no-such-program", "export PATH=/opt/bin:$PATH", {}, []),
        ("/opt/of/the/nodes", "", {}, ["there is no /opt/of/the/nodes on this machine: the nodes must have it"]),
        ("bash", "module load cuda/12.4 nccl", {"MODULEPATH": "{}/modules"}, []),
        ("bash", "module load nccl", {"MODULEPATH": "{}/modules"}, ["no folder of MODULEPATH has the module nccl: "]),
        ("bash", "module use /x\nmodule load nccl", {"MODULEPATH": "{}/modules"}, []),
        ("bash", "module load nccl", {}, []),
    ],
)
def test_what_may_be_missing_is_a_warning(
    command: str, setup: str, environ: dict[str, str], lines: list[str], folder: Path, load: Callable[..., Job]
) -> None:
    job = load(JOB.format(f'["{command}", "train.py"]', json.dumps(setup)))
    found = environments.warnings(job, {name: value.replace("{}", str(folder)) for name, value in environ.items()})
    assert len(found) == len(lines)
    for line, said in zip(lines, found, strict=True):
        assert said.startswith(line.replace("{}", str(folder)))


def test_images_and_mounts_are_looked_for_and_the_python_of_nodes_is_not(
    folder: Path, load: Callable[..., Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", f"{folder}/empty/bin")
    site = folder / "site.toml"
    site.write_text(f"inherit = 'generic'\n[container]\nruntime = 'charliecloud'\nimages = '{folder}/images'\n")
    (folder / "images" / "tf-2.21").mkdir(parents=True)
    text = JOB.format('["python", "train.py"]', '""') + "[container]\nmounts = {}\nimage = '{}'\n"
    job = load(text.format(["data:/d", "/elsewhere/data:/e"], "tf-2.12"), str(site))
    with pytest.raises(ConfigError) as error:
        new_run.preview(job, "", to_submit=True)
    assert str(error.value).replace(f"{folder}/", "") == (
        "found 2 errors\n"
        "job.toml: container.image: there is no images/tf-2.12; needed an image\nHINT: did you mean 'tf-2.21'?\n"
        "job.toml: container.mounts: there is no data; needed a file or folder to mount"
    )
    there = load(text.format(["train.py:/d:ro", "/elsewhere/data:/e"], "tf-2.21"), str(site))
    assert new_run.preview(there, "", to_submit=True)
    assert new_run.warnings(there) == ["charliecloud mounts 'train.py:/d:ro' for writing as well: it knows no :ro"]
    on_node = load(text.format([], ""), str(site))
    assert ["has no TensorFlow" in line for line in new_run.warnings(on_node)] == [True]
