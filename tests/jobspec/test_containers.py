"""The containers of a job: what [container] of a job file, of a role and of the site's profile make together."""

from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import configuration, sites
from slurm_tf.jobspec.plan import Plan
from slurm_tf.run.container_settings import ContainerSettings, Mount, Runtime
from slurm_tf.submit import render
from tests import snippets

JOB = """
name = "a"
strategy = "ps"
command = ["python3", "a.py"]
[roles.chief]
[roles.worker]
[roles.ps]
"""
IMAGE = JOB + "[container]\nimage = 'tf'\n"
# what is wrong: the site's [container], the job file, and what of both
WRONG = {
    "no runtime": ("", IMAGE),
    "no image": ("runtime = 'apptainer'", JOB + "[container]\nmounts = ['/data']"),
    "no folder of images": ("runtime = 'apptainer'", IMAGE),
    "an address": ("runtime = 'apptainer'\nimages = '/i'", JOB + "[container]\nimage = 'docker://a/b:c'"),
    "a control character": ("runtime = 'apptainer'\nimages = '/i'", JOB + '[container]\nimage = "a\\nb"'),
    "a variable that is not set": ("runtime = 'apptainer'", JOB + "[container]\nimage = '$NOT_SET/a'"),
    "too many parts": ("runtime = 'apptainer'\nimages = '/i'", IMAGE + "mounts = ['/a:/b:ro:x']"),
    "no target": ("runtime = 'apptainer'\nimages = '/i'", IMAGE + "mounts = ['/a:ro']"),
    "a target that is relative": ("runtime = 'apptainer'\nimages = '/i'", IMAGE + "mounts = ['/a:b']"),
    "the root": ("runtime = 'apptainer'\nimages = '/i'", IMAGE + "mounts = ['/a:/x/..']"),
    "two at a place": ("runtime = 'apptainer'\nimages = '/i'", IMAGE + "mounts = ['/a:/b', '/c:/b/']"),
    "a comma": ("runtime = 'apptainer'\nimages = '/i'", IMAGE + "mounts = ['/a,b']"),
    "a mount of the site": ("runtime = 'apptainer'\nimages = '/i'\nmounts = ['data']", IMAGE),
    "a variable of Slurm's": ("runtime = 'apptainer'\nimages = '/i'", IMAGE + "env-from-host = ['SLURM_JOB_ID']"),
    "an option of apptainer": ("runtime = 'apptainer'\nimages = '/i'", IMAGE + "options = ['-eC', '--env=A=b']"),
    "an option of ch-run": ("runtime = 'charliecloud'\nimages = '/i'", IMAGE + "options = ['--unset-env=*']"),
    "an option of pyxis": ("runtime = 'pyxis'\nimages = '/i'", IMAGE + "options = ['--container-env=A']"),
    "the end of options": ("runtime = 'singularity'\nimages = '/i'", IMAGE + "options = ['--']"),
    "a preflight with MPI": ("runtime = 'apptainer'\nimages = '/i'", "preflight = 'mpi'\n" + IMAGE),
    "GPUs": ("runtime = 'charliecloud'\nimages = '/i'", IMAGE.replace("[roles.worker]", "[roles.worker]\ngpus = 1")),
    "podman": ("runtime = 'podman'", JOB),
    "bwrap": ("runtime = 'bwrap'", JOB),
    "a misspelled runtime": ("runtime = 'apptaner'", JOB),
    "an option for GPUs": ("runtime = 'apptainer'\ngpu-options = ['--containall']", JOB),
    "at the top": ("runtime = 'apptainer'", "image = 'a.sif'\n" + JOB),
    "in a role": ("runtime = 'apptainer'", JOB + "volumes = ['/a']"),
    "words of others": (
        "runtime = 'apptainer'",
        JOB + "[container]\nbinds = '/a'\nenv = {}\nruntime = 'x'\nworkdir = '/w'\nimag = 'a'",
    ),
}


@pytest.fixture
def planned(fit: Callable[..., Plan], tmp_path: Path) -> Callable[..., Plan]:
    """Return the plan of a job file's text at a site with a [container]."""

    def make(container: str, text: str, scheduler: str = "slurm", **more: object) -> Plan:
        site = tmp_path / "site.toml"
        site.write_text(
            f"inherit = 'generic'\nscheduler = '{scheduler}'\n[env]\nOF_SITE = '1'\n[container]\n{container}"
        )
        return fit(text, str(site), **more)

    return make


def test_what_is_wrong(planned: Callable[..., Plan], tmp_path: Path, golden: Callable[[str, str], None]) -> None:
    said = []
    for what, (site, job) in WRONG.items():
        with pytest.raises(ConfigError) as error:
            planned(site, job)
        said.append(f"--- {what}\n{error.value}\n".replace(f"{tmp_path}/", ""))
    golden("container_errors.txt", "".join(said))


