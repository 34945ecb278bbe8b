"""A wide-and-deep classifier of the Wisconsin breast cancer data, on parameter servers.

The wide part is a linear model over crossed, bucketised measurements, which memorises. The deep part is a small network
over all measurements, which generalises (Cheng et al., 2016, arXiv:1606.07792).
"""

import argparse

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_breast_cancer
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import StandardScaler

import slurm_tf.train as train

BUCKETS = 8  # of each measurement that is crossed
WIDE = BUCKETS * BUCKETS
CROSSED = (20, 27)  # worst radius x worst concave points

parser = argparse.ArgumentParser()
parser.add_argument("--steps", type=int, default=600)
parser.add_argument("--batch-size", type=int, default=32)
parser.add_argument("--learning-rate", type=float, default=0.1)
parser.add_argument("--evaluator", action="store_true", help="leave the evaluation to the evaluator of the job")
options = parser.parse_args()

run = train.init()

cancer = load_breast_cancer()
x, x_test, y, y_test = train_test_split(
    cancer.data.astype("float32"),
    cancer.target.astype("float32"),
    test_size=0.25,
    random_state=0,
    stratify=cancer.target,
)
scaler = StandardScaler().fit(x)
x, x_test = scaler.transform(x).astype("float32"), scaler.transform(x_test).astype("float32")


class WideAndDeep(tf.Module):
    def __init__(self):
        normal = tf.random.stateless_normal
        self.wide = tf.Variable(tf.zeros([WIDE]), name="wide")
        self.hidden = tf.Variable(normal([x.shape[1], 32], [1, 1]) / x.shape[1] ** 0.5, name="hidden")
        self.hidden_bias = tf.Variable(tf.zeros([32]), name="hidden_bias")
        self.out = tf.Variable(normal([32], [1, 2]) / 32**0.5, name="out")
        self.bias = tf.Variable(0.0, name="bias")

    @tf.function(input_signature=[tf.TensorSpec([None, x.shape[1]], tf.float32)])
    def __call__(self, measurements):
        buckets = tf.cast(tf.clip_by_value(tf.floor(measurements * 2 + BUCKETS / 2), 0, BUCKETS - 1), tf.int32)
        cross = buckets[:, CROSSED[0]] * BUCKETS + buckets[:, CROSSED[1]]
        deep = tf.nn.relu(measurements @ self.hidden + self.hidden_bias)
        return tf.gather(self.wide, cross) + tf.linalg.matvec(deep, self.out) + self.bias


with run.scope():
    model = WideAndDeep()


def step(batch):
    measurements, labels, weight = batch
    with tf.GradientTape() as tape:
        losses = tf.nn.sigmoid_cross_entropy_with_logits(labels, model(measurements))
        loss = tf.reduce_mean(weight * losses)
    gradients = run.mean(tape.gradient(loss, model.trainable_variables))
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        variable.assign_sub(options.learning_rate * gradient)
    return {"loss": loss}


data = run.batches((x, y), batch_size=options.batch_size)
run.checkpoint(model=model)
for done, logs in run.loop(step, data, steps=options.steps, every=50):
    if run.role == "evaluator" or not options.evaluator:
        scores = model(tf.constant(x_test)).numpy()
        logs["accuracy"] = float(np.mean((scores > 0) == (y_test > 0.5)))
        logs["auc"] = float(roc_auc_score(y_test, scores))
    run.report(done, options.steps, **logs)

if run.is_chief:
    scores = model(tf.constant(x_test)).numpy()
    print(f"steps {run.step}, test accuracy {np.mean((scores > 0) == (y_test > 0.5)):.4f} on {len(y_test)} samples")
    path = run.export(model)
    print(f"SavedModel {path}")
