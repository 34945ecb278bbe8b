"""[stage] is checked before anything is submitted, and reaches the launcher with its params filled in."""

from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec.plan import Plan
from slurm_tf.run.stage_settings import StageSettings

JOB = 'name = "a"\nstrategy = "single"\ncommand = ["x"]\n{}\n[roles.worker]\n[stage]\n{}\n'
SITE = """
scratch = "{}"
scratch-size = "400G"
[container]
runtime = "{}"
images = "/images"
"""


@pytest.fixture
def staged(fit: Callable[..., Plan], tmp_path: Path) -> Callable[..., StageSettings | None]:
    """Return what the launcher gets of a job's stage."""

    def make(stage: str, top: str = "", scratch: str = "/local", runtime: str = "pyxis") -> StageSettings | None:
        site = tmp_path / "uni.toml"
        site.write_text(SITE.format(scratch, runtime))
        return fit(JOB.format(top, stage), site=str(site)).settings.stage

    return make


def test_params_fill_the_paths_and_the_sites_scratch_bounds_them(
    staged: Callable[..., StageSettings | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA", "/data")
    found = staged('paths = ["{set}/train", "$DATA/x", "y"]\noptional = true', 'params.set = "/shared/v3"')
    assert found
    assert (found.paths, found.optional, found.size) == (("/shared/v3/train", "/data/x", "y"), True, 400 * 1024)
    assert found.sources() == {"train": "/shared/v3/train", "x": "/data/x", "y": f"{found.folder}/y"}
    smaller = staged('paths = ["/x"]\nsize = "1G"')
    assert smaller
    assert smaller.size == 1024
    assert staged("") is None


@pytest.mark.parametrize(
    ("stage", "top", "scratch", "message"),
    [
        ('paths = ["/x"]\nsize = "500G"', "", "/local", "stage.size: found '500G'; needed at most 400G, what /local"),
        ('paths = ["/x"]\nsize = "much"', "", "/local", "stage.size: found 'much'; needed an amount of memory"),
        ('paths = ["/x/a", "/y/a"]', "", "/local", "stage.paths: found /x/a and /y/a; needed paths that end in diff"),
        ('paths = ["/"]', "", "/local", "stage.paths: found the path '/'"),
        ('paths = ["{data}"]', "", "/local", "stage.paths: found {data}; needed a param of this name"),
        ('paths = ["/a\\nb"]', "", "/local", "control"),
        ('paths = ["/x"]', "", "", "stage.paths: site .* names no scratch; needed `scratch` in its profile"),
        ('paths = ["/x"]', 'container.image = "tf"', "/local", "starts the tasks of worker in a container, which has"),
        ("path = ['/x']", "", "/local", "paths"),
    ],
)
def test_what_cannot_be_staged_is_refused(
    stage: str, top: str, scratch: str, message: str, staged: Callable[..., StageSettings | None]
) -> None:
    with pytest.raises(ConfigError, match=message):
        staged(stage, top, scratch)


def test_a_container_that_srun_enters_has_the_scratch_mounted(staged: Callable[..., StageSettings | None]) -> None:
    assert staged('paths = ["/x"]', 'container.image = "tf"\ncontainer.mounts = ["/local"]')
    assert staged('paths = ["/x"]', 'container.image = "tf"', runtime="apptainer")