def test_site_job_and_role(planned: Callable[..., Plan], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMAGES", "/images")
    site = "runtime = 'charliecloud'\nimages = '$IMAGES'\nmounts = ['/etc/site:/etc/site:ro', '/data']"
    job = IMAGE + (
        "mounts = ['data:/data']\nhome = true\nenv-from-host = ['TOKEN', 'TOKEN']\noptions = ['--write']\n"
        "[roles.worker.container]\nimage = '../x y/$IMAGES'\nmounts = []\n[roles.ps.container]\nimage = ''"
    )
    settings = {role.name: role.container for role in planned(site, job).settings.roles}
    etc = Mount("/etc/site", "/etc/site", read_only=True)
    assert settings == {
        "chief": ContainerSettings(
            Runtime.CHARLIECLOUD,
            command=("ch-run",),
            image="/images/tf",
            mounts=(etc, Mount(f"{tmp_path}/data", "/data")),
            home=True,
            env_from_host=("OF_SITE", "TOKEN"),
            options=("--write",),
        ),
        "worker": ContainerSettings(
            Runtime.CHARLIECLOUD,
            command=("ch-run",),
            image=f"{tmp_path.parent}/x y/images",
            mounts=(etc, Mount("/data", "/data")),
            home=True,
            env_from_host=("OF_SITE", "TOKEN"),
            options=("--write",),
        ),
        "ps": None,
    }


@pytest.mark.parametrize(
    ("site", "options"),
    [
        ("runtime = 'apptainer'", ("--nv", "--container-own")),
        ("runtime = 'apptainer'\ngpu-options = ['--rocm']", ("--rocm", "--container-own")),
        ("runtime = 'pyxis'", ("--container-own",)),
        ("runtime = 'charliecloud'\ngpu-options = []", ("--container-own",)),
    ],
)
def test_gpu_options_are_of_roles_with_gpus(site: str, options: tuple[str, ...], planned: Callable[..., Plan]) -> None:
    job = IMAGE.replace("[roles.worker]", "[roles.worker]\ngpus = 1") + "options = ['--container-own']"
    roles = planned(f"{site}\nimages = '/i'", job).settings.roles
    assert {role.name: role.container and role.container.options for role in roles} == {
        "chief": ("--container-own",),
        "worker": options,
        "ps": ("--container-own",),
    }


def test_the_page_shows_a_job_and_its_site(fit: Callable[..., Plan], tmp_path: Path) -> None:
    here = [each for each in snippets.ALL if each.page.name == "containers.md"]
    site = tmp_path / "site.toml"
    site.write_text(next(each.text for each in here if each.kind == "toml site"))
    plan = fit(next(each.text for each in here if each.kind == "toml job"), str(site))
    images = {role.name: role.container.image for role in plan.settings.roles if role.container}
    assert images == {
        "worker": "/software/images/tensorflow-2.18",
        "evaluator": "/software/images/tensorflow-2.21",
    }


def test_runtimes_of_srun_need_slurm(planned: Callable[..., Plan]) -> None:
    with pytest.raises(ConfigError, match="pyxis, which is a part of srun"):
        planned("runtime = 'pyxis'\nimages = '/i'", IMAGE, "local")


def test_the_run_is_mounted_at_its_own_path(planned: Callable[..., Plan]) -> None:
    with pytest.raises(ConfigError, match="charliecloud cannot mount"):
        planned(
            "runtime = 'charliecloud'\nimages = '/i'", IMAGE.replace("[roles.chief]", "chdir = 'a:b'\n[roles.chief]")
        )


def test_explain_names_the_origin(planned: Callable[..., Plan], tmp_path: Path) -> None:
    plan = planned("runtime = 'charliecloud'\nimages = '/i'", IMAGE, set=("container.home=true",))
    assert [row for row in configuration.explain(plan.job) if row[0].startswith("container.")] == [
        ("container.image", '"tf"', f"{tmp_path}/job.toml"),
        ("container.home", "true", "command line: --set"),
    ]


def test_modules_of_the_runtime_are_loaded_for_containers_alone(planned: Callable[..., Plan]) -> None:
    site = "runtime = 'charliecloud'\nimages = '/i'\nmodules = ['charliecloud/0.31']"
    assert "charliecloud/0.31" in render.script(planned(site, IMAGE))
    assert "charliecloud/0.31" not in render.script(planned(site, JOB))


def test_a_profile_without_containers_names_no_runtime() -> None:
    assert sites.load("generic").container.runtime == ""
