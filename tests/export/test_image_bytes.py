"""A model of images that is exported with max_pixel takes files as well, and refuses what is none or too large."""

import importlib
import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from slurm_tf.errors import ModelError
from slurm_tf.models import model_versions
from slurm_tf.models.model_manifest import TensorSpec
from tests import tf_keras
from tests.export.test_exporter import export

pytestmark = [pytest.mark.tensorflow, pytest.mark.slow]

_START = b"\x89PNG\r\n\x1a\n"


def saved(folder: Path, shape: tuple[int, ...] = (8, 8, 1), max_pixel: float = 16.0, library: str = "keras") -> Path:
    """Save a model that answers with the pixels that it gets."""
    from slurm_tf.train.keras import image_bytes

    keras = importlib.import_module(library)
    given = keras.Input(shape, name="image")
    image_bytes.save(keras.Model(given, keras.layers.Flatten()(given)), str(folder), max_pixel)
    return folder


def signature(folder: Path) -> Any:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(folder))
    call = loaded.signatures["image_bytes"]

    def answer(*files: bytes) -> "np.ndarray[Any, Any]":
        """Return the pixels that the model gets of files."""
        return np.asarray(call(image_bytes=tf.constant(files))["output_0"])

    answer.kept = loaded  # type: ignore[attr-defined]
    return answer


def file(image: Image.Image, form: str = "PNG") -> bytes:
    content = io.BytesIO()
    image.save(content, form)
    return content.getvalue()


def digit(size: int = 8) -> Image.Image:
    values = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    return Image.fromarray(values).resize((size, size), Image.Resampling.NEAREST)


@pytest.mark.parametrize("library", ["keras", "tf_keras"])
def test_files_become_the_pixels_that_the_model_takes(library: str, tmp_path: Path, python: str) -> None:
    if library == "tf_keras":
        tf_keras.require()
    answer = signature(saved(tmp_path / "saved", library=library))
    wanted = np.arange(64) * 4 * 16 / 255
    rgba = digit().convert("RGBA")
    given = answer(file(digit()), file(digit().convert("RGB")), file(rgba))
    assert np.allclose(given, [wanted] * 3, atol=0.1)
    large = answer(file(digit(400)), file(digit(400), "JPEG"))
    assert np.allclose(large, [wanted] * 2, atol=0.6)
    # as the check of an export makes up a file
    exported = export(tmp_path / "saved", tmp_path / "m", python)
    assert exported.rejected == ""
    manifest = model_versions.find(str(tmp_path / "m")).manifest
    assert manifest
    assert manifest.signatures["image_bytes"].inputs == {"image_bytes": TensorSpec("string", (None,))}
    assert manifest.signatures["serving_default"].inputs == {"image": TensorSpec("float32", (None, 8, 8, 1))}


def test_what_is_no_image_or_too_large_is_refused_and_harms_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import tensorflow as tf

    from slurm_tf.train.keras import image_bytes

    monkeypatch.setattr(image_bytes, "_MOST_PIXELS", 100)
    answer = signature(saved(tmp_path, (8, 8, 3), 255.0))
    assert answer(file(digit(10))).shape == (1, 192)
    whole = file(digit())
    endless = whole[:16] + b"\xff" * 8 + whole[24:]
    for large in (file(digit(11)), file(digit(11), "JPEG"), endless):
        with pytest.raises(tf.errors.InvalidArgumentError, match="more than 100 pixels"):
            answer(large)
    no_images = (b"", b"hello", _START, whole[:60], file(digit(), "GIF"), file(digit(), "BMP"), b"<svg></svg>")
    for none in (*no_images, whole[:16] + bytes(8) + whole[24:], file(digit().convert("L"), "JPEG")[:50]):
        with pytest.raises(tf.errors.InvalidArgumentError):
            answer(none)
    assert answer(whole).shape == (1, 192)


@pytest.mark.parametrize(("shape", "inputs"), [((8,), 1), ((8, 8, 2), 1), ((None, 8, 1), 1), ((8, 8, 1), 2)])
def test_a_model_of_something_else_has_no_such_signature(shape: tuple[int, ...], inputs: int, tmp_path: Path) -> None:
    import keras

    from slurm_tf.train.keras import image_bytes

    given = [keras.Input(shape, name=f"x{n}") for n in range(inputs)]
    with pytest.raises(ModelError, match="needed one of images"):
        image_bytes.save(keras.Model(given, given), str(tmp_path), 1.0)
