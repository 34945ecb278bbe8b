"""What the GPUs of tasks did, over attempts, in files that stay small."""

import os
from pathlib import Path

from slurm_tf.run import gpu_record
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.gpu_record import AttemptUse, GpuRecord, GpuSample, GpuState

A100 = "NVIDIA A100-SXM4-40GB"


def sample(at: float, *busy: int | None, used: int | None = 1000) -> GpuSample:
    return GpuSample(at, tuple(GpuState(A100, each, used, 40960) for each in busy))


def test_samples_add_up_for_each_attempt(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    gpu_record.add(folder, "worker:0", "7.0", sample(1.0, 80, 90))
    gpu_record.add(folder, "worker:0", "7.0", sample(2.0, 10, None, used=3000))
    gpu_record.add(folder, "worker:0", "7.1", sample(3.0, 50, used=None))
    # an attempt on a node that was cut off
    gpu_record.add(folder, "worker:0", "7.0", sample(4.0, 0))
    gpu_record.add(folder, "ps:12", "7.0", sample(1.0, None, used=None))
    found = gpu_record.read(folder)
    assert list(found) == ["ps:12", "worker:0"]
    first, last = found["worker:0"].attempts
    assert first == AttemptUse("7.1", 1, 1, 50, None, 40960)
    assert last == AttemptUse("7.0", 2, 4, 180, 3000, 40960)
    assert (gpu_record.mean_busy([last]), gpu_record.mean_busy([first, last])) == (45.0, 46.0)
    assert gpu_record.mean_busy(found["ps:12"].attempts) is None
    assert found["worker:0"].samples == (sample(4.0, 0),)
    assert Path(gpu_record.path(folder, "ps:12")).stat().st_mode & 0o777 == 0o600


def test_the_file_stays_small_and_a_new_sample_ends_a_problem(tmp_path: Path) -> None:
    folder, record = RunFolder(str(tmp_path)), GpuRecord()
    for number in range(1000):
        record = record.with_sample(f"{number // 5}.0", sample(float(number), *range(8)))
    assert (len(record.attempts), len(record.samples)) == (100, 5)
    for number in range(1000):
        record = record.with_sample("200.0", sample(float(number), *range(8)))
    assert len(record.samples) == 20
    os.mkdir(folder.gpus)
    path = Path(gpu_record.path(folder, "worker:0"))
    gpu_record._write(folder, "worker:0", record)
    assert path.stat().st_size < 40_000
    gpu_record.stop(folder, "worker:0", "nvidia-smi on n1: it does not answer in 10 s")
    assert gpu_record.read(folder)["worker:0"].problem == "nvidia-smi on n1: it does not answer in 10 s"
    gpu_record.add(folder, "worker:0", "201.0", sample(1.0, 5))
    assert gpu_record.read(folder)["worker:0"].problem == ""


def test_what_cannot_be_used_is_left_out_and_written_anew(tmp_path: Path) -> None:
    folder = RunFolder(str(tmp_path))
    assert gpu_record.read(folder) == {}
    os.mkdir(folder.gpus)
    for name in ("worker-0.json", "worker-x.json", ".worker-1.json_temp", "notes"):
        Path(folder.gpus, name).write_text("{")
    assert gpu_record.read(folder) == {}
    gpu_record.add(folder, "worker:0", "7.0", sample(1.0, 5))
    assert list(gpu_record.read(folder)) == ["worker:0"]
