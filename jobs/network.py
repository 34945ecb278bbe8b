"""A standard network on a prepared data set: LeNet, a small CNN, ResNet-50, MobileNetV2 or EfficientNetB0 on images,
an MLP or wide-and-deep on a table.

The networks are those of keras.applications where it has them, without weights from elsewhere. What the model takes is
what the data set has: pixels and columns as they are stored, as scaling is a part of it.
"""

import argparse
import sys

import keras
import tensorflow as tf

import slurm_tf.train as train
from slurm_tf.dataset import dataset_manifest
from slurm_tf.dataset.schema import Kind

LEAST_SIZE = 32  # of the images that the networks of keras.applications take
MOST_CATEGORIES = 1000  # an integer with fewer values is a category
APPLICATIONS = {
    "resnet50": keras.applications.ResNet50,
    "mobilenetv2": keras.applications.MobileNetV2,
    "efficientnetb0": keras.applications.EfficientNetB0,
}
TABLES = ("mlp", "wide-and-deep")

parser = argparse.ArgumentParser()
parser.add_argument("--network", choices=["lenet", "cnn", *APPLICATIONS, *TABLES], required=True)
parser.add_argument("--data", required=True, help="the folder of a prepared data set")
parser.add_argument("--target", default="label", help="the feature to predict")
parser.add_argument("--epochs", type=int, default=10)
parser.add_argument("--batch-size", type=int, default=64, help="samples in a global batch")
parser.add_argument("--learning-rate", type=float, default=0.001)
parser.add_argument("--image-size", type=int, default=64, help="to which PNG and JPEG files are scaled")
options = parser.parse_args()


def refuse(found, needed):
    sys.exit(f"network.py: {options.data}: found {found}; needed {needed}")


manifest = dataset_manifest.read(options.data)
features = {feature.name: feature for feature in manifest.schema.features}
statistics = {each.name: each for each in manifest.statistics["train"]}
held_out = next((split.name for split in manifest.splits if split.name != "train"), None)
target = features.get(options.target)
if target is None or target.shape or target.kind is Kind.BYTES:
    refuse(f"the features {', '.join(features)}", f"a number named {options.target}, or another --target")
is_class = target.kind is Kind.INT64
if is_class and statistics[target.name].minimum < 0:
    refuse(f"classes from {statistics[target.name].minimum} on", "classes from 0 on")
outputs = int(statistics[target.name].maximum) + 1 if is_class else 1


# --- images ---


def image_feature():
    """Return the feature that is an image: PNG or JPEG files, or pixels in rows and columns."""
    for feature in features.values():
        if len(feature.shape) in (2, 3) or (feature.kind is Kind.BYTES and feature.name == "image"):
            return feature
    return refuse(
        f"the features {', '.join(features)}", "pixels of a shape such as (28, 28, 1), or files in a feature `image`"
    )


def image_sample(feature):
    """Return what makes (image, target) of a batch of features."""
    size = (options.image_size, options.image_size, 3)

    def decoded(file):
        image = tf.io.decode_image(file, channels=3, expand_animations=False)
        return tf.image.resize(image, size[:2], antialias=True)  # as the exported model does it

    def sample(row):
        if feature.kind is Kind.BYTES:
            return tf.map_fn(decoded, row[feature.name], fn_output_signature=tf.TensorSpec(size)), row[target.name]
        image = tf.cast(row[feature.name], tf.float32)
        return image if len(feature.shape) == 3 else image[..., tf.newaxis], row[target.name]

    return sample


def lenet(image):
    """LeNet-5 (LeCun et al., 1998), with padding, so that it takes small images as well."""
    for filters in (6, 16):
        image = keras.layers.Conv2D(filters, 5, padding="same", activation="tanh")(image)
        image = keras.layers.AveragePooling2D(2)(image)
    hidden = keras.layers.Flatten()(image)
    for units in (120, 84):
        hidden = keras.layers.Dense(units, activation="tanh")(hidden)
    return hidden


def cnn(image):
    for filters in (16, 32, 64):
        image = keras.layers.Conv2D(filters, 3, padding="same", use_bias=False)(image)
        image = keras.layers.BatchNormalization(momentum=0.9)(image)
        image = keras.layers.Activation("gelu")(image)
        image = keras.layers.MaxPooling2D()(image)
    return keras.layers.GlobalAveragePooling2D()(image)


