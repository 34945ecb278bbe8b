"""Training on prepared data that is interrupted: each record once an epoch, and the bits of one that was left alone."""

from pathlib import Path

import pytest

from tests.jobs import prepared_training
from tests.jobs.conftest import RunJob

pytestmark = pytest.mark.tensorflow

EPOCHS = 4


@pytest.mark.parametrize(
    ("model", "loop", "shuffle"),
    [
        ("wide_and_deep", "fit", "records"),
        *(
            pytest.param(model, loop, shuffle, marks=pytest.mark.long)
            for model, loop, shuffle in (
                ("wide_and_deep", "own", "records"), ("cnn", "fit", "records"), ("cnn", "own", "blocks"),
                ("cnn", "fit", "blocks"),
            )
        ),
    ],
)  # fmt: skip
def test_an_interrupted_training_ends_with_the_same_bits(
    model: str, loop: str, shuffle: str, run_forked: RunJob, tmp_path: Path
) -> None:
    prepared_training.write_sources(tmp_path)
    data = prepared_training.prepare(tmp_path, model)
    job = prepared_training.job("multi_worker", model, loop, EPOCHS, f"--shuffle={shuffle}")
    (tmp_path / "whole.toml").write_text(job)
    (tmp_path / "slow.toml").write_text(job.replace('"--epochs', '"--pause=0.3", "--epochs'))
    whole = run_forked("whole.toml", "--name", "whole")
    assert whole.wait() == 0, whole.text
    interrupted = run_forked("slow.toml", "--name", "resumed")
    interrupted.wait_for(r"^\[worker:0\] step [89]$")
    interrupted.process.terminate()
    assert interrupted.wait() != 0
    resumed = run_forked("whole.toml", "--name", "resumed")
    assert resumed.wait() == 0, resumed.text
    bits = r"^\[worker:(\d)\] bits (\w+)"
    assert sorted(resumed.find(bits)) == sorted(whole.find(bits))
    firsts = {life.first for life in prepared_training.lives(tmp_path / "runs" / "resumed")}
    assert len(firsts) == 2
    assert 8 <= max(firsts) < 20
    for run in ("whole", "resumed"):
        prepared_training.check_once_an_epoch(tmp_path / "runs" / run, data, EPOCHS)
