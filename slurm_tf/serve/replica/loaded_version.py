"""A version of a model in memory: a SavedModel that TensorFlow has loaded, and calls of its signatures.

A call goes through TensorFlow's C interface, `Session._make_callable_from_options`: a sixth of the time of a signature
that tf.saved_model.load returns. It is private to TensorFlow; one without it calls those signatures.
"""

import ctypes
import gc
import os
import threading
from typing import Any, Dict, List, Mapping, Optional, Protocol, Sequence, Set, Tuple

import numpy as np
import tensorflow as tf
from google.protobuf import message
from tensorflow.core.protobuf import config_pb2, saved_model_pb2

from slurm_tf.errors import ModelError
from slurm_tf.serve.protocol import serving_messages
from slurm_tf.serve.replica import signatures
from slurm_tf.serve.replica.request_error import Code, RequestError
from slurm_tf.serve.replica.signatures import ServedSignature

_FAST = "_make_callable_from_options"
_SERVE = "serve"
# Gives each session threads of its own: without it all have those that the first one of the process asked for.
# TensorFlow reads it before its first operation.
os.environ.setdefault("TF_OVERRIDE_GLOBAL_THREADPOOL", "1")
# What tf.saved_model raises for files that are no SavedModel, or not all of one.
_LOAD_ERRORS = (
    ArithmeticError, AttributeError, AssertionError, ImportError, LookupError, MemoryError, OSError, RuntimeError,
    StopIteration, TypeError, ValueError, message.DecodeError, tf.errors.OpError,
)  # fmt: skip
_MOST_TEXT = 1000
# Operations that take tensors of any shape, or refuse those that they cannot take; beside them those of a SavedModel.
_ANY_SHAPE = """
    Add AddV2 Sub Mul RealDiv Neg Maximum Minimum Square Exp Log Tanh Sigmoid Select SelectV2 Identity Cast Reshape Pack
    Const NoOp Placeholder PlaceholderWithDefault ParseExample ParseExampleV2 StatefulPartitionedCall PartitionedCall
    Assign AssignVariableOp DisableCopyOnRead ReadVariableOp VarHandleOp VarIsInitializedOp VariableV2
    MergeV2Checkpoints RestoreV2 SaveV2 ShardedFilename StaticRegexFullMatch StringJoin
"""


class _Runner(Protocol):
    """Calls signatures, one way or the other."""

    signature_defs: Mapping[str, Any]
    any_shape: bool

    def run(self, signature: ServedSignature, outputs: Tuple[str, ...], inputs: Sequence[np.ndarray]) -> List[Any]: ...

    def close(self) -> None: ...


class LoadedVersion:
    """The SavedModel of a folder, loaded. `number`: its version. `one_thread`: whether one thread computes a call."""

    def __init__(self, number: int, path: str, one_thread: bool) -> None:
        """Load it. Raises ModelError for what is no SavedModel, or one that cannot be loaded.

        `one_thread` counts where TensorFlow has the private interface.
        """
        fast = hasattr(tf.compat.v1.Session, _FAST)
        self.number, self.one_thread = number, one_thread and fast
        try:
            self._runner: _Runner = _SessionRunner(path, one_thread) if fast else _SignatureRunner(path)
        except _LOAD_ERRORS as error:
            found = f"TensorFlow cannot load it: {type(error).__name__}: {error}"[:_MOST_TEXT]
            free_memory()
            raise ModelError(found, "a SavedModel", where=path) from error
        self.signature_defs: Mapping[str, Any] = {
            name: _ours(definition) for name, definition in self._runner.signature_defs.items()
        }
        self.signatures = signatures.from_signature_defs(self.signature_defs, self._runner.any_shape)

    def call(self, signature: ServedSignature, outputs: Tuple[str, ...], inputs: Sequence[np.ndarray]) -> List[Any]:
        """Return the named outputs of a signature as arrays; `inputs` in the signature's order. Raises RequestError."""
        try:
            return self._runner.run(signature, outputs, inputs)
        except tf.errors.OpError as error:
            raise RequestError(Code(error.error_code), error.message) from error
        except UnicodeDecodeError as error:
            # an error whose text has bytes of an input: which kind of error it is has been lost
            text = error.object.decode("utf-8", "replace")
            raise RequestError(Code.INVALID_ARGUMENT, text) from error

    def close(self) -> None:
        """Free its memory: nothing can be called any more."""
        self._runner.close()
        free_memory()


