"""Evaluates the model of a run of cnn.py on the test images of scikit-learn's digits."""

import argparse
import os
import sys

import keras
import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

import slurm_tf.train as train

parser = argparse.ArgumentParser()
parser.add_argument("--run", required=True, help="folder of the run")
options = parser.parse_args()

path = os.path.join(options.run, "export", "model.keras")
if not os.path.exists(path):
    sys.exit(f"found no {path}; needed the folder of a run that has saved its model: run=FOLDER")

run = train.init()
model = keras.models.load_model(path)

digits = load_digits()
images = (digits.images / 16.0).astype("float32")[..., np.newaxis]
_, x_test, _, y_test = train_test_split(images, digits.target, test_size=360, random_state=0)

metrics = model.evaluate(x_test, y_test, verbose=0, return_dict=True)
predicted = np.argmax(model.predict(x_test, verbose=0), axis=1)
for digit in range(10):
    of_digit = y_test == digit
    print(f"digit {digit}: {np.sum(predicted[of_digit] == digit)} of {np.sum(of_digit)} are right")
# with the step at which the model was saved: `slurm-tf results` compares evaluations with trainings
run.report(int(model.optimizer.iterations), **{f"test_{name}": value for name, value in metrics.items()})
