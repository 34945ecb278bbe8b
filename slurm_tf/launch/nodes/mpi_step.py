"""Runs the MPI step of a preflight: mpi_probe.py on each node, while the agents wait."""

import contextlib
import json
import os
import signal
import subprocess
from typing import List, Mapping, Sequence

from slurm_tf.launch.nodes import mpi_probe
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.preflight_report import Figures

_SECONDS = 120.0


class MpiStep:
    """A step that runs. `figures`: what it measured, in both directions; `note`: why there are none.

    `error`: why MPI does not work on these nodes.
    """

    def __init__(
        self, folder: RunFolder, probe: Sequence[str], nodes: Sequence[str], environ: Mapping[str, str], now: float
    ) -> None:
        """`probe`: the command that each node runs; `environ`: the batch script's."""
        self.figures: List[Figures] = []
        self.note = self.error = ""
        self.until = now + _SECONDS
        self._result = os.path.join(folder.probes, "mpi.json")
        self._output = os.path.join(folder.probes, "mpi.out")
        self._command, self._environ = _command(probe, nodes, self._result), dict(environ)
        self._crashes = 0
        self._start()

    def is_over(self, now: float) -> bool:
        """Whether it has ended; it does in two minutes."""
        code = self._process.poll()
        if code is None and now < self.until:
            return False
        self.end()
        # MPI_Init of Open MPI 4.1.4 under Slurm 22.05's pmix dies of a segmentation fault in one start of 25, also on
        # healthy nodes and with no other line of Python
        if code is not None and code > 128 and not self._crashes:
            self._crashes += 1
            self._start()
            return False
        if code == 0:
            with open(self._result, encoding="utf-8") as file:
                for source, target, latency, bandwidth in json.load(file):
                    self.figures += [
                        Figures(source, target, latency, bandwidth), Figures(target, source, latency, bandwidth)
                    ]  # fmt: skip
        elif code == mpi_probe.NO_MPI:
            self.note = f"no figures of MPI: {self._words()}"
        else:
            how = f"did not end in {_SECONDS:.0f} s" if code is None else f"ended with {code}"
            self.error = f"the MPI step {how}: {self._words()}"
        self._clean()
        return True

    def end(self) -> None:
        """End it, if it has not ended."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self._process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, number)
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(5)

    def _start(self) -> None:
        self._clean()
        with open(self._output, "wb") as output:
            self._process = subprocess.Popen(
                self._command, env=self._environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                start_new_session=True,
            )  # fmt: skip

    def _words(self) -> str:
        with open(self._output, "rb") as file:
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
        # srun has the last word, but not the first
        own = [line for line in lines if not line.startswith(("srun:", "slurmstepd:"))]
        return (own or lines or ["it printed nothing"])[-1].strip()

    def _clean(self) -> None:
        for path in (self._result, self._output):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _command(probe: Sequence[str], nodes: Sequence[str], result: str) -> List[str]:
    """Return srun's command line: all that a shell or a site may have set for other steps is said again."""
    return [
        "srun", "--mpi=pmix", "--overlap", "--exact", "--export=ALL", "--kill-on-bad-exit=0", "--wait=10",
        f"--nodes={len(nodes)}", f"--ntasks={len(nodes)}", "--ntasks-per-node=1", "--cpus-per-task=1",
        f"--nodelist={','.join(nodes)}", "--gres=none", *probe, result,
    ]  # fmt: skip
