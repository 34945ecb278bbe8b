"""Warns of programs that are known to go wrong with what they use, before they start.

The program's source is read, not run (program_sources.py). A warning stops nothing.
"""

import json
import re
from typing import List, Mapping, Optional, Sequence

from slurm_tf.errors import SlurmTfError
from slurm_tf.launch.agent import program_sources
from slurm_tf.launch.agent.program_python import Ask
from slurm_tf.launch.agent.program_sources import Sources

_LEGACY = "TF_USE_LEGACY_KERAS"
_OPTIMIZERS = tuple(f"horovod.{room}.DistributedOptimizer" for room in ("keras", "tensorflow", "tensorflow.keras"))
# TensorFlow's strategies of several processes, under which Keras 3 cannot fit; each has an older name as well
_STRATEGIES = tuple(
    f"tensorflow.distribute.{room}{name}"
    for name in ("MultiWorkerMirroredStrategy", "ParameterServerStrategy")
    for room in ("", "experimental.")
)
_RESOLVER = "tensorflow.distribute.cluster_resolver.SlurmClusterResolver"
_KERAS = ("keras", "tensorflow.keras", "tf_keras")
_VERSION = "import importlib.metadata; print(importlib.metadata.version('keras'))"


def of_program(strategy: str, argv: Sequence[str], environ: Mapping[str, str], ask: Ask) -> List[str]:
    """Return the warnings for a program that is about to start with `environ` in this folder.

    `strategy`: the job's; `ask`: has the program's Python run some code (program_python.ask). Takes at most
    10 s, and raises nothing. A program with slurm_tf.train has none: it checks itself.
    """
    sources = program_sources.read(argv, (*_OPTIMIZERS, *_STRATEGIES, _RESOLVER), (*_KERAS, "slurm_tf.train"))
    if "slurm_tf.train" in sources.packages:
        return []
    if strategy == "horovod":
        found = [_optimizer(sources, environ, ask)]
    else:
        cluster = json.loads(environ.get("TF_CONFIG", "{}")).get("cluster", {})
        is_alone = sum(map(len, cluster.values())) < 2  # then Keras 3 fits, and there is one task for all GPUs
        found = [] if is_alone else [_fit(sources, environ, ask), _resolver(sources)]
    return [f"warning: {error}" for error in found if error]


def _optimizer(sources: Sources, environ: Mapping[str, str], ask: Ask) -> Optional[SlurmTfError]:
    """Return what is to be said of Horovod's DistributedOptimizer with Keras 3.

    Horovod 0.28.1 averages gradients in `compute_gradients` (horovod/_keras/__init__.py), which Keras 3 never calls:
    the gradients are not averaged and nothing is printed.
    """
    where = sources.first_use(_OPTIMIZERS)
    # horovod.tensorflow has one for optimizers of tf.compat.v1 too
    is_of_keras = any("keras" in name for name in sources.used if name in _OPTIMIZERS)
    has = _keras_3(sources, is_of_keras, environ, ask) if where else ""
    if not has:
        return None
    return SlurmTfError(
        f"{where} uses Horovod's DistributedOptimizer, and {has}: with Keras 3 it may average nothing and say nothing, "
        "so each rank trains a model of its own while its loss falls",
        "slurm_tf.train, which averages and checks",
        "or hvd.DistributedGradientTape, with tape.gradient(loss, [v.value for v in model.trainable_variables]), "
        f"or {_LEGACY}=1 with tf_keras; slurm-tf docs horovod has a program for each",
    )


def _fit(sources: Sources, environ: Mapping[str, str], ask: Ask) -> Optional[SlurmTfError]:
    """Return what is to be said of `model.fit` with Keras 3 under a strategy of several processes."""
    where = sources.first_use(_STRATEGIES)
    method = next((name for name in ("fit", "evaluate") if name in sources.called), "")
    has = _keras_3(sources, False, environ, ask) if where and method and "compile" in sources.called else ""
    if not has:
        return None
    name = next(name for name in sources.used if name in _STRATEGIES).rpartition(".")[2]
    return SlurmTfError(
        f"{sources.called[method]} calls {method}, {where} uses {name}, and {has}: Keras 3 cannot do both, and ends "
        'with an error such as "Attempt to convert a value (PerReplica: ...) with an unsupported type"',
        f"{_LEGACY}=1 in [env], with tf_keras",
        "or slurm_tf.train under strategy multi_worker, which fits models of Keras 3; slurm-tf docs train",
    )


def _resolver(sources: Sources) -> Optional[SlurmTfError]:
    """Return what is to be said of SlurmClusterResolver, which makes a cluster of its own (TensorFlow 2.21).

    It divides the GPUs that the task sees by the tasks of the node, and fails where that is 0; without GPUs it takes an
    empty CUDA_VISIBLE_DEVICES for one. It sorts nodes by name, whatever their order is, and its ports are fixed.
    """
    where = sources.first_use((_RESOLVER,))
    if not where:
        return None
    return SlurmTfError(
        f"{where} uses SlurmClusterResolver, which divides the GPUs of this task once more, takes ports that nobody "
        'has reserved, and orders roles and nodes by name: with several tasks on a node it ends with "range() arg 3 '
        'must not be zero"',
        "tf.distribute.cluster_resolver.TFConfigClusterResolver(), which reads the TF_CONFIG of this task",
        "slurm-tf docs launch has more",
    )


def _keras_3(sources: Sources, without_import: bool, environ: Mapping[str, str], ask: Ask) -> str:
    """Return in words that the program's Keras is version 3, or may be; "" if it is not, or there is none.

    `without_import`: whether the program uses TensorFlow's Keras even if it imports none.
    """
    is_tensorflows = "tensorflow.keras" in sources.packages or (without_import and not sources.packages)
    # as tensorflow/python/util/lazy_loader.py reads it
    is_legacy = _LEGACY in sources.constants or environ.get(_LEGACY) in ("true", "True", "1")
    if "keras" not in sources.packages and (is_legacy or not is_tensorflows):
        return ""
    version = _keras_version(ask)
    if version and int(version.partition(".")[0]) < 3:
        return ""
    return f"its Python has Keras {version}" if version else "which Keras its Python has is not known"


def _keras_version(ask: Ask) -> str:
    """Return the version of the Keras that the program's Python has, "" if that is not known."""
    found = re.match(r"\d+\.\S+", ask(_VERSION))
    return found[0] if found else ""
