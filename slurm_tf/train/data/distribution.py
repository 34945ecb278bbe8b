"""Has the data workers of a tf.data service compute the elements of a data set, each exactly once.

TensorFlow divides the elements of the data set's source among the data workers as they ask for them (DYNAMIC). Nothing
is lost or repeated by that if each element of the result comes from one element of the source: so batches may be made,
but none dropped, and nothing may count elements (take, skip, shard). A data worker that ends takes with it what it had
read and not delivered, while its consumers go on, or wait for it (TensorFlow 2.21). So the end of a pass asks the data
workers whether they are there, all and without a restart; the launcher restarts none of them alone.
"""

import re
from typing import Any, List, Optional

import tensorflow as tf
from tensorflow.core.framework import graph_pb2, node_def_pb2

from slurm_tf.errors import DataServiceError, UsageError
from slurm_tf.run.settings import DATA_WORKER
from slurm_tf.train.agent_connection import AgentConnection
from slurm_tf.train.autograph import without_autograph
from slurm_tf.train.train_log import log

# Operations of data sets that may be divided, without their versions. What is inside of the functions of a FlatMap or
# Interleave belongs to one element of the source, and may be anything.
_SOURCES = ("RangeDataset", "TensorDataset", "TensorSliceDataset")
_EACH_ELEMENT = (
    "FilterDataset", "FlatMapDataset", "InterleaveDataset", "MapDataset", "OptionsDataset", "ParallelFilterDataset",
    "ParallelInterleaveDataset", "ParallelMapDataset", "PrefetchDataset", "ShuffleDataset", "UnbatchDataset",
)  # fmt: skip
_BATCHES = ("BatchDataset", "PaddedBatchDataset", "ParallelBatchDataset")
_HINTS = {
    "ShardDataset": "slice the source in Python: files[context.input_pipeline_id :: context.num_input_pipelines]",
    "RepeatDataset": "a pass that has ended is begun anew: leave repeat out",
    "TakeDataset": "take from the source, in Python, or after run.distribute",
    "SkipDataset": "skip in the source, in Python, or after run.distribute",
    "CacheDataset": "cache after run.distribute",
    "TFRecordDataset": "tf.data.Dataset.from_tensor_slices(files).interleave(tf.data.TFRecordDataset)",
}
_PYTHON = ("EagerPyFunc", "PyFunc", "PyFuncStateless", "GeneratorDataset")
_VERSION = re.compile(r"V\d+$", re.ASCII)


def distribute(
    dataset: tf.data.Dataset, dispatcher: str, workers: int, agent: Optional[AgentConnection]
) -> tf.data.Dataset:
    """Return the data set that has the elements of `dataset`, for one pass, in any order.

    `dispatcher`: the address of the tf.data service, which has so many `workers`; "" for none. Raises UsageError for a
    data set that cannot be divided without a loss.
    """
    if not dispatcher:
        needed = "[roles.data-dispatcher] and [roles.data-worker] in the job file"
        raise UsageError("found run.distribute in a job without a tf.data service", needed)
    keeps_number = _check(dataset)
    number = int(dataset.cardinality())
    if number == tf.data.INFINITE_CARDINALITY:
        raise UsageError("found a data set without end", "one that ends: a pass that has ended is begun anew")
    service = tf.data.experimental.service
    policy = service.ShardingPolicy.DYNAMIC
    # without a job_name each pass is a job of its own, of this task alone
    made = dataset.apply(service.distribute(processing_mode=policy, service=f"grpc://{dispatcher}"))
    made = made.concatenate(_check_of_workers(made, workers, agent))
    if keeps_number and number >= 0:
        made = made.apply(tf.data.experimental.assert_cardinality(number))
    return made.prefetch(tf.data.AUTOTUNE)


def _check_of_workers(made: tf.data.Dataset, workers: int, agent: Optional[AgentConnection]) -> tf.data.Dataset:
    """Return a data set without elements, which fails when it is read unless all data workers are there."""

    def count() -> "tf.Tensor":
        check_workers(agent, workers)
        return tf.constant(0, tf.int64)

    @without_autograph
    def none(_: tf.Tensor) -> tf.data.Dataset:
        asked = tf.py_function(count, [], tf.int64)
        asked.set_shape([])
        return made.take(asked)

    return tf.data.Dataset.from_tensors(0).flat_map(none)


def check_workers(agent: Optional[AgentConnection], workers: int) -> None:
    """Raise DataServiceError unless all data workers are there. One that was restarted has ended this program too.

    `agent`: None where no launcher is, which would know.
    """
    if agent is None:
        return
    answers = agent.request(DATA_WORKER, {})
    expected = [f"{DATA_WORKER}:{index}" for index in range(workers)]
    gone = [name for name in expected if name not in answers or answers[name] is not None]
    if gone:
        error = DataServiceError(
            f"{', '.join(gone)} ended during this pass over the data: what it had read and not delivered is lost",
            "all data workers until the end of a pass",
            "with max-restarts in the job file all programs start again from the last checkpoint",
        )
        log(str(error))
        raise error


def _check(dataset: tf.data.Dataset) -> bool:
    """Return whether each data worker's part has as many elements as it would have in one process.

    Raises UsageError for a data set that cannot be divided without a loss.
    """
    graph = _graph(dataset)
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    if any(node.op in _PYTHON for node in nodes):
        raise UsageError(
            "found Python code in the data set (tf.py_function, tf.numpy_function, from_generator, run.batches)",
            "TensorFlow's operations alone: data workers are other processes",
        )
    constants = {node.name: node for node in graph.node}
    batches = False
    for node in graph.node:
        kind = _VERSION.sub("", node.op)
        if kind in _BATCHES:
            _check_batches(node, constants)
            batches = True
        elif "Dataset" in kind and kind not in (*_SOURCES, *_EACH_ELEMENT, "DatasetToGraph"):
            raise UsageError(
                f"found {kind} in the data set, which would lose or repeat elements when it is divided",
                f"one of {', '.join(_names())} before run.distribute, and all else after it",
                _HINTS.get(kind, ""),
            )
    return not batches


def _check_batches(node: node_def_pb2.NodeDef, constants: "dict[str, node_def_pb2.NodeDef]") -> None:
    """Raise UsageError for batches of which each data worker would drop its last one."""
    named = [constants[name.partition(":")[0]] for name in node.input if name.partition(":")[0] in constants]
    flags = [each.attr["value"].tensor for each in named if each.op == "Const"]
    drops: List[Any] = [tf.make_ndarray(each) for each in flags if each.dtype == tf.bool.as_datatype_enum]
    if any(bool(each) for each in drops):
        raise UsageError(
            "found batch(..., drop_remainder=True): each data worker would drop its own last samples",
            "batch(...) without it before run.distribute",
            "run.distribute(dataset.batch(n)).rebatch(n, drop_remainder=True) drops those of the whole pass",
        )


def _graph(dataset: tf.data.Dataset) -> graph_pb2.GraphDef:
    """Return the operations that make the data set."""
    variant = tf.data.experimental.to_variant(dataset)
    ignores_state = 1  # of ExternalStatePolicy: POLICY_IGNORE
    serialized = tf.raw_ops.DatasetToGraphV2(input_dataset=variant, external_state_policy=ignores_state)
    return graph_pb2.GraphDef.FromString(serialized.numpy())


def _names() -> List[str]:
    """Return what may stand in a data set, as its methods are called."""
    return [
        "range", "from_tensors", "from_tensor_slices", "list_files", "interleave", "flat_map", "map", "filter",
        "shuffle", "batch", "padded_batch", "unbatch", "prefetch",
    ]  # fmt: skip
