"""Plans of services: one job after the other, each a point of the run, none requeued."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_tf.errors import ConfigError, RunError
from slurm_tf.jobspec import serve_plan
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.plan import Plan
from slurm_tf.run import job_chain, serve_settings
from tests.jobspec.test_plan import options

TEXT = """
name = "digits"
strategy = "serve"
[roles.replica]
count = 2
[serve]
models = {digits = "models/digits"}
"""


def test_each_job_of_a_service_is_a_point_of_its_own(fit: Callable[..., Plan], tmp_path: Path) -> None:
    plan = fit(TEXT)
    assert plan.array is not None
    assert list(plan.array.points) == [1]
    assert not plan.one_job
    assert "array" not in options(plan)
    (tmp_path / "runs" / "run-1").mkdir(parents=True)
    for number in (1, 2):
        job_chain.add(plan.run, str(number), "", (number,), False, submission=1)
    later = fit(TEXT)
    assert later.array is not None
    assert list(later.array.points) == [3]


def test_a_job_of_a_service_is_never_requeued(fit: Callable[..., Plan]) -> None:
    plan = fit(f"{TEXT}[sbatch]\nrequeue = true\n")
    assert "no-requeue" in options(plan)
    assert "requeue" not in options(plan)
    assert not plan.settings.goes_on
    assert plan.settings.warning == ("", 0)


def test_all_jobs_of_a_service_have_the_settings_of_the_first(fit: Callable[..., Plan], tmp_path: Path) -> None:
    settings = fit(TEXT).settings
    assert settings.serve is not None
    assert settings.serve.models == {"digits": str(tmp_path / "models" / "digits")}
    assert settings.serve.folder == str(tmp_path / "runs" / "run-1")
    fourth = settings.of_point(4)
    assert (fourth.run, fourth.serve, fourth.lead) == ("run-1/4", settings.serve, "replica:0")
    with pytest.raises(RunError, match="no point 4"):
        replace(settings, serve=None).of_point(4)
    variable = serve_settings.to_variable(settings.serve)
    assert serve_settings.from_environ({"SLURM_TF_SERVE": variable}) == settings.serve


TEMPLATE = (
    TEXT.partition("[serve]")[0]
    + """
[params]
name = {default = "model"}
base = {type = "path"}
[serve.models]
"{name}" = "{base}"
letters = "models/letters"
"""
)


def test_params_fill_the_name_and_the_folder_of_a_model(fit: Callable[..., Plan], load: Callable[..., Job]) -> None:
    settings = fit(TEMPLATE, values=["base=models/flowers", "name=flowers"]).settings.serve
    assert settings is not None
    assert {name: Path(base).name for name, base in settings.models.items()} == {
        "flowers": "flowers",
        "letters": "letters",
    }
    for name, needed in (("../etc", "it is a part of URLs"), ("letters", "found two models named letters")):
        with pytest.raises(ConfigError, match=needed):
            fit(TEMPLATE, values=["base=models/flowers", f"name={name}"])
    with pytest.raises(ConfigError, match=r"base: .*needed"):
        fit(TEMPLATE)
    # an example is not looked for, all else is
    job = load(TEMPLATE, values=["base=/nowhere/flowers"])
    with pytest.raises(ConfigError, match=r"flowers(.|\n)*letters"):
        serve_plan.check_models(job)
    with pytest.raises(ConfigError) as error:
        serve_plan.check_models(replace(job, examples=frozenset(["base"])))
    assert "flowers" not in str(error.value)


def test_a_model_must_be_there(load: Callable[..., Job], tmp_path: Path) -> None:
    job = load(TEXT)
    with pytest.raises(ConfigError, match=r"there is no folder .*models/digits; needed the folder of a model"):
        serve_plan.check_models(job)
    (tmp_path / "models" / "digits").mkdir(parents=True)
    serve_plan.check_models(job)
