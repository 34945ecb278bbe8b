"""Says at the start of a program which devices TensorFlow has, and ends it where it lacks the GPUs of its role."""

import sys
from typing import Any, List

import tensorflow as tf

from slurm_tf.errors import DeviceError
from slurm_tf.run.settings import GpuNeed
from slurm_tf.train.task_context import TaskContext
from slurm_tf.train.train_log import log


def check(task: TaskContext) -> None:
    """Print TensorFlow's devices; exit with 65 if there is none but CPUs and the role of this task asked for GPUs."""
    # "GPU", or the type of a plugin, such as "XPU"
    found = [device for device in tf.config.list_physical_devices() if device.device_type not in ("CPU", "XLA_CPU")]
    log(f"TensorFlow {tf.__version__} has {_in_words(found)}")
    if found or task.gpu_need is not GpuNeed.REQUIRED:
        return
    built_for = (
        "its messages above say why" if tf.test.is_built_with_gpu_support() else "it is built without GPU support"
    )
    error = DeviceError(
        f"{task.role}:{task.index} was given GPUs, and its TensorFlow has none: {built_for}",
        "a TensorFlow that uses them, such as that of pip install 'tensorflow[and-cuda]', and a driver on the node",
        "gpus-optional = true in the job file has it train on CPUs",
    )
    log(str(error))
    sys.exit(error.exit_code)


def _in_words(devices: List[Any]) -> str:
    if not devices:
        return "no GPU"
    return ", ".join(" ".join(filter(None, (_short_name(device), _model(device)))) for device in devices)


def _short_name(device: Any) -> str:
    """Return "GPU:0" of "/physical_device:GPU:0"."""
    return str(device.name).partition("physical_device:")[2] or str(device.name)


def _model(device: Any) -> str:
    return str(tf.config.experimental.get_device_details(device).get("device_name", ""))
