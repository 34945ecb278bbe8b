"""Keeps AutoGraph from functions of slurm_tf.train that have nothing to convert."""

from typing import Any, Callable, TypeVar

import tensorflow as tf

_Function = TypeVar("_Function", bound=Callable[..., Any])


def without_autograph(function: _Function) -> _Function:
    """Have AutoGraph convert neither `function` nor what it calls.

    For functions that steps of users' programs call: AutoGraph takes up to half a second of a program's start for them.
    """
    wrapped: _Function = tf.autograph.experimental.do_not_convert(function)
    return wrapped
