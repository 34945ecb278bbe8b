"""The jobs around a training: TensorBoard beside it, and an evaluation of its model."""

from pathlib import Path

import pytest

from tests.jobs.conftest import JOBS, RunJob

pytestmark = pytest.mark.tensorflow


def test_a_run_that_tensorboard_shows_is_evaluated(run_forked: RunJob, tmp_path: Path) -> None:
    trained = run_forked(str(JOBS / "cnn_tensorboard.toml"), "epochs=1", "--set", "roles.worker.count=1")
    assert trained.wait() == 0, trained.text
    run = tmp_path / "runs" / "cnn-tensorboard-1"
    for part in ("train", "validation"):
        (events,) = (run / "tensorboard" / part).iterdir()
        assert b"epoch_accuracy" in events.read_bytes()
    ((loss, accuracy),) = trained.find(r"test loss ([\d.]+), test accuracy ([\d.]+)$")

    evaluated = run_forked(str(JOBS / "cnn_evaluate.toml"), f"run={run}")
    assert evaluated.wait() == 0, evaluated.text
    assert evaluated.find(r"step (\d+)  test_accuracy ([\d.]+)  test_loss ([\d.]+)$") == [("23", accuracy, loss[:-2])]
    right = [int(number) for number in evaluated.find(r"digit \d: (\d+) of \d+ are right$")]
    assert f"{sum(right) / 360:.4f}" == accuracy
    assert len(right) == 10
