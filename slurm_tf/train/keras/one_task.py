"""Leaves to one task what Keras would do in each: it saves models (model_files.py) and draws progress bars.

Methods of Keras' classes are replaced. A program may import Keras after `train.init()`, so this is done several times.
"""

import functools
import os
import sys
from typing import Any, Callable, Dict

from slurm_tf.train.keras.model_files import ModelFiles

_LIBRARIES = ("keras", "tf_keras")
# tf.keras of Keras 3 has modules of its own
_MODULES = tuple(
    f"{library}.{name}" for library in (*_LIBRARIES, "keras._tf_keras.keras") for name in ("models", "saving")
)
# Methods of a model, and whether they save a whole one.
_METHODS = {"save": True, "export": True, "save_weights": False}


def adopt(saved: ModelFiles, shows_bars: bool) -> None:
    """Adopt the Keras and the tf_keras that are imported by now."""
    for name in _LIBRARIES:
        model = getattr(sys.modules.get(name), "Model", None)
        if model is None:
            continue
        for method, is_model in _METHODS.items():
            _replace(model, method, functools.partial(_save, saved, is_model))
        if not shows_bars:
            _replace(sys.modules[name].callbacks.ProgbarLogger, "set_params", _without_bar)
    for name in _MODULES:
        if hasattr(sys.modules.get(name), "save_model"):
            _replace(sys.modules[name], "save_model", functools.partial(_save, saved, True))


def _replace(owner: Any, name: str, call: Callable[..., None]) -> None:
    """Replace the function `name` of a class or a module by one that passes it to `call` with its arguments."""
    original = getattr(owner, name)
    original = getattr(original, "unwrapped", original)

    @functools.wraps(original)
    def replacement(*arguments: Any, **options: Any) -> Any:
        return call(original, *arguments, **options)

    replacement.unwrapped = original  # type: ignore[attr-defined]
    setattr(owner, name, replacement)


def _save(
    saved: ModelFiles,
    is_model: bool,
    original: Callable[..., None],
    model: Any,
    filepath: Any,
    *more: Any,
    **options: Any,
) -> None:
    if not isinstance(filepath, (str, os.PathLike)):  # an open file is this task's own
        original(model, filepath, *more, **options)
        return
    # the third argument of all but export, which has no such
    overwrite = bool(options.get("overwrite", more[0] if more else True))
    saved.save(lambda path: original(model, path, *more, **options), os.fsdecode(filepath), overwrite, is_model)


def _without_bar(original: Callable[..., None], bar: Any, params: Dict[str, Any]) -> None:
    original(bar, {**params, "verbose": 0} if params.get("verbose") in ("auto", 1) else params)
