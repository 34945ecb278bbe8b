"""The srun lines of steps in containers, as the batch script has them."""

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec.plan import Plan
from slurm_tf.submit import render

JOB = (
    'name = "a"\nstrategy = "multi_worker"\ncommand = ["python3", "a.py"]\nchdir = "/work"\n[roles.worker]\ncount = 2\n'
)
WITH_EVALUATOR = f"{JOB}[roles.evaluator]\n"
IMAGE = "[container]\nimage = 'tf'\n"
HOSTILE = "a b $HOME `id` 'x' \"y\" ; & é"
OWN_IMAGE = "[roles.evaluator.container]\nimage = 'other'\n"
HOROVOD = JOB.replace("multi_worker", "horovod") + f"{IMAGE}[horovod]\ncontroller = 'mpi'\n"
CASES = {
    "oci": ("oci", JOB + IMAGE),
    "pyxis": ("pyxis", f"{JOB}{IMAGE}home = true\nmounts = ['/data:/d:ro']\noptions = ['--container-writable']"),
    "images of their own": ("oci", WITH_EVALUATOR + IMAGE + OWN_IMAGE),
    "images of their own, and nodes": (
        "pyxis", f"{WITH_EVALUATOR}partition = 'cpu'\n{IMAGE}{OWN_IMAGE}"
    ),
}  # fmt: skip


@pytest.fixture
def planned(fit: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Plan]:
    """Return the plan of a job file's text at a site with this runtime, and /etc/slurm."""
    monkeypatch.setattr("os.path.isdir", lambda path: path == "/etc/slurm" or Path(path).is_dir())

    def make(runtime: str, text: str) -> Plan:
        site = tmp_path / "site.toml"
        site.write_text(f"inherit = 'generic'\n[container]\nruntime = '{runtime}'\nimages = '/images'\n")
        return fit(text, str(site))

    return make


def launchers(plan: Plan) -> str:
    """Return the lines of the script that start the agents."""
    script = render.script(plan)
    return script[script.index("coordinate") :]


def test_each_srun_enters_the_container_of_its_roles(
    planned: Callable[[str, str], Plan], tmp_path: Path, golden: Callable[[str, str], None]
) -> None:
    shown = [f"--- {what}\n{launchers(planned(*case))}".replace(str(tmp_path), "") for what, case in CASES.items()]
    golden("container_steps.txt", "\n".join(shown))


@pytest.mark.parametrize("runtime", ["oci", "pyxis"])
def test_hostile_values_stay_one_word_each(planned: Callable[[str, str], Plan], runtime: str) -> None:
    text = f"{JOB}[container]\nimage = '''/i/{HOSTILE}'''\nmounts = ['''/m/{HOSTILE}''']\nenv-from-host = ['TOKEN']\n"
    words = shlex.split(launchers(planned(runtime, text.replace("$HOME", "$(id)"))))
    options = dict(word[2:].partition("=")[::2] for word in words if word.startswith("--container"))
    hostile = HOSTILE.replace("$HOME", "$(id)")
    if runtime == "oci":
        assert options.keys() == {"container"}
        return
    assert options["container-image"] == f"/i/{hostile}"
    assert options["container-mounts"].split(",")[-1] == f"/m/{hostile}:/m/{hostile}"
    assert "/etc/slurm:/etc/slurm" in options["container-mounts"].split(",")
    assert {"TOKEN", "SLURM_TF_SECRET", "CUDA_VISIBLE_DEVICES"} <= set(options["container-env"].split(","))


@pytest.mark.parametrize(
    ("runtime", "text", "said"),
    [
        ("oci", f"{JOB}{IMAGE}options = ['--x']", "container.options: found the options --x; needed none: srun"),
        ("pyxis", f"{JOB}{IMAGE}options = ['--nodes=9']", "found '--nodes=9'; needed options of pyxis, such as"),
        ("oci", f"{WITH_EVALUATOR}{IMAGE}{OWN_IMAGE.replace('other', '')}", "worker, and none for evaluator; needed"),
        ("pyxis", f"preflight = 'mpi'\n{JOB}{IMAGE}", "preflight: found 'mpi', which runs on the nodes' own Python"),
        ("oci", HOROVOD, "horovod.controller: found 'mpi'; needed 'gloo'"),
    ],
)  # fmt: skip
def test_what_a_step_cannot_do(planned: Callable[[str, str], Plan], runtime: str, text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        planned(runtime, text)
