"""The sampler of a task's GPUs, with a stand-in for nvidia-smi that prints as drivers 510.47 to 580.65 do."""

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import DriverError
from slurm_tf.launch.agent import gpu_sampler, nvidia_smi
from slurm_tf.launch.agent.gpu_sampler import GpuSampler
from slurm_tf.launch.mapping.assignment import Assignment
from slurm_tf.run import env, gpu_record
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.gpu_record import GpuState
from slurm_tf.run.settings import RoleSettings
from tests.launch.conftest import StartJob, gone_within

A100 = "NVIDIA A100-SXM4-40GB"
# driver 535.54, two of four; 580.65 on a GB10, whose memory is that of the node; 510.47, a GPU in MIG mode
QUERY = f"{A100}, 87, 31012, 40960\n{A100}, 0, 4, 40960\n"
GB10 = "NVIDIA GB10, 5, [N/A], [N/A]\n"
WARNING = "WARNING: infoROM is corrupted at gpu 0000:3B:00.0\n"
IN_MIG_MODE = f"{A100}, [N/A], 38, 40960\n"
LIST = (
    f"GPU 0: {A100} (UUID: GPU-27b94a00-ed54-5c24-b1fd-1054085de32a)\n"
    "  MIG 3g.20gb     Device  0: (UUID: MIG-dc34c2fd-4bd7-52ad-a6d0-645dcd1794e4)\n"
    "  MIG 3g.20gb     Device  1: (UUID: MIG-ec4c3916-65fa-5948-b9b5-9f21a2ddfcc0)\n"
)
XML = """<?xml version="1.0" ?>
<!DOCTYPE nvidia_smi_log SYSTEM "nvsmi_device_v11.dtd">
<nvidia_smi_log>
  <driver_version>510.47.03</driver_version>
  <gpu id="00000000:00:04.0">
    <product_name>NVIDIA A100-SXM4-40GB</product_name>
    <mig_devices>
      <mig_device>
        <index>0</index>
        <fb_memory_usage><total>19968 MiB</total><reserved>0 MiB</reserved><used>19 MiB</used></fb_memory_usage>
      </mig_device>
      <mig_device>
        <index>1</index>
        <fb_memory_usage><total>19968 MiB</total><reserved>0 MiB</reserved><used>812 MiB</used></fb_memory_usage>
      </mig_device>
    </mig_devices>
    <fb_memory_usage><total>40960 MiB</total><used>38 MiB</used></fb_memory_usage>
    <utilization><gpu_util>N/A</gpu_util></utilization>
  </gpu>
</nvidia_smi_log>
"""
STAND_IN = """#!/bin/sh
echo "$*" >> "{folder}/asked"
case "$*" in
-L) cat "{folder}/list" ;;
-q*) cat "{folder}/xml" ;;
*) {do} ;;
esac
"""

