"""A small convolutional network on scikit-learn's digits, which the job's data workers turn and move at random."""

import argparse

import keras
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import slurm_tf.train as train

parser = argparse.ArgumentParser()
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch-size", type=int, default=64, help="samples in a global batch")
parser.add_argument("--learning-rate", type=float, default=0.02)
options = parser.parse_args()

run = train.init()
keras.utils.set_random_seed(run.rank)  # other variables in every worker: training starts from those of rank 0

digits = load_digits()
images = (digits.images / 16.0).astype("float32")[..., np.newaxis]
x, x_test, y, y_test = train_test_split(images, digits.target, test_size=360, random_state=0)
samples = len(x) // run.size  # of each worker: all of them have equally many steps


def turn_and_move(image, label):
    """Return the image as if somebody had written the digit a little askew."""
    angle, by_x, by_y = (tf.random.uniform([], -bound, bound) for bound in (0.2, 0.5, 0.5))
    row_x, row_y = [tf.cos(angle), -tf.sin(angle), by_x], [tf.sin(angle), tf.cos(angle), by_y]
    turned = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[tf.newaxis],
        transforms=[[*row_x, *row_y, 0.0, 0.0]],
        output_shape=[8, 8],
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="CONSTANT",
    )
    return turned[0], label


def make(context):
    """Return this worker's part of the images, as data workers are to compute them."""
    mine = np.arange(context.input_pipeline_id, len(x), context.num_input_pipelines)[:samples]
    data = tf.data.Dataset.from_tensor_slices((x[mine], y[mine])).shuffle(samples)
    return data.map(turn_and_move, num_parallel_calls=tf.data.AUTOTUNE).batch(16)


with run.scope():
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            keras.layers.Conv2D(16, 3, padding="same", activation="gelu"),
            keras.layers.Conv2D(32, 3, padding="same", activation="gelu"),
            keras.layers.Flatten(),
            keras.layers.Dense(10, activation="softmax"),
        ]
    )
    optimizer = keras.optimizers.SGD(options.learning_rate, momentum=0.9)
    model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])

part = options.batch_size // run.size
data = run.distribute(run.dataset(make)).rebatch(part)
# the length of an epoch, which TensorFlow does not know of data that others compute
data = data.apply(tf.data.experimental.assert_cardinality(-(-samples // part)))
callbacks = run.callbacks(model)
model.fit(data, epochs=options.epochs, validation_data=(x_test, y_test), callbacks=callbacks, verbose=0)

loss, accuracy = model.evaluate(x_test, y_test, verbose=0)
print(f"rank {run.rank}: test loss {loss:.6f}, test accuracy {accuracy:.4f}")
model.save(run.model_path())
