"""[train] of a job file: accumulation, precision and reduction, without a change of the program."""

import re
from pathlib import Path

import pytest

from tests.jobs.conftest import RunJob
from tests.jobs.test_programs import OWN_LOOP, write

pytestmark = pytest.mark.tensorflow

PROGRAM = """
import numpy as np, keras, tensorflow as tf, sys
options = tf.distribute.experimental.CommunicationOptions
def printed_options(**more):
    print("reduces by", more["bytes_per_pack"], more["implementation"].name)
    return options(**more)
tf.distribute.experimental.CommunicationOptions = printed_options
import slurm_tf.train as train
run = train.init()
x = np.random.default_rng(0).normal(size=(48, 4)).astype("f")
y = (x.sum(1, keepdims=True) > 0).astype("f")
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(8, "tanh"), keras.layers.Dense(1, dtype="float32")])
model.compile(keras.optimizers.SGD(0.1, momentum=0.9), "mse")
model.fit(run.batches((x, y), batch_size=int(sys.argv[1])), epochs=3, callbacks=run.callbacks(model), verbose=0)
values = [float(value) for variable in model.trainable_variables for value in np.ravel(variable)]
print("computes in", model.layers[0].compute_dtype, type(model.optimizer).__name__, model.variables[0].dtype)
print("variables", values)
"""


def trained(run_forked: RunJob, tmp_path: Path, batch_size: int, *options: str) -> tuple[list[float], str]:
    path = write(tmp_path, PROGRAM, "multi_worker", "count = 2")
    command = f'command=["python", "program.py", "{batch_size}"]'
    job = run_forked(path, "--set", command, *[word for option in options for word in ("--set", option)])
    assert job.wait() == 0, job.text
    first, second = job.find(r"variables \[(.*)\]")
    assert first == second
    return [float(value) for value in first.split(", ")], job.text


@pytest.mark.long  # with mixed precision, below, two halves are accumulated as well
def test_two_half_batches_accumulated_are_one_batch(run_forked: RunJob, tmp_path: Path) -> None:
    whole, text = trained(run_forked, tmp_path, 16)
    assert len(re.findall(r"reduces by 2097152 RING", text)) == 2
    halves, _ = trained(run_forked, tmp_path, 8, "train.accumulate=2")
    assert halves == pytest.approx(whole, abs=1e-6)
    small, _ = trained(run_forked, tmp_path, 8)
    assert small != pytest.approx(whole, abs=1e-3)


@pytest.mark.parametrize(
    ("precision", "optimizer"),
    [("float16", "LossScaleOptimizer"), pytest.param("bfloat16", "SGD", marks=pytest.mark.long)],
)
def test_mixed_precision_with_accumulation_and_another_reduction(
    precision: str, optimizer: str, run_forked: RunJob, tmp_path: Path
) -> None:
    options = [f"train.mixed-precision={precision}", "train.accumulate=2", "train.bytes-per-pack=0"]
    _, text = trained(run_forked, tmp_path, 8, *options, "train.collective=ring")
    assert len(re.findall(rf"computes in {precision} {optimizer} float32", text)) == 2
    assert len(re.findall(r"reduces by 0 RING", text)) == 2


SPLIT = """
import numpy as np, tensorflow as tf
all_reduce = tf.distribute.ReplicaContext.all_reduce
def printed_all_reduce(context, how, tensors, *rest, **more):
    print("reduces", how, max(tensor.dtype.size * tensor.shape.num_elements() for tensor in tensors), len(tensors))
    return all_reduce(context, how, tensors, *rest, **more)
tf.distribute.ReplicaContext.all_reduce = printed_all_reduce
import slurm_tf.train as train
run = train.init()
shapes = [(), (0,), (64,), (65,), (5, 7, 11), (1,)]
def values_of(rank):
    rng = np.random.default_rng(rank)
    return [rng.integers(-99, 99, shape).astype(kind) for shape in shapes for kind in ("float32", "float64")]
means = [np.mean([values_of(rank)[index] for rank in range(run.size)], 0) for index in range(2 * len(shapes))]
where = {
    "a graph": tf.function(lambda: run.mean(values_of(run.rank))),
    "eager mode": lambda: run.mean(values_of(run.rank)),
    "a replica": tf.function(lambda: run.strategy.run(lambda: run.mean(values_of(run.rank)))),
}
for name, mean in where.items():
    found = mean()
    assert [each.shape for each in found] == [each.shape for each in means]
    np.testing.assert_allclose(np.concatenate([np.ravel(each) for each in found]),
                               np.concatenate([np.ravel(each) for each in means]), rtol=1e-6)
    print("equal in", name)
"""


@pytest.mark.long
@pytest.mark.parametrize(("pack", "largest"), [(64, 256), (0, 3080)])
def test_a_tensor_of_many_packs_is_split_and_joined(
    pack: int, largest: int, run_forked: RunJob, tmp_path: Path
) -> None:
    path = write(tmp_path, SPLIT, "multi_worker", "count = 2")
    job = run_forked(path, "--set", f"train.bytes-per-pack={pack}")
    assert job.wait() == 0, job.text
    for where in ("a graph", "eager mode", "a replica"):
        assert len(job.find(rf"equal in {where}$")) == 2, job.text
    assert max(int(size) for size, _ in job.find(r"reduces MEAN (\d+) (\d+)$")) == largest


def test_accumulate_is_refused_with_a_loop_of_its_own(run_forked: RunJob, tmp_path: Path) -> None:
    job = run_forked(write(tmp_path, OWN_LOOP, "single"), "--set", "train.accumulate=2")
    assert job.wait() == 1
    assert job.find(r"found train.accumulate=2 and run.loop"), job.text
