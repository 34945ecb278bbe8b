"""The params in TensorBoard's HParams, read by TensorBoard itself."""

from pathlib import Path

import pytest

pytestmark = pytest.mark.tensorflow


def test_tensorboard_reads_the_params(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.hparams import metadata

    from slurm_tf.train import hparams

    params = {"rate": 0.1, "epochs": 20, "bf16": True, "data": "/d ata/é" * 40}
    hparams.write(str(tmp_path), {"rate": 9.0})
    hparams.write(str(tmp_path), params)
    read = EventAccumulator(str(tmp_path)).Reload()
    content = read.SummaryMetadata(metadata.SESSION_START_INFO_TAG).plugin_data.content
    found = metadata.parse_session_start_info_plugin_data(content).hparams
    assert {name: getattr(value, value.WhichOneof("kind")) for name, value in found.items()} == params
    hparams.write(str(tmp_path / "gone"), params)
    assert f"slurm_tf.train: cannot write {tmp_path}/gone/{hparams.FILE}: " in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [hparams.FILE]