def free_memory() -> None:
    """Give what nobody refers to any more back to the system: graphs refer to themselves, and malloc keeps pages."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
    if trim is not None:
        trim(0)


def _ours(definition: Any) -> Any:
    """Return TensorFlow's SignatureDef as a message of our pool."""
    return serving_messages.SignatureDef.FromString(definition.SerializeToString())


class _SessionRunner:
    """Calls by a session's callables, each made once for a signature and its outputs."""

    def __init__(self, path: str, one_thread: bool) -> None:
        graph = tf.Graph()
        self._session = tf.compat.v1.Session(graph=graph, config=_config(one_thread))
        try:
            with graph.as_default():
                meta_graph = tf.compat.v1.saved_model.loader.load(self._session, [_SERVE], path)
        except BaseException:
            self._session.close()
            raise
        self.signature_defs: Mapping[str, Any] = dict(meta_graph.signature_def)
        self.any_shape = _operations(meta_graph.graph_def) <= set(_ANY_SHAPE.split())
        self._callables: Dict[Tuple[str, Tuple[str, ...]], Any] = {}
        self._making = threading.Lock()

    def run(self, signature: ServedSignature, outputs: Tuple[str, ...], inputs: Sequence[np.ndarray]) -> List[Any]:
        key = (signature.name, outputs)
        found = self._callables.get(key)
        if found is None:
            with self._making:
                found = self._callables.get(key) or self._callable(signature, outputs)
                self._callables[key] = found
        return list(found(*inputs))

    def _callable(self, signature: ServedSignature, outputs: Tuple[str, ...]) -> Any:
        callable_options = config_pb2.CallableOptions()
        # in the thread of the caller: to hand small operations to another one takes longer than they do
        callable_options.run_options.inter_op_thread_pool = -1
        callable_options.feed.extend(info.tensor for info in signature.inputs.values())
        callable_options.fetch.extend(signature.outputs[name].tensor for name in outputs)
        return getattr(self._session, _FAST)(callable_options)

    def close(self) -> None:
        self._callables.clear()
        self._session.close()


class _SignatureRunner:
    """Calls the signatures that tf.saved_model.load returns, which check shapes themselves."""

    any_shape = False

    def __init__(self, path: str) -> None:
        self._loaded: Optional[Any] = tf.saved_model.load(path, [_SERVE])
        saved = saved_model_pb2.SavedModel()
        with open(os.path.join(path, "saved_model.pb"), "rb") as file:
            saved.ParseFromString(file.read())
        self.signature_defs: Mapping[str, Any] = next(
            dict(each.signature_def) for each in saved.meta_graphs if _SERVE in each.meta_info_def.tags
        )

    def run(self, signature: ServedSignature, outputs: Tuple[str, ...], inputs: Sequence[np.ndarray]) -> List[Any]:
        if self._loaded is None:
            raise RequestError(Code.UNAVAILABLE, "this version is no longer loaded")
        given = {name: tf.constant(array) for name, array in zip(signature.inputs, inputs)}
        found = self._loaded.signatures[signature.name](**given)
        return [found[name].numpy() for name in outputs]

    def close(self) -> None:
        self._loaded = None


def _operations(graph: Any) -> Set[str]:
    """Return the operations of a GraphDef and its functions."""
    nodes = [*graph.node, *(node for function in graph.library.function for node in function.node_def)]
    return {node.op for node in nodes}


def _config(one_thread: bool) -> Any:
    config = tf.compat.v1.ConfigProto(allow_soft_placement=True, intra_op_parallelism_threads=int(one_thread))
    config.gpu_options.allow_growth = True
    # threads that spin while they wait for work take the cores from what reads requests: twice the CPU of small calls
    config.experimental.disable_thread_spinning = True
    return config
