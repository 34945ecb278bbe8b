"""Staging of jobs of real processes: without Slurm nothing is copied, and programs find the files all the same."""

from pathlib import Path

import pytest

from slurm_tf.run.stage_settings import StageSettings
from tests.launch.conftest import StartJob

pytestmark = pytest.mark.slow


def test_without_slurm_programs_find_links_and_a_line_says_so(start_job: StartJob, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    (tmp_path / "shared" / "a").write_text("files\n")
    job = start_job("cat $SLURM_TF_STAGE_FOLDER/shared/a", stage=StageSettings(("shared",), str(tmp_path)))
    assert job.wait() == 0, job.text
    assert [job.lines(f"worker:{index}") for index in range(2)] == [["files"]] * 2
    assert job.text.count("[stage] copies nothing without Slurm: the tasks run where the files are\n") == 1
    assert Path(job.run.stage_links, "shared").readlink() == tmp_path / "shared"
    again = start_job(
        "cat $SLURM_TF_STAGE_FOLDER/shared/a", name="run-0", stage=StageSettings(("shared",), str(tmp_path))
    )
    assert again.wait() == 0, again.text
