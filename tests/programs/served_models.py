"""Makes the SavedModels that the tests of serving serve: `python served_models.py FOLDER`.

FOLDER/kinds/1            a signature for each kind of input and output
FOLDER/versions/1 ... 11   y = x and version = the number of the version, for each row
FOLDER/other/1            as versions, but its input is named z
FOLDER/rolled/1           elements 108 and 109 of a row of 128, slowly for its size; fails for negative elements
"""

import sys
from pathlib import Path
from typing import Any

import tensorflow as tf

VERSIONS = 11


class Kinds(tf.Module):  # type: ignore[misc]
    """Half of x and a bias; no other signature has a variable."""

    def __init__(self) -> None:
        super().__init__()
        self.bias = tf.Variable(2.0)

    def serving_default(self, x: Any) -> Any:
        return {"y": 0.5 * x + self.bias}

    def pair(self, a: Any, b: Any) -> Any:
        return {"sum": tf.reduce_sum(a, 1), "double": 2 * b}

    def text(self, s: Any) -> Any:
        return {"text": s, "raw_bytes": s}

    def types(self, flag: Any, small: Any, wide: Any, narrow: Any) -> Any:
        given = {"flag": flag, "small": small, "wide": wide, "narrow": narrow}
        return {name: tf.identity(each) for name, each in given.items()}

    def total(self, z: Any) -> Any:
        return {"total": tf.reduce_sum(z)}

    def picked(self, index: Any) -> Any:
        return {"value": tf.gather(tf.constant([10.0, 20.0, 30.0]), index)}

    def classify(self, inputs: Any) -> Any:
        x = parsed(inputs)
        labels = tf.tile([["low", "high"]], [tf.shape(x)[0], 1])
        return {"classes": labels, "scores": tf.stack([1 - x, x], 1)}

    def regress(self, inputs: Any) -> Any:
        return {"outputs": 0.5 * parsed(inputs) + self.bias}


class Version(tf.Module):  # type: ignore[misc]
    """Says which version it is."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = tf.Variable(number, dtype=tf.int64)

    def serving_default(self, x: Any) -> Any:
        return {"y": tf.identity(x), "version": tf.fill([tf.shape(x)[0]], self.number)}


class Rolled(tf.Module):  # type: ignore[misc]
    """Rolls a row by 20, by multiplying with a permutation: exact, however many rows a call has."""

    def __init__(self) -> None:
        super().__init__()
        self.permutation = tf.Variable(tf.roll(tf.eye(128), 1, 1))

    def serving_default(self, x: Any) -> Any:
        with tf.control_dependencies([tf.debugging.assert_non_negative(x, "found a negative element")]):
            y = tf.identity(x)
        for _ in range(20):
            y = tf.matmul(y, self.permutation)
        return {"y": y[:, :2]}


def parsed(examples: Any) -> Any:
    return tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([], tf.float32, 0.0)})["x"]


def of(dtype: Any, name: str, *sizes: "int | None") -> Any:
    return tf.TensorSpec(sizes or (None,), dtype, name)


SIGNATURES = {
    "serving_default": [of(tf.float32, "x")],
    "pair": [of(tf.float32, "a", None, 2), of(tf.int64, "b")],
    "text": [of(tf.string, "s")],
    "types": [of(tf.bool, "flag"), of(tf.uint8, "small"), of(tf.float64, "wide"), of(tf.float16, "narrow")],
    "total": [of(tf.float32, "z", 2, 3)],
    "picked": [of(tf.int32, "index")],
    "classify": [of(tf.string, "inputs")],
    "regress": [of(tf.string, "inputs")],
}


def save(module: Any, path: Path, signatures: "dict[str, list[Any]]") -> None:
    functions = {name: tf.function(getattr(module, name), specs) for name, specs in signatures.items()}
    tf.saved_model.save(module, str(path), functions)


def main(folder: Path) -> None:
    save(Kinds(), folder / "kinds" / "1", SIGNATURES)
    for number in range(1, VERSIONS + 1):
        save(
            Version(number),
            folder / "versions" / str(number),
            {"serving_default": [of(tf.float32, "x", None, 4)]},
        )
    save(Rolled(), folder / "rolled" / "1", {"serving_default": [of(tf.float32, "x", None, 128)]})
    save(Version(1), folder / "other" / "1", {"serving_default": [of(tf.float32, "z", None, 4)]})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
