"""The one line that says why a program failed, from texts that Python 3.11, Keras 3 and TensorFlow 2.21 printed."""

import pytest

from slurm_tf.launch.agent import failure_line

SITE = "/opt/venv/lib/python3.11/site-packages"
NOISE = """\
WARNING: All log messages before absl::InitializeLog() is called are written to STDERR
I0000 00:00:1795805844.526876    8241 cpu_feature_guard.cc:227] This TensorFlow binary is optimized to use ...
To enable the following instructions: AVX2 FMA, in other operations, rebuild TensorFlow with the appropriate flags.
"""
FRAME = '  File "/home/a/train.py", line 3, in <module>\n    import nosuch\n'
KEYWORD = f'  File "{SITE}/keras/src/utils/traceback_utils.py", line 122, in error_handler\n    raise e from None\n'
MARK = "Traceback (most recent call last):\n"
ERROR = MARK + FRAME
OF_TF = "tensorflow.python.framework.errors_impl"

TEXTS = {
    "a missing module": (
        NOISE + ERROR + "ModuleNotFoundError: No module named 'nosuch'\n",
        "ModuleNotFoundError: No module named 'nosuch' (train.py, line 3)",
    ),
    "a typo": (
        ERROR + "    ^^^^\nNameError: name 'modle' is not defined. Did you mean: 'model'?\n",
        "NameError: name 'modle' is not defined. Did you mean: 'model'? (train.py, line 3)",
    ),
    "a program that is no Python": (
        '  File "/home/a/train.py", line 7\n    print(\n         ^\nSyntaxError: \'(\' was never closed\n',
        "SyntaxError: '(' was never closed (train.py, line 7)",
    ),
    "a library of CUDA": (
        ERROR + "OSError: libcudart.so.12: cannot open shared object file: No such file or directory\n",
        "OSError: libcudart.so.12: cannot open shared object file: No such file or directory (train.py, line 3)",
    ),
    "a full disk": (
        ERROR + "OSError: [Errno 28] No space left on device: '/scratch/a/model.keras'\n" + NOISE,
        "OSError: [Errno 28] No space left on device: '/scratch/a/model.keras' (train.py, line 3)",
    ),
    "an assertion without words": (ERROR + "AssertionError\nW0000 bye\n", "AssertionError (train.py, line 3)"),
    "a message on the next line": (ERROR + "ValueError: \nbad\n", "ValueError: bad (train.py, line 3)"),
    "chained": (
        f"{ERROR}KeyError: 'rate'\n\nThe above exception was the direct cause of the following exception:\n\n"
        f"{ERROR}a.b.ConfigError: no rate\nin any file\n",
        "ConfigError: no rate (train.py, line 3)",
    ),
    "of a worker process": (
        f'multiprocessing.pool.RemoteTraceback: \n"""\n{ERROR}ZeroDivisionError: in the pool\n"""\n\n'
        f"The above exception was the direct cause of the following exception:\n\n{ERROR}"
        '  File "/usr/lib/python3.11/multiprocessing/pool.py", line 774, in get\n    raise self._value\n'
        "ZeroDivisionError: division by zero\n",
        "ZeroDivisionError: division by zero (train.py, line 3)",
    ),
    "a group": (
        f"  + Exception Group {MARK}  |   File \"/home/a/train.py\", line 1, in <module>\n  |     raise Two\n"
        "  | ExceptionGroup: two (2 sub-exceptions)\n  +-+---------------- 1 ----------------\n"
        "    | ValueError: a\n    +---------------- 2 ----------------\n    | TypeError: b\n    +-------------------\n",
        "ExceptionGroup: two (2 sub-exceptions) (train.py, line 1)",
    ),
    "Keras, whose first line says nothing": (
        ERROR + KEYWORD + "ValueError: Exception encountered when calling Sequential.call().\n\n"
        "\x1b[1mInput 0 of layer 'dense' is incompatible with the layer\x1b[0m\n\n"
        "Arguments received by Sequential.call():\n  • training=True\n",
        "ValueError: Input 0 of layer 'dense' is incompatible with the layer (train.py, line 3)",
    ),
    "TensorFlow's graph": (
        ERROR + KEYWORD + f"{OF_TF}.InvalidArgumentError: Graph execution error:\n\n"
        "Detected at node sequential_1/GatherV2 defined at (most recent call last):\n"
        f'  File "/home/a/train.py", line 3, in <module>\n\n'
        f'  File "{SITE}/keras/src/ops/numpy.py", line 7924, in take\n\n'
        "indices[0,0] = 99 is not in [0, 3)\n\t [[{{node sequential_1/GatherV2}}]] [Op:__inference_multi_step_263]\n",
        "InvalidArgumentError: indices[0,0] = 99 is not in [0, 3) (train.py, line 3)",
    ),
    "memory of a device": (
        ERROR + OF_TF + ".ResourceExhaustedError: {{function_node __wrapped__Fill_device_"
        "/job:localhost/task:0/device:GPU:0}} OOM when allocating tensor with shape[10,10] [Op:Fill] name: \n",
        "ResourceExhaustedError: OOM when allocating tensor with shape[10,10] (train.py, line 3)",
    ),
    "one that is ignored does not count": (
        ERROR + f"KeyError: 'real'\nException ignored in: <function A.__del__ at 0x7f>\n{ERROR}ValueError: no\n",
        "KeyError: 'real' (train.py, line 3)",
    ),
    "a thread's counts less than the program's": (
        f"{ERROR}KeyError: 'real'\nException in thread Thread-1 (f):\n{ERROR}ValueError: of a thread\n",
        "KeyError: 'real' (train.py, line 3)",
    ),
    "a thread's alone": (
        f"Exception in thread Thread-1 (f):\n{ERROR}ValueError: of a thread\n",
        "ValueError: of a thread (train.py, line 3)",
    ),
    "the last words of a program that is no Python": (
        NOISE + "usage: train.py [-h]\ntrain.py: error: unrecognized arguments: --epochz 3\n" + NOISE,
        "its last line: train.py: error: unrecognized arguments: --epochz 3",
    ),
    "a loader": (
        "x\n./train: error while loading shared libraries: libcudnn.so.9: cannot open shared object file\n",
        "./train: error while loading shared libraries: libcudnn.so.9: cannot open shared object file",
    ),
    "hostile": (ERROR + "ValueError: a\x1b]0;b\x07\u202e\n", "ValueError: a ]0;b   (train.py, line 3)"),
    "nothing": (NOISE, ""),
}  # fmt: skip


@pytest.mark.parametrize("name", TEXTS)
def test_the_line(name: str) -> None:
    text, line = TEXTS[name]
    assert failure_line.find(text, by_signal=False) == line


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f"{ERROR}KeyError: 'long ago'\nmore\n", ""),
        ("Fatal Python error: Segmentation fault\n\nCurrent thread 0x7f:\n", "Fatal Python error: Segmentation fault"),
        (
            "terminate called after throwing an instance of 'std::bad_alloc'\n  what():  std::bad_alloc\n",
            "terminate called after throwing an instance of 'std::bad_alloc'; what():  std::bad_alloc",
        ),
        (
            "F0000 00:00:1795.5 82 tensor.cc:15] Check failed: 1 == 2\n",
            "F0000 00:00:1795.5 82 tensor.cc:15] Check failed: 1 == 2",
        ),
    ],
)
def test_the_last_words_before_a_signal(text: str, line: str) -> None:
    assert failure_line.find(text, by_signal=True) == line


def test_it_is_cut() -> None:
    found = failure_line.find(f"{ERROR}ValueError: {'x' * 9000}\n", by_signal=False)
    assert (len(found), found[-4:]) == (300, "x...")
