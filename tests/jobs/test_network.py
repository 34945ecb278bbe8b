"""The standard networks of jobs/network.py on prepared data sets."""

from pathlib import Path

import pytest

from slurm_tf.models import model_versions
from tests.jobs.conftest import JOBS, RunJob
from tests.page.digits import write_digits, write_table

pytestmark = [pytest.mark.tensorflow, pytest.mark.timeout(900)]

# A large network is traced for minutes where other processes want the CPUs as well.
SECONDS = 840.0
JOB = str(JOBS / "network.toml")


@pytest.mark.long  # tests/cluster/test_page.py has a person start it
def test_a_small_cnn_learns_digits_and_is_exported(run_forked: RunJob, tmp_path: Path) -> None:
    data = write_digits(tmp_path / "digits")
    every = ("--set", "export.every='0:00:00'")
    job = run_forked(JOB, f"data={data}", "epochs=4", "learning-rate=0.01", *every)
    assert job.wait(SECONDS) == 0, job.text
    ((accuracy,),) = [job.find(r"test accuracy ([\d.]+)")]
    assert float(accuracy) > 0.9
    ((path,),) = [job.find(r"exported (\S+)")]
    assert (Path(path) / "saved_model.pb").is_file()
    # those that fit exported after its epochs take files as well
    found = model_versions.versions(str(Path(path).parent))
    assert len(found) > 1
    assert [
        version.number for version in found if "image_bytes" not in getattr(version.manifest, "signatures", ())
    ] == []


@pytest.mark.long
def test_wide_and_deep_learns_what_a_table_has(run_forked: RunJob, tmp_path: Path) -> None:
    data = write_table(tmp_path / "table", 1200)
    job = run_forked(
        JOB, f"data={data}", "network=wide-and-deep", "target=clicked", "epochs=30", "learning-rate=0.01",
        "--set", "roles.worker.count=2",
    )  # fmt: skip
    assert job.wait(SECONDS) == 0, job.text
    assert min(map(float, job.find(r"test accuracy ([\d.]+)"))) > 0.9


@pytest.mark.long
@pytest.mark.parametrize("network", ["lenet", "cnn", "resnet50", "mobilenetv2", "efficientnetb0"])
def test_each_network_trains_on_files_of_images(run_forked: RunJob, tmp_path: Path, network: str) -> None:
    data = write_digits(tmp_path / "files", 100, as_files=True)
    job = run_forked(JOB, f"data={data}", f"network={network}", "epochs=1", "image-size=32", "batch-size=50")
    assert job.wait(SECONDS) == 0, job.text
    assert job.find(r"exported (\S+)")


@pytest.mark.long
@pytest.mark.parametrize("network", ["resnet50", "mobilenetv2", "efficientnetb0", "mlp"])
def test_each_network_trains_on_numbers(run_forked: RunJob, tmp_path: Path, network: str) -> None:
    if network == "mlp":
        values = (f"data={write_table(tmp_path / 'table')}", "target=income")
    else:
        values = (f"data={write_digits(tmp_path / 'digits', 100)}", "batch-size=50")
    job = run_forked(JOB, *values, f"network={network}", "epochs=1")
    assert job.wait(SECONDS) == 0, job.text
    assert job.find(r"exported (\S+)")


def test_what_no_network_can_take_is_said(run_forked: RunJob, tmp_path: Path) -> None:
    data = write_table(tmp_path / "table", 20)
    job = run_forked(JOB, f"data={data}", "target=clicked")
    assert job.wait(SECONDS) == 1
    assert "found the features id, age, income, country, clicked; needed pixels" in job.text
