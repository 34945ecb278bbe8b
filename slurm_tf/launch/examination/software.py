"""Asks a node for what TensorFlow needs: the driver of its GPUs, and the program's own Python."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from typing import Dict, List, Mapping, Tuple

from slurm_tf.launch.agent import nvidia_smi
from slurm_tf.launch.agent.child import die_with
from slurm_tf.launch.nodes import probe
from slurm_tf.run import process_end
from slurm_tf.run.examination import GpuFacts, TensorFlowFacts

_DRIVER_SECONDS = 10.0
# "Driver Version: 580.126.09     CUDA Version: 13.0", and from 610 on "KMD Version: ...  CUDA UMD Version: 13.3"
_DRIVER = re.compile(r"(?:Driver|KMD) Version: *([\d.]+)")
_CUDA = re.compile(r"CUDA (?:UMD )?Version: *([\d.]+)")
_MISSING = 3
_TENSORFLOW = f"""\
import importlib.util, json, sys, time
if importlib.util.find_spec("tensorflow") is None:
    sys.exit({_MISSING})
start = time.perf_counter()
import tensorflow as tf
seconds = time.perf_counter() - start
build = dict(tf.sysconfig.get_build_info())
gpus = len(tf.config.list_physical_devices("GPU"))
print()
print(json.dumps([tf.__version__, seconds, gpus, str(build.get("cuda_version") or "")]))
"""


def gpus(environ: Mapping[str, str]) -> GpuFacts:
    """Return the GPUs that Slurm gave this task, and their driver."""
    given = len(nvidia_smi.devices(environ.get("CUDA_VISIBLE_DEVICES", "")))
    devices = probe.gpu_devices()
    program = shutil.which("nvidia-smi", path=environ.get("PATH", os.defpath))
    if program is None:
        return GpuFacts(given, devices, problem="there is no nvidia-smi in PATH")
    try:
        done = subprocess.run(
            [program], env={**environ, "LC_ALL": "C"}, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, timeout=_DRIVER_SECONDS, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return GpuFacts(given, devices, problem=f"nvidia-smi does not answer in {_DRIVER_SECONDS:.0f} s")
    except OSError as error:
        return GpuFacts(given, devices, problem=f"{program}: {error.strerror}")
    text = done.stdout.decode("utf-8", "replace")
    driver, cuda = versions(text)
    problem = "" if driver else f"nvidia-smi says: {(text.strip().splitlines() or ['nothing'])[0][:200]}"
    return GpuFacts(given, devices, driver, cuda, problem)


def versions(text: str) -> Tuple[str, str]:
    """Return the releases of the driver and of the newest CUDA that it runs, in what nvidia-smi prints; "" for none."""
    found = [pattern.search(text) for pattern in (_DRIVER, _CUDA)]
    driver, cuda = (match[1] if match else "" for match in found)
    return driver, cuda


class TensorFlowQuestion:
    """Imports TensorFlow in another Python, beside the caller."""

    def __init__(self, python: str, environ: Mapping[str, str]) -> None:
        self._problem = "" if python else "the job's command does not begin with a Python"
        if self._problem:
            return
        with tempfile.TemporaryFile() as output:
            # a path is relative to the job's folder, which may hold files that Python would take for modules
            program = os.path.abspath(os.path.expanduser(python)) if "/" in python else python
            argv = [program, "-c", _TENSORFLOW]
            self._output = os.dup(output.fileno())
            try:
                self._process = subprocess.Popen(
                    argv, env=_quiet(environ), stdin=subprocess.DEVNULL, stdout=self._output, stderr=self._output,
                    cwd="/", start_new_session=True, preexec_fn=die_with(os.getpid()),  # noqa: PLW1509 - no thread yet
                )  # fmt: skip
            except OSError as error:
                self._problem = f"{python}: {error.strerror}"

    def answer(self, deadline: float) -> TensorFlowFacts:
        """Return what it said; it is ended at `deadline` (time.monotonic)."""
        if self._problem:
            return TensorFlowFacts(problem=self._problem)
        try:
            code = self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            return TensorFlowFacts(problem="its import had not ended when the examination did")
        os.lseek(self._output, 0, os.SEEK_SET)
        with os.fdopen(self._output, "rb") as file:
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
        return read_answer(code, lines)


def read_answer(code: int, lines: List[str]) -> TensorFlowFacts:
    """Return what the Python said: `code` is its exit code, `lines` what it printed."""
    if code == _MISSING and not lines:
        return TensorFlowFacts(problem="this Python has no TensorFlow", is_missing=True)
    last = lines[-1] if lines else ""
    if code:
        how = process_end.exit_status(code)
        return TensorFlowFacts(problem=f"import tensorflow: {last[:300] or how}")
    try:
        version, seconds, number, cuda = json.loads(last)
    except ValueError:
        return TensorFlowFacts(problem=f"import tensorflow printed {last[:300]!r}")
    return TensorFlowFacts(str(version), float(seconds), int(number), str(cuda))


def _quiet(environ: Mapping[str, str]) -> Dict[str, str]:
    return {**environ, "TF_CPP_MIN_LOG_LEVEL": "3"}
