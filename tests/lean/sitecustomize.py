"""Runs first in each Python that has this folder on its PYTHONPATH: `import tensorflow` then takes a third less.

Keras imports scikit-learn, and that SciPy's statistics, for a wrapper that no test uses. The garbage collector looks
again and again at what TensorFlow's modules make, all of which stays.
"""

import gc
import sys

_WRAPPERS = ("keras.src.wrappers.fixes", "keras.src.wrappers.utils", "keras.src.wrappers.sklearn_wrapper")


class _WithoutWrapper:
    """Says that there is no scikit-learn while Keras looks for it; programs that import it themselves have it."""

    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        specs = (getattr(sys.modules.get(module), "__spec__", None) for module in _WRAPPERS)
        if name == "sklearn" and any(getattr(spec, "_initializing", False) for spec in specs):
            raise ImportError("not for Keras' wrapper, in tests")


sys.meta_path.insert(0, _WithoutWrapper)
gc.set_threshold(100_000, 50, 50)