def application(image):
    height, width, channels = image.shape[1:]
    if min(height, width) < LEAST_SIZE:
        height = width = LEAST_SIZE
        image = keras.layers.Resizing(height, width)(image)
    if options.network == "efficientnetb0":
        image = keras.layers.Rescaling(255.0)(image)  # it scales pixels from 0 to 255 by itself
    network = APPLICATIONS[options.network]
    return network(include_top=False, weights=None, input_shape=(height, width, channels), pooling="avg")(image)


def image_model():
    feature = image_feature()
    if feature.kind is Kind.BYTES:
        shape, most = (options.image_size, options.image_size, 3), 255.0
    else:
        shape, most = (feature.shape * 1 + (1,))[:3], max(statistics[feature.name].maximum, 1.0)
    image = keras.Input(shape, name=feature.name)
    build = {"lenet": lenet, "cnn": cnn}.get(options.network, application)
    hidden = build(keras.layers.Rescaling(1.0 / most)(image))
    return keras.Model(image, head(hidden)), image_sample(feature), most


# --- tables ---


def table_columns():
    """Return the features of one number but the target and the key: measurements, and categories with their number."""
    numbers = [
        feature for name, feature in features.items()
        if not feature.shape and not feature.is_sequence and feature.kind is not Kind.BYTES
        and name not in (target.name, *manifest.key)
    ]  # fmt: skip
    categories = {
        each.name: int(statistics[each.name].maximum) + 1 for each in numbers
        if each.kind is Kind.INT64 and (statistics[each.name].minimum or 0) >= 0
        and (statistics[each.name].maximum or 0) < MOST_CATEGORIES
    }  # fmt: skip
    return [each.name for each in numbers if each.name not in categories], categories


def scaled(name, column):
    """Return a measurement between 0 and 1, as far as it is in the range of train."""
    known = statistics[name]
    low, high = known.minimum or 0.0, known.maximum or 0.0
    return keras.layers.Rescaling(1.0 / ((high - low) or 1.0), -low / ((high - low) or 1.0))(column)


def table_model():
    measurements, categories = table_columns()
    if not measurements and not categories:
        refuse(f"the features {', '.join(features)}", "numbers beside the target and the key")
    inputs = {name: keras.Input((1,), name=name, dtype="float32") for name in measurements}
    inputs |= {name: keras.Input((1,), name=name, dtype="int64") for name in categories}
    numbers = [scaled(name, inputs[name]) for name in measurements]
    embedded = [
        keras.layers.Flatten()(keras.layers.Embedding(size, min(16, 1 + size // 2))(inputs[name]))
        for name, size in categories.items()
    ]
    hidden = joined(numbers + embedded)
    for units in (128, 64):
        hidden = keras.layers.Dense(units, activation="relu")(hidden)
    if options.network == "wide-and-deep":  # Cheng et al., 2016: what is memorised beside what generalises
        wide = [
            keras.layers.CategoryEncoding(size, output_mode="multi_hot")(inputs[name])
            for name, size in categories.items()
        ]
        hidden = keras.layers.Concatenate()([hidden, *numbers, *wide])

    def sample(row):
        return {name: row[name][:, tf.newaxis] for name in inputs}, row[target.name]

    return keras.Model(inputs, head(hidden)), sample, None


def joined(columns):
    return keras.layers.Concatenate()(columns) if len(columns) > 1 else columns[0]


# --- training ---


def head(hidden):
    return keras.layers.Dense(outputs, activation="softmax" if is_class else None, name=target.name)(hidden)


run = train.init()
keras.utils.set_random_seed(run.rank)  # training starts from the variables of rank 0
with run.scope():
    model, sample, max_pixel = table_model() if options.network in TABLES else image_model()
    loss, metrics = ("sparse_categorical_crossentropy", ["accuracy"]) if is_class else ("mse", ["mae"])
    model.compile(keras.optimizers.Adam(options.learning_rate), loss, metrics=metrics)

data = run.records(options.data, batch_size=options.batch_size, map=sample)
validation = run.validation_records(options.data, options.batch_size, held_out, map=sample) if held_out else None
callbacks = run.callbacks(model, max_pixel=max_pixel)  # as the last line, for what [export] every exports meanwhile
model.fit(data, epochs=options.epochs, validation_data=validation, callbacks=callbacks, verbose=0)

measured = model.evaluate(validation, return_dict=True, verbose=0) if validation is not None else {}
print(f"rank {run.rank}: " + ", ".join(f"{held_out} {name} {value:.4f}" for name, value in measured.items()))
path = run.export(model, max_pixel=max_pixel)  # only the chief has one; of images it takes files as well
if path:
    print(f"exported {path}")
