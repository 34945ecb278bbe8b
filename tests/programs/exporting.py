"""A line fitted by a loop of its own or by model.fit, and exported: every so often, and at the end."""

import argparse
import sys

import keras
import numpy as np
import tensorflow as tf

import slurm_tf.train as train

parser = argparse.ArgumentParser()
parser.add_argument("--loop", choices=("fit", "own"), default="own")
parser.add_argument("--steps", type=int, default=60)
parser.add_argument("--diverge", action="store_true", help="export a model that is worse than the last one")
options = parser.parse_args()

run = train.init()
keras.utils.set_random_seed(1)
x = np.linspace(-1, 1, 64, dtype="float32").reshape(-1, 1)
y = 3 * x + 1


class Line(tf.Module):  # type: ignore[misc]
    def __init__(self) -> None:
        self.weights = tf.Variable([0.0, 0.0])

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, "x")])  # type: ignore[untyped-decorator]
    def __call__(self, x: tf.Tensor) -> tf.Tensor:
        return x * self.weights[0] + self.weights[1]


def fit() -> None:
    with run.scope():
        model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
        model.compile(keras.optimizers.SGD(0.1), "mse")
    data = run.batches((x, y), batch_size=16)
    model.fit(data, epochs=options.steps // 4, callbacks=run.callbacks(model), verbose=0)
    print(f"exported {run.export(model)}")


def own_loop() -> None:
    model = Line()

    def step(batch: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        inputs, targets, _ = batch
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(inputs) - targets) ** 2)
        model.weights.assign_sub(0.1 * tape.gradient(loss, model.weights))
        return {"loss": loss}

    data = run.batches((x, y), batch_size=16)
    run.checkpoint(model=model)
    for done, logs in run.loop(step, data, steps=options.steps, every=10):
        run.report(done, options.steps, **logs)
        assert run.export(model) == ""
    if options.diverge:
        run.report(options.steps, options.steps, loss=1000.0)
    print(f"exported {run.export(model, check={'x': x})}")
    sys.exit(0)


{"fit": fit, "own": own_loop}[options.loop]()
