"""Scripts: golden ones as plain files for every site and strategy, sound shell, nothing unquoted."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_tf.errors import TemplateError
from slurm_tf.jobspec import configuration, job_templates, params, plan, sites
from slurm_tf.jobspec.plan import Plan
from slurm_tf.run.folder import RunFolder
from slurm_tf.submit import packed_modules, render, setup_checks
from tests.conftest import ROOT
from tests.submit.test_hostile import HOSTILE

GOLDEN = ROOT / "tests" / "golden"
STRATEGIES = sorted(path.name.partition(".")[0] for path in (ROOT / "templates" / "strategy").iterdir())
JOB_TEMPLATES = sorted(path.stem for path in (ROOT / "jobs").glob("*.toml"))
SITES = sorted([path.stem for path in (ROOT / "site_configs").glob("*.toml")] + ["university"])

# A cluster that uses every part of a profile that reaches a script.
UNIVERSITY = """
node-python = "/opt/python 3.9/bin/python3"
modules = ["cuda/12.4", "nccl"]
prologue = '''
source /etc/profile.d/modules.sh
ulimit -c 0
'''
gpu-spelling = "gres"
exclusive = true
requeue = false
interface = "ib0"
thread-variables = ["OMP_NUM_THREADS", "TF_NUM_INTRAOP_THREADS"]
scratch = "/local/$USER"
gpu-types.a100 = { name = "nvidia_a100", constraint = "gpu80" }
env.XDG_CACHE_HOME = "~/../scratch/two words/${USER}"
"""

JOB = """
name = "flowers"
strategy = "{strategy}"
command = ["python", "train.py", "--rate", "0.1", "two words"]
chdir = "/home/ann/flowers"
setup = "source ~/venv/bin/activate"
time = "12:00:00"
account = "vision"
{partition}
[env]
API_TOKEN = "s3cret"
[sbatch]
comment = 'he said "go"'
mail-type = "END"
"""

# What a job asks for at each site: the partition of all roles, that of the workers of ps, GPUs of one node, its CPUs.
ELSEWHERE = ("", "gpu", "a100:4", 32)
AT_SITE = {
    "example-no-gres": ("gpu-a100", "gpu-a100", "a100:3", 32),
    "example-typed-gres": ("gpu", "gpu", "a100-80g:4", 32),
    "example-preemption": ("qgpu_preempt", "qgpu_preempt", "v100:4", 24),
}
ROLES = {
    "single": "[roles.worker]\ngpus-per-task = 1\n",
    "mirrored": "[roles.worker]\ngpus-per-task = '{gpus}'\ncpus-per-task = {cpus}\n",
    "multi_worker": "[roles.worker]\ncount = 4\nntasks-per-node = 2\ngpus-per-task = 1\ncpus-per-task = 8\n",
    "horovod": "[roles.worker]\ncount = 4\nntasks-per-node = 2\ngpus-per-task = 1\ncpus-per-task = 8\n",
    "ps": (
        "[roles.chief]\nmem = '8G'\n"
        "[roles.worker]\ncount = 2\nntasks-per-node = 1\ngpus-per-task = 1\npartition = '{of_workers}'\n"
        "[roles.ps]\ncount = 2\nmem = '32G'\n[roles.evaluator]\nmem = '8G'\n"
    ),
    "between_graph": (  # which share nodes
        "[roles.worker]\ncount = 2\nntasks-per-node = 1\nmem = '8G'\ngpus-per-task = 1\n"
        "[roles.ps]\nmem = '4G'\ncpus-per-task = 2\n"
    ),
    "engine": (
        "[roles.scheduler]\nmem = '4G'\n"
        "[roles.worker]\ncount = 2\nntasks-per-node = 1\nmem = '64G'\ncpus-per-task = 16\n"
        "[roles.driver]\nmem = '8G'\n"
    ),
    "serve": (
        "[serve.models]\nflowers = '/models/flowers'\n"
        "[roles.replica]\ncount = 2\nntasks-per-node = 1\ncpus-per-task = 8\nmem = '16G'\n"
    ),
}
# Where a script finds the index of its point.
SWEEP = 'command = ["python", "train.py", "--rate={rate}"]\nsweep.rate = [0.1, 0.2]\narray = "%1"\n'
SWEEPS = {"array": "single", "jobs": "ps"}


def rendered(site: str, strategy: str, tmp_path: Path, sweep: bool = False) -> str:
    job = tmp_path / "job.toml"
    partition, of_workers, gpus, cpus = AT_SITE.get(site, ELSEWHERE)
    text = JOB.format(strategy=strategy, partition=f'partition = "{partition}"' if partition else "")
    text += ROLES[strategy].format(of_workers=of_workers, gpus=gpus, cpus=cpus)
    job.write_text(re.sub(r"^command = .*\n", lambda _: SWEEP, text, flags=re.MULTILINE) if sweep else text)
    if site == "university":
        site = str(tmp_path / "university.toml")
        Path(site).write_text(UNIVERSITY)
    fitted = plan.fit(configuration.load(job, {}, site), RunFolder("/scratch/ann/runs/flowers-1"))
    return render.script(fitted)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("site", SITES)
def test_golden(site: str, strategy: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    golden = GOLDEN / site / f"{strategy}.sbatch"
    text = rendered(site, strategy, tmp_path)
    assert text == rendered(site, strategy, tmp_path)
    if request.config.getoption("--update-golden"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text(), "if it is meant: pytest --update-golden, and read the difference"


@pytest.mark.parametrize("kind", SWEEPS)
def test_golden_sweeps(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    golden = GOLDEN / "sweep" / f"{kind}.sbatch"
    text = rendered("generic", SWEEPS[kind], tmp_path, sweep=True)
    if request.config.getoption("--update-golden"):
        golden.parent.mkdir(parents=True, exist_ok=True)
        golden.write_text(text)
    assert text == golden.read_text(), "if it is meant: pytest --update-golden, and read the difference"


@pytest.mark.parametrize("name", JOB_TEMPLATES)
def test_golden_job_templates(name: str, golden: Callable[[str, str], None]) -> None:
    job = configuration.load(job_templates.find(name), {}, "example-typed-gres")
    examples = {form.name: form.example for form in params.forms(job) if form.required}
    run = RunFolder(f"/scratch/ann/runs/{name}-1")
    fitted = plan.fit(replace(job, given=examples), run, f"{run.submission(1).code}/jobs")
    golden(f"job_templates/{name}.sbatch", render.script(fitted))


def test_every_golden_script_is_still_rendered() -> None:
    expected = {f"{site}/{strategy}.sbatch" for site in SITES for strategy in STRATEGIES}
    expected |= {f"job_templates/{name}.sbatch" for name in JOB_TEMPLATES}
    expected |= {"doctor/script.sbatch"}  # of tests/doctor/test_node_job.py
    assert expected | {f"sweep/{kind}.sbatch" for kind in SWEEPS} == {
        str(path.relative_to(GOLDEN)) for path in GOLDEN.rglob("*.sbatch")
    }


@pytest.mark.parametrize("path", sorted(GOLDEN.rglob("*.sbatch")), ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_golden_scripts_are_sound_and_short(path: Path) -> None:
    subprocess.run(["bash", "-n", path], check=True, timeout=60)
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or "shellcheck"
    # SC1090, SC1091: what the user's own setup sources is not here to be read
    subprocess.run([shellcheck, "--exclude=SC1090,SC1091", path], check=True, timeout=60)
    text = path.read_text()
    assert len(text.splitlines()) <= 75
    # the command of a job template, and what the doctor looks for, may be long
    assert max(map(len, text.splitlines())) <= 120 or path.parent.name in ("job_templates", "doctor")
    assert "s3cret" not in text
    assert "API_TOKEN" not in text


def test_the_checks_of_setup_are_sound(tmp_path: Path) -> None:
    (tmp_path / "checks.sh").write_text(setup_checks.SHELL)
    shellcheck = shutil.which("shellcheck", path=str(Path(sys.executable).parent)) or "shellcheck"
    # SC2317, SC2329: what it defines is called from the script
    argv = [shellcheck, "--shell=bash", "--exclude=SC2317,SC2329", str(tmp_path / "checks.sh")]
    subprocess.run(argv, check=True, timeout=60)


@pytest.mark.parametrize("value", [*HOSTILE, "$A", "${A}/$B-x", "~/x", "~", "a~", "$(echo no)$A", "a'$A'"])
def test_a_sites_variables_are_what_the_profile_says(value: str, tmp_path: Path, fit: Callable[..., Plan]) -> None:
    site = tmp_path / "site.toml"
    cache = json.dumps(value, ensure_ascii=False)
    site.write_text(f"env.CACHE = {cache}\nscratch = ''\ninterface = 'ib0'\nenv.NCCL_SOCKET_IFNAME = 'x'\n")
    lines = [each for each in render.script(fit(MINIMAL, site=str(site))).split("\n") if each.startswith("export ")]
    shell = "\n".join([*lines, 'printf "%s\\n" "$CACHE" "$NCCL_SOCKET_IFNAME" "$GLOO_SOCKET_IFNAME"'])
    known = {"HOME": "/home/ann", "A": "a $B *", "B": "b", "PATH": "/nowhere"}
    done = subprocess.run(["/bin/bash", "-c", shell], env=known, capture_output=True, text=True, timeout=60, check=True)
    expected = value.replace("~", "/home/ann", 1) if value in ("~", "~/x") else value
    for name, text in (("${A}", "A"), ("$A", "A"), ("$B", "B")):
        expected = expected.replace(name, f"\0{text}")
    expected = expected.replace("\0A", known["A"]).replace("\0B", known["B"])
    assert done.stdout == f"{expected}\nx\nib0\n"


def test_a_variable_that_is_not_set_ends_the_job(tmp_path: Path, fit: Callable[..., Plan]) -> None:
    site = tmp_path / "site.toml"
    site.write_text("env.CACHE = '$FAST/cache'\n")
    script = render.script(fit(MINIMAL, site=str(site)))
    done = subprocess.run(["/bin/bash", "-c", script], env={}, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0
    assert "FAST: the site profile needs it" in done.stderr


def test_setup_stands_as_it_is(fit: Callable[..., Plan]) -> None:
    setup = "cat <<EOF\n a  'b\n\n\n\n{{ x }} $(y)\nEOF"
    text = render.script(fit(f'setup = """{setup}"""\n{MINIMAL}'))
    assert f"\n{setup}\n" in text


def test_a_reader_of_the_script_sees_each_program(fit: Callable[..., Plan]) -> None:
    own = "[roles.chief]\n[roles.worker]\n[roles.ps]\ncommand = ['python', 'a server.py']\n"
    text = render.script(fit("name = 'a'\nstrategy = 'ps'\ncommand = ['python', 'train.py']\n" + own))
    assert "\n#   chief, worker: python train.py\n#   ps: python 'a server.py'\n" in text


MINIMAL = 'name = "a"\nstrategy = "single"\ncommand = ["x"]\n[roles.worker]\n'


@pytest.fixture
def templates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    folder = tmp_path / "own" / "templates" / "site"
    folder.mkdir(parents=True)
    monkeypatch.setenv("SLURM_TF_PATH", str(tmp_path / "own"))
    yield folder


def test_a_template_of_the_users_own_wins(templates: Path, fit: Callable[..., Plan]) -> None:
    for number in (4, 5):  # the second time, of what is compiled already
        (templates / "generic.sbatch.j2").write_text(
            f"{{% extends strategy %}}\n{{% block prologue %}}\nexport OMP_NUM_THREADS={number}\n{{% endblock %}}\n"
        )
        assert f"\nexport OMP_NUM_THREADS={number}\n" in render.script(fit(MINIMAL))


@pytest.mark.parametrize("body", ["{{ super() }}", "{% set text %}{{ super() }}{% endset %}{{ text }}"])
def test_every_block_can_be_extended(body: str, templates: Path, fit: Callable[..., Plan]) -> None:
    plan = fit("setup = 'module load x'\n" + MINIMAL)
    blocks = re.findall(r"{% block (\w+) %}", (ROOT / "templates" / "base.sbatch.j2").read_text())
    own = templates / "generic.sbatch.j2"
    own.write_text("{% extends strategy %}")
    plain = render.script(plan)
    own.write_text("{% extends strategy %}" + "".join(f"{{% block {b} %}}{body}{{% endblock %}}" for b in blocks))
    assert set(blocks) == {"directives", "about", "prologue", "setup", "launcher"}
    assert render.script(plan) == plain


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("{{ chdir }}", "a script template prints"),
        ("{% set text %}{{ chdir }}{% endset %}{{ text }}", "a script template prints"),
        ("{{ super() ~ chdir }}", "a script template prints"),
        ("{{ accout | sh }}", "'accout' is undefined"),
        ("{% if accout %}x{% endif %}", "'accout' is undefined"),
        ("{{ ''.__class__.__mro__ }}", "access to attribute '__class__'"),
        ("{% if %}", "Expected an expression"),
        ("{% include 'none.j2' %}", "no script template none.j2"),
    ],
)
def test_a_wrong_template(body: str, found: str, templates: Path, fit: Callable[..., Plan]) -> None:
    (templates / "generic.sbatch.j2").write_text("{% extends strategy %}{% block about %}" + body + "{% endblock %}")
    with pytest.raises(TemplateError, match=found):
        render.script(fit(MINIMAL))


def test_a_template_that_others_write_is_refused(templates: Path, fit: Callable[..., Plan]) -> None:
    path = templates / "generic.sbatch.j2"
    path.write_text("{% extends strategy %}")
    path.chmod(0o666)
    with pytest.raises(Exception, match="others can change it"):
        render.script(fit(MINIMAL))


def test_a_site_may_name_its_template(fit: Callable[..., Plan], tmp_path: Path) -> None:
    site = tmp_path / "site.toml"
    site.write_text("template = 'none'")
    assert sites.load(str(site)).template == "none"
    with pytest.raises(TemplateError, match=r"no script template site/none.sbatch.j2"):
        render.script(fit(MINIMAL, site=str(site)))


def test_control_characters_are_refused_once_more() -> None:
    with pytest.raises(TemplateError):
        render.quote("a\nb")
    with pytest.raises(TemplateError):
        render.directive(("comment", "a\x7fb"))
    with pytest.raises(TemplateError):
        render.option(("a b", "c"))


def test_a_preflights_script_is_the_jobs_but_for_one_word(fit: Callable[..., Plan]) -> None:
    plan = fit('name = "a"\nstrategy = "single"\ncommand = ["x"]\n[roles.worker]\n')
    training, preflight = (render.script(plan, preflight).splitlines() for preflight in (False, True))
    differing = [(one, other) for one, other in zip(training, preflight, strict=True) if one != other]
    assert [other for _, other in differing] == [one.replace(" -- ", " --preflight -- ") for one, _ in differing]
    assert len(differing) == 1


def test_the_launcher_has_all_that_a_preflight_needs() -> None:
    packed = {
        str(path.relative_to(packed_modules._PACKAGE))
        for each in packed_modules.LAUNCHER_FILES
        for path in packed_modules._PACKAGE.glob(each)
    }
    assert {
        "launch/nodes/preflight.py",
        "launch/nodes/probe.py",
        "launch/nodes/diagnosis.py",
        "launch/coordinator/startup.py",
    } <= packed
