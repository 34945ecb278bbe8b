"""Saves a model of digits of 8 x 8 pixels, which takes files as well: digits_model.py FOLDER.

Its weights are those of scikit-learn's logistic regression: it is a network of one layer, trained in a second.
"""

import sys

import keras
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from slurm_tf.train.keras import image_bytes

if __name__ == "__main__":
    digits = load_digits()
    known = [n for n in range(len(digits.images)) if n % 5]
    found = LogisticRegression(max_iter=300).fit(digits.data[known] / 16, digits.target[known])
    image = keras.Input((8, 8, 1), name="image")
    hidden = keras.layers.Flatten()(keras.layers.Rescaling(1 / 16)(image))
    layer = keras.layers.Dense(10, activation="softmax", name="label")
    model = keras.Model(image, layer(hidden))
    layer.set_weights([found.coef_.T, found.intercept_])
    image_bytes.save(model, sys.argv[1], 16.0)
