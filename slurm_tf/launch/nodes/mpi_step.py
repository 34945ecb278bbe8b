"""Runs the MPI step of a preflight: mpi_probe.py on each node, beside the agents' step."""

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
    """The MPI step. When it is over, `figures` holds its measurements, each pair of nodes in both directions.

    `note`: why there are none, where MPI is not installed; `error`: why MPI does not work on these nodes.
    """

    def __init__(
        self, folder: RunFolder, probe: Sequence[str], nodes: Sequence[str], environ: Mapping[str, str], now: float
    ) -> None:
        """Start the step. `probe`: the command that each node runs; `environ`: the batch script's."""
        self.figures: List[Figures] = []
        self.note = self.error = ""
        self.until = now + _SECONDS
        self._result = os.path.join(folder.probes, "mpi.json")
        self._output = os.path.join(folder.probes, "mpi.out")
        self._command, self._environ = _command(probe, nodes, self._result), dict(environ)
        self._crashes = 0
        self._start()

    def is_over(self, now: float) -> bool:
        """Return whether the step has ended, and read its result then; it is ended after two minutes."""
        code = self._process.poll()
        if code is None and now < self.until:
            return False
        self.end()
        # MPI_Init of Open MPI 4.1.4 under Slurm 22.05's pmix crashes (SIGSEGV) in one start of 25, also on good nodes
        # and in a program of no other line: start it a second time
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
            self.note = f"no figures of MPI: {self._last_line()}"
        else:
            how = f"did not end in {_SECONDS:.0f} s" if code is None else f"ended with {code}"
            self.error = f"the MPI step {how}: {self._last_line()}"
        self._clean()
        return True

    def end(self) -> None:
        """End the step, if it runs."""
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

    def _last_line(self) -> str:
        """Return the last line that a program of the step printed, else the last one of srun."""
        with open(self._output, "rb") as file:
            lines = file.read().decode("utf-8", "replace").strip().splitlines()
        of_programs = [line for line in lines if not line.startswith(("srun:", "slurmstepd:"))]
        return (of_programs or lines or ["it printed nothing"])[-1].strip()

    def _clean(self) -> None:
        for path in (self._result, self._output):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def _command(probe: Sequence[str], nodes: Sequence[str], result: str) -> List[str]:
    """Return srun's command line, with each option for which a shell or a site may have set a variable."""
    return [
        "srun", "--mpi=pmix", "--overlap", "--exact", "--export=ALL", "--kill-on-bad-exit=0", "--wait=10",
        f"--nodes={len(nodes)}", f"--ntasks={len(nodes)}", "--ntasks-per-node=1", "--cpus-per-task=1",
        f"--nodelist={','.join(nodes)}", "--gres=none", *probe, result,
    ]  # fmt: skip
