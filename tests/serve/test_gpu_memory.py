"""What a replica asks of TensorFlow where there are GPUs. The list of devices is a stand-in: it names two more."""

import pytest

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> "list[object]":
    """Return two GPUs that TensorFlow's context has found."""
    from tensorflow.python.eager import context

    real = context.context()
    real.list_physical_devices()  # looks for them, once
    found: list[object] = [context.PhysicalDevice(f"/physical_device:GPU:{number}", "GPU") for number in range(2)]
    monkeypatch.setattr(real, "_physical_devices", [*real._physical_devices, *found])
    monkeypatch.setattr(real, "_memory_growth_map", {**real._memory_growth_map, **dict.fromkeys(found)})
    monkeypatch.setattr(real, "_context_handle", None)  # growth is chosen before the first call
    return found


def test_no_replica_takes_all_memory_of_a_gpu(gpus: "list[object]", monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    from slurm_tf.serve.replica import replica_process

    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")
    replica_process.share_gpus()
    assert [tf.config.experimental.get_memory_growth(gpu) for gpu in gpus] == [None, None]
    monkeypatch.delenv("TF_FORCE_GPU_ALLOW_GROWTH")
    replica_process.share_gpus()
    assert [tf.config.experimental.get_memory_growth(gpu) for gpu in gpus] == [True, True]
