"""Saves a model of images with a second signature, which takes files of PNG or JPEG.

What a program, a browser or a telephone has is a file. It is decoded, scaled to the size that the model takes, and its
pixels to the values, inside of the SavedModel: wherever that is served, a client needs no library for images.
"""

import inspect
from typing import Any

import tensorflow as tf

from slurm_tf.errors import ModelError
from slurm_tf.models.model_manifest import IMAGE_BYTES
from slurm_tf.train.autograph import without_autograph
from slurm_tf.train.keras.fit import library_of

# Decoded and scaled as floats an image of so many pixels takes 250 MB; a small file can decode to any size.
_MOST_PIXELS = 1 << 24
_PNG = b"\x89PNG\r\n\x1a\n"
# Where a PNG has its width and height, 4 bytes each (RFC 2083, 3.2 and 4.1.1).
_SIZE_AT, _SIZE_BYTES = 16, 8


def save(model: Any, folder: str, max_pixel: float) -> None:
    """Write a SavedModel of a Keras model whose only input is images; white is `max_pixel` there. Raises ModelError."""
    signature = _input(model)
    _, height, width, channels = signature.shape

    def of_pixels(images: Any) -> Any:
        return model(images, training=False)

    def of_files(image_bytes: Any) -> Any:
        shape = tf.TensorSpec((height, width, channels), tf.float32)
        pixels = tf.map_fn(lambda file: _decoded(file, shape.shape), image_bytes, fn_output_signature=shape)
        return of_pixels(tf.cast(pixels * (max_pixel / 255.0), signature.dtype))

    # of tf.saved_model.save a Keras 3 model has no values in a session, as model servers have one
    archive = library_of(model).export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", without_autograph(of_pixels), [signature])
    files = tf.TensorSpec([None], tf.string, name=IMAGE_BYTES)
    archive.add_endpoint(IMAGE_BYTES, without_autograph(of_files), [files])
    quiet = {"verbose": False} if "verbose" in inspect.signature(archive.write_out).parameters else {}
    archive.write_out(folder, **quiet)


def check(model: Any) -> None:
    """Raise ModelError if a model cannot be saved so."""
    _input(model)


def _input(model: Any) -> Any:
    """Return the tf.TensorSpec of the only input of a model, which is images of one size. Raises ModelError."""
    inputs = getattr(model, "inputs", None) or []
    shapes = [tuple(each.shape) for each in inputs]
    if len(inputs) != 1 or len(shapes[0]) != 4 or None in shapes[0][1:] or shapes[0][3] not in (1, 3):
        needed = "one of images: rows x columns x channels, of 1 or 3 channels"
        raise ModelError(f"found a model with inputs of the shapes {shapes}", needed, "export it without max_pixel")
    name = inputs[0].name.partition(":")[0]
    return tf.TensorSpec((None, *shapes[0][1:]), inputs[0].dtype, name=name)


def _decoded(file: Any, shape: Any) -> Any:
    """Return the pixels of a file as floats from 0 to 255, in a shape."""
    is_png = tf.strings.substr(file, 0, len(_PNG)) == _PNG
    size = tf.cond(is_png, lambda: _png_size(file), lambda: _jpeg_size(file))
    message = f"the image has more than {_MOST_PIXELS} pixels"
    count = tf.reduce_prod(tf.cast(size, tf.float64))  # of integers it could be larger than the largest
    with tf.control_dependencies(
        [tf.debugging.assert_less_equal(count, tf.constant(_MOST_PIXELS, tf.float64), message)]
    ):
        pixels = tf.io.decode_image(tf.identity(file), channels=shape[2], expand_animations=False)
    # what is made smaller is blurred first, so that no thin line is lost
    return tf.ensure_shape(tf.image.resize(pixels, shape[:2], antialias=True), shape)


def _png_size(file: Any) -> Any:
    # filled up, as a part that a file has not is an error whose text has the file's bytes
    head = tf.strings.join([tf.strings.substr(file, 0, _SIZE_AT + _SIZE_BYTES), bytes(_SIZE_AT + _SIZE_BYTES)])
    digits = tf.cast(tf.io.decode_raw(tf.strings.substr(head, _SIZE_AT, _SIZE_BYTES), tf.uint8), tf.int64)
    return tf.reduce_sum(tf.reshape(digits, (2, 4)) * tf.constant([1 << 24, 1 << 16, 1 << 8, 1], tf.int64), axis=1)


def _jpeg_size(file: Any) -> Any:
    return tf.io.extract_jpeg_shape(file, tf.int64)[:2]
