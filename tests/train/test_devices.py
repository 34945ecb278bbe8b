"""The devices that a program says it has, and the end of one that lacks the GPUs of its role."""

import dataclasses
from types import SimpleNamespace

import pytest

from slurm_tf.run import env
from slurm_tf.train.task_context import TaskContext

pytestmark = pytest.mark.tensorflow

CPU = SimpleNamespace(device_type="CPU", name="/physical_device:CPU:0")
A100 = [SimpleNamespace(device_type="GPU", name=f"/physical_device:GPU:{number}") for number in range(2)]
XPU = SimpleNamespace(device_type="XPU", name="/physical_device:XPU:0")


def check(need: str, index: int = 0) -> None:
    from slurm_tf.train import devices

    devices.check(dataclasses.replace(TaskContext.from_environ({env.GPUS: need}), index=index))


@pytest.fixture
def version() -> str:
    import tensorflow as tf

    return str(tf.__version__)


def see(monkeypatch: pytest.MonkeyPatch, *found: SimpleNamespace, model: str = "") -> None:
    """Have TensorFlow find these devices beside its CPU: a stand-in for a node with GPUs."""
    monkeypatch.setattr("tensorflow.config.list_physical_devices", lambda *_: [CPU, *found])
    details = {"device_name": model} if model else {}
    monkeypatch.setattr("tensorflow.config.experimental.get_device_details", lambda _: details)


@pytest.mark.parametrize("need", ["required", "optional", "none"])
def test_the_devices_are_named(
    need: str, version: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    see(monkeypatch, *A100, model="NVIDIA A100-SXM4-40GB")
    check(need)
    has = "GPU:0 NVIDIA A100-SXM4-40GB, GPU:1 NVIDIA A100-SXM4-40GB"
    assert capfd.readouterr().err == f"slurm_tf.train: TensorFlow {version} has {has}\n"
    see(monkeypatch, XPU)
    check(need)
    assert capfd.readouterr().err == f"slurm_tf.train: TensorFlow {version} has XPU:0\n"


@pytest.mark.parametrize("need", ["optional", "none"])
def test_a_program_that_need_not_have_any_goes_on(
    need: str, version: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    see(monkeypatch)
    check(need)
    assert capfd.readouterr().err == f"slurm_tf.train: TensorFlow {version} has no GPU\n"


@pytest.mark.parametrize(
    ("is_for_gpus", "why"), [(False, "it is built without GPU support"), (True, "its messages above say why")]
)
def test_a_program_whose_role_asked_for_gpus_ends(
    is_for_gpus: bool, why: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    see(monkeypatch)
    monkeypatch.setattr("tensorflow.test.is_built_with_gpu_support", lambda: is_for_gpus)
    with pytest.raises(SystemExit) as end:
        check("required", index=3)
    assert end.value.code == 65
    said = capfd.readouterr().err
    assert f"slurm_tf.train: worker:3 was given GPUs, and its TensorFlow has none: {why}; needed a TensorFlow" in said
    assert "HINT: gpus-optional = true" in said


def test_it_ends_before_anything_else_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also a parameter server's or a worker's own server of strategy ps, which never returns."""
    see(monkeypatch)
    monkeypatch.setenv(env.GPUS, "required")
    monkeypatch.setenv(env.STRATEGY, "ps")
    monkeypatch.setattr(
        "slurm_tf.train.collectives.strategies.run_server", lambda *_: pytest.fail("a server was started")
    )
    from slurm_tf.train import training_run

    with pytest.raises(SystemExit):
        training_run.init()
