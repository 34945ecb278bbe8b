"""ResNet-20 on CIFAR-10, read from the data set's own binary files.

Network, augmentation and schedule are those of He et al., "Deep Residual Learning for Image Recognition" (2015,
arXiv:1512.03385), section 4.2.
"""

import argparse
import os
import sys

import keras
import numpy as np
import tensorflow as tf

import slurm_tf.train as train

TRAINING = [f"data_batch_{number}.bin" for number in range(1, 6)]
TEST = ["test_batch.bin"]
SOURCE = "cifar-10-binary.tar.gz of https://www.cs.toronto.edu/~kriz/cifar.html"
# the label, then the red, the green and the blue values of an image, row by row
RECORD = 1 + 3 * 32 * 32


def check_files(folder):
    """Exit unless the six files are there, of whole records, and all of one size, as those of the data set are."""
    paths = [os.path.join(folder, name) for name in TRAINING + TEST]
    missing = [path for path in paths if not os.path.isfile(path)]
    if missing:
        sys.exit(f"found no {', '.join(missing)}; needed the folder of the files of {SOURCE}: data=FOLDER")
    sizes = [os.path.getsize(path) for path in paths]
    for path, size in zip(paths, sizes):
        if size == 0 or size % RECORD or size < max(sizes):
            sys.exit(
                f"{path} is truncated: found {size} bytes; needed whole records of {RECORD} bytes, as many as in the "
                f"other files; copy it again from {SOURCE}"
            )


def read(folder, names):
    """Return the images of these files as bytes, (number, row, column, colour), and their labels."""
    records = []
    for name in names:
        records.append(np.fromfile(os.path.join(folder, name), np.uint8).reshape(-1, RECORD))
        highest = records[-1][:, 0].max()
        if highest > 9:
            sys.exit(f"found the label {highest} in {os.path.join(folder, name)}; needed 0 to 9: it is not CIFAR-10")
    data = np.concatenate(records)
    return data[:, 1:].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1), data[:, 0]


@keras.saving.register_keras_serializable("cifar10")
class RandomCropAndFlip(keras.layers.Layer):
    """In training, pads each image with 4 pixels on each side, crops it at random, and flips one of two."""

    def __init__(self, **more):
        super().__init__(**more)
        self.generator = keras.random.SeedGenerator()  # saved in checkpoints: a resumed run crops as an unbroken one

    def call(self, images, training=False):
        if not training:
            return images
        row, column, flip = [
            keras.random.randint([tf.shape(images)[0], 1], 0, values, seed=self.generator) for values in (9, 9, 2)
        ]
        rows, columns = row + tf.range(32), column + tf.range(32)
        columns = tf.where(flip == 1, columns[:, ::-1], columns)
        padded = tf.pad(images, [[0, 0], [4, 4], [4, 4], [0, 0]])
        return tf.gather(tf.gather(padded, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1)


def convolution(x, filters, strides=1):
    x = keras.layers.Conv2D(
        filters, 3, strides, padding="same", use_bias=False, kernel_initializer="he_normal",
        kernel_regularizer=keras.regularizers.L2(0.0001 / 2),  # Keras' L2 is not halved, weight decay is
    )(x)  # fmt: skip
    return keras.layers.BatchNormalization(momentum=0.9, synchronized=True)(x)


def residual_block(x, filters, strides):
    y = keras.layers.ReLU()(convolution(x, filters, strides))
    y = convolution(y, filters)
    if strides > 1:  # the identity of every second pixel, with zeros for the new channels: option A of the paper
        x = keras.layers.AveragePooling2D(1, strides)(x)
        x = keras.ops.pad(x, [[0, 0], [0, 0], [0, 0], [filters // 4, filters // 4]])
    return keras.layers.ReLU()(x + y)


def resnet(depth, mean):
    inputs = keras.Input((32, 32, 3))
    x = keras.layers.Rescaling(1 / 255, offset=-mean / 255)(inputs)  # less the mean of each pixel
    x = RandomCropAndFlip()(x)
    x = keras.layers.ReLU()(convolution(x, 16))
    for filters in (16, 32, 64):
        for block in range((depth - 2) // 6):
            x = residual_block(x, filters, strides=2 if filters > 16 and block == 0 else 1)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(10, "softmax", kernel_initializer="he_normal")(x))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True, help="folder of data_batch_1.bin to data_batch_5.bin, test_batch.bin")
    parser.add_argument("--depth", type=int, default=20, help="layers, 6n + 2")
    parser.add_argument("--epochs", type=int, default=164)
    parser.add_argument("--batch-size", type=int, default=128, help="images in a global batch")
    parser.add_argument("--learning-rate", type=float, default=0.1)
    options = parser.parse_args()
    if options.depth % 6 != 2:
        parser.error(f"found --depth={options.depth}; needed 6n + 2, such as 20 or 56")

    check_files(options.data)
    run = train.init()
    keras.utils.set_random_seed(run.rank)  # each worker crops in its own way; training starts from rank 0's variables
    x, y = read(options.data, TRAINING)
    x_test, y_test = read(options.data, TEST)

    steps = options.epochs * -(-len(x) // options.batch_size)
    rates = [options.learning_rate * factor for factor in (1, 0.1, 0.01)]
    with run.scope():
        model = resnet(options.depth, x.mean(axis=0))
        schedule = keras.optimizers.schedules.PiecewiseConstantDecay([steps // 2, steps * 3 // 4], rates)
        model.compile(
            keras.optimizers.SGD(schedule, momentum=0.9), "sparse_categorical_crossentropy", metrics=["accuracy"]
        )

    data = run.batches((x, y), batch_size=options.batch_size)
    model.fit(
        data, epochs=options.epochs, validation_data=(x_test, y_test), validation_batch_size=500,
        callbacks=run.callbacks(model), verbose=0,
    )  # fmt: skip
    _, accuracy = model.evaluate(x_test, y_test, batch_size=500, verbose=0)
    print(f"test accuracy {accuracy:.4f} on {len(y_test)} images")
    model.save(run.model_path())


if __name__ == "__main__":
    main()