Install = Callable[..., str]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put a stand-in into PATH that does this when it is queried; return its path."""
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    (tmp_path / "bin").mkdir()

    def write(do: str) -> str:
        for name, text in (("list", LIST), ("xml", XML), ("query", QUERY)):
            (tmp_path / name).write_text(text)
        path = tmp_path / "bin" / "nvidia-smi"
        path.write_text(STAND_IN.format(folder=tmp_path, do=do))
        path.chmod(0o755)
        return str(path)

    return write


@pytest.mark.parametrize(
    ("text", "states"),
    [
        (QUERY, (GpuState(A100, 87, 31012, 40960), GpuState(A100, 0, 4, 40960))),
        (GB10, (GpuState("NVIDIA GB10", 5, None, None),)),
        (IN_MIG_MODE, (GpuState(A100, None, 38, 40960),)),
        (QUERY + WARNING, (GpuState(A100, 87, 31012, 40960), GpuState(A100, 0, 4, 40960))),
    ],
)
def test_what_each_driver_prints(text: str, states: tuple[GpuState, ...]) -> None:
    assert nvidia_smi.parse(text) == states


@pytest.mark.parametrize(
    ("visible", "devices"),
    [
        ("0,1", ("0", "1")),
        ("GPU-27b94a00-ed54-5c24-b1fd-1054085de32a", ("GPU-27b94a00-ed54-5c24-b1fd-1054085de32a",)),
        ("MIG-GPU-9de3d0e8-33f5-10dc/2/0", ("MIG-GPU-9de3d0e8-33f5-10dc/2/0",)),
        ("2,-1,3", ("2",)),
        ("0,--help", ("0",)),
        ("NoDevFiles", ()),
        ("", ()),
    ],
)
def test_what_cuda_sees(visible: str, devices: tuple[str, ...]) -> None:
    assert nvidia_smi.devices(visible) == devices
    assert gpu_sampler.devices_of({"CUDA_VISIBLE_DEVICES": visible}, has_gpus=True) == (devices or None)


def test_a_task_that_is_bound_to_no_device_sees_all_if_its_step_has_some() -> None:
    assert gpu_sampler.devices_of({}, has_gpus=True) == ()
    assert gpu_sampler.devices_of({}, has_gpus=False) is None


def test_only_the_devices_of_the_task_are_asked_for(install: Install, tmp_path: Path) -> None:
    program = install(f"cat {tmp_path}/query")
    assert nvidia_smi.sample(program, ("0", "2"), 10.0) == nvidia_smi.parse(QUERY)
    nvidia_smi.sample(program, (), 10.0)
    assert nvidia_smi.sample(program, ("MIG-ec4c3916-65fa-5948-b9b5-9f21a2ddfcc0",), 10.0) == (
        GpuState(f"{A100} MIG 3g.20gb", None, 812, 19968),
    )
    query = "--query-gpu=name,utilization.gpu,memory.used,memory.total --format=csv,noheader,nounits"
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == [f"--id=0,2 {query}", query, "-L", "-q -x --id=0"]


@pytest.mark.parametrize(
    ("do", "message", "wanted"),
    [
        ("echo 'No devices were found'; exit 6", "it ended with exit code 6: No devices were found", ("9",)),
        ("echo 'Unable to determine the device handle'", "it printed 'Unable to determine the device handle'", ("0",)),
        ("", "it does not list MIG-1", ("MIG-1",)),
    ],
)
def test_what_it_cannot_say(do: str, message: str, wanted: tuple[str, ...], install: Install) -> None:
    with pytest.raises(DriverError) as caught:
        nvidia_smi.sample(install(do), wanted, 10.0)
    assert (str(caught.value), caught.value.hangs) == (message, False)


@pytest.fixture
def sampled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], gpu_record.GpuRecord]:
    """Return what the sampler has recorded when it stops by itself, and how often it asked."""
    monkeypatch.setattr(gpu_sampler, "_FIRST_SECONDS", 0.0)
    monkeypatch.setattr(gpu_sampler, "_SECONDS", 0.0)
    monkeypatch.setattr(gpu_sampler, "_ANSWER_SECONDS", 60.0)

    def run(program: str) -> gpu_record.GpuRecord:
        gpu_sampler.sample_until_killed(program, ("0",), RunFolder(str(tmp_path)), "worker:0", "7.0")
        return gpu_record.read(RunFolder(str(tmp_path)))["worker:0"]

    return run


def test_a_lost_gpu_is_tried_three_times_in_a_row(
    install: Install, sampled: Callable[[str], gpu_record.GpuRecord], tmp_path: Path
) -> None:
    fails = f"n=$(wc -l < {tmp_path}/asked); [ $n = 2 ] && cat {tmp_path}/query || {{ echo 'GPU is lost'; exit 15; }}"
    record = sampled(install(fails))
    assert len((tmp_path / "asked").read_text().splitlines()) == 5
    assert record.problem == f"nvidia-smi on {os.uname().nodename}: it ended with exit code 15: GPU is lost"
    assert record.attempts[0].samples == 2


def test_one_that_hangs_is_tried_once(
    install: Install, sampled: Callable[[str], gpu_record.GpuRecord], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_sampler, "_ANSWER_SECONDS", 1.0)
    record = sampled(install("exec sleep 600"))
    assert record.problem.endswith(": it does not answer in 1 s")
    assert len((tmp_path / "asked").read_text().splitlines()) == 1


def open_files(pid: int) -> set[str]:
    with contextlib.suppress(FileNotFoundError):  # one that was closed meanwhile
        return {os.readlink(f"/proc/{pid}/fd/{number}") for number in os.listdir(f"/proc/{pid}/fd")}
    return set()


def environ(folder: Path, **more: str) -> dict[str, str]:
    return {env.RUN_FOLDER: str(folder), env.ATTEMPT: "7.0", **more}


def test_it_is_a_process_of_its_own_that_ends_with_the_program(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gpu_sampler, "_FIRST_SECONDS", 0.0)
    install(f"cat {tmp_path}/query")
    sampler = GpuSampler(Assignment("worker", 1, None, ("0", "1"), {}, (), cluster_flags=False), None)
    sampler.begin(environ(tmp_path, CUDA_VISIBLE_DEVICES="0,1"))
    try:
        pid, deadline = sampler._pid, time.monotonic() + 60
        # nothing of the agent's is open in it once it waits for the next sample
        while not gpu_record.read(RunFolder(str(tmp_path))) or open_files(pid) != {os.devnull}:
            assert time.monotonic() < deadline, open_files(pid)
            time.sleep(0.02)
        # what Slurm sends to a whole step does not end it
        ignored = int(Path(f"/proc/{pid}/status").read_text().partition("SigIgn:\t")[2].split()[0], 16)
        assert all(ignored >> (number - 1) & 1 for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP))
    finally:
        sampler.end()
    assert gone_within(30.0, [pid])
    state = gpu_record.read(RunFolder(str(tmp_path)))["worker:1"].samples[0]
    assert state.devices == nvidia_smi.parse(QUERY)


def test_nothing_runs_where_there_is_no_gpu_or_no_nvidia_smi(
    install: Install, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sampler = GpuSampler(Assignment("worker", 1, None, (), {}, (), cluster_flags=False), None)
    install("exit 1")
    sampler.begin(environ(tmp_path, CUDA_VISIBLE_DEVICES=""))
    sampler.begin(environ(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    sampler.begin(environ(tmp_path, CUDA_VISIBLE_DEVICES="0"))
    assert sampler._pid == 0
    sampler.end()


@pytest.mark.slow
def test_the_agent_samples_while_the_program_runs(
    install: Install, start_job: StartJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(f"cat {tmp_path}/query")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    wait = 'until ls "$SLURM_TF_RUN_FOLDER"/gpus/*.json; do sleep 0.2; done'
    job = start_job(wait, roles=(RoleSettings("worker", 1, gpus=2),), strategy="single")
    assert job.wait() == 0, job.text
    (use,) = gpu_record.read(job.run)["worker:0"].attempts
    assert (use.devices, use.samples, use.busy, use.memory_used) == (2, 2, 87, 31012)
    assert "--id=0,1" in (tmp_path / "asked").read_text()
