"""Has a process of its own check a version. Standard library, Python 3.9."""

import os
import subprocess
import sys
import tempfile
from typing import Dict, Mapping, Sequence

import slurm_tf
from slurm_tf.errors import ContainerError, ModelError
from slurm_tf.export import check_report
from slurm_tf.export.check_report import CheckReport
from slurm_tf.run import process_end

# For a large model on a slow file system; then the check counts as failed.
_SECONDS = 1800
_CODE = "from slurm_tf.export import check_process; check_process.main()"
# A process beside the training: it joins no cluster, and leaves the GPUs, whose memory is taken, to the training.
_NOT_FOR_IT = ("TF_CONFIG", "HOROVOD_", "SLURM_TF_", "OMPI_", "PMI")
_WITHOUT_GPUS = {"CUDA_VISIBLE_DEVICES": "-1", "ROCR_VISIBLE_DEVICES": "-1", "HIP_VISIBLE_DEVICES": "-1"}
_LONGEST_MESSAGE = 500


def check(
    version: str, model: str, inputs: str = "", python: str = sys.executable, enter: Sequence[str] = ()
) -> CheckReport:
    """Return what a process that loads the version in the folder `version` finds; it runs on CPUs.

    `model`: the model's name, for the warm-up requests that the version gets. `inputs`: an .npz file with inputs of a
    signature, "" for made-up ones. `python`: a Python with TensorFlow. `enter`: the words that start it in a container,
    () for on this machine. A process that dies or takes too long has found a problem. Raises ModelError if it cannot be
    started, OSError.
    """
    with tempfile.TemporaryDirectory(prefix="slurm-tf-check-") as folder:
        report, output = os.path.join(folder, "report.json"), os.path.join(folder, "output")
        argv = [*enter, python, "-c", _CODE, version, model, report, *([inputs] if inputs else [])]
        with open(output, "wb") as file:
            try:
                code = subprocess.run(
                    argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=_environ(os.environ),
                    timeout=_SECONDS, check=False,
                ).returncode  # fmt: skip
            except subprocess.TimeoutExpired:
                return CheckReport(f"it was not loaded and run within {_SECONDS} seconds", {}, "")
            except OSError as error:
                needed = "a Python with TensorFlow to check the model"
                raise ModelError(f"{python}: {error.strerror}", needed, "--python names one") from error
        if code == 0:
            return check_report.read(report, CheckReport)
        with open(output, encoding="utf-8", errors="replace") as file:
            text = file.read().strip()
    if enter and code == ContainerError.exit_code:
        raise ModelError(text, "a container that can be entered here", "--python names a Python of this machine")
    last = "".join(text.splitlines()[-1:])
    if any(f"No module named '{name}'" in last for name in ("tensorflow", "numpy")):
        raise ModelError(f"{python} has no TensorFlow", "one to check the model", "--python names a Python that has it")
    return CheckReport(
        f"the process that loaded and ran it {process_end.words(code)}: {last[:_LONGEST_MESSAGE]}", {}, ""
    )


def _environ(environ: Mapping[str, str]) -> Dict[str, str]:
    kept = {name: value for name, value in environ.items() if not name.startswith(_NOT_FOR_IT)}
    # a folder, or the train.zip of a run
    package = os.path.dirname(os.path.dirname(os.path.abspath(slurm_tf.__file__)))
    paths = [path for path in kept.get("PYTHONPATH", "").split(os.pathsep) if path]
    kept["PYTHONPATH"] = os.pathsep.join(paths if package in paths else [*paths, package])
    return {**kept, **_WITHOUT_GPUS}
