"""What is read of a program: how it is distributed, its options; and the lines that make a Keras script distributed."""

import subprocess
from pathlib import Path

import pytest

from slurm_tf.errors import ConfigError
from slurm_tf.jobspec import program_outline, train_lines
from slurm_tf.jobspec.program_outline import Outline, ProgramKind
from slurm_tf.jobspec.train_lines import Change
from tests.conftest import ROOT


def outline(text: str, tmp_path: Path) -> Outline:
    path = tmp_path / "program.py"
    path.write_text(text)
    return program_outline.outline(program_outline.read(path)[1])


def change(text: str, tmp_path: Path) -> Change:
    path = tmp_path / "program.py"
    path.write_text(text)
    read, tree = program_outline.read(path)
    return train_lines.change(read, tree, program_outline.outline(tree))


@pytest.mark.parametrize(
    ("text", "kind", "line"),
    [
        ("import tensorflow as tf\ntf.app.flags.DEFINE_string('ps_hosts', '', '')\n", ProgramKind.PS_FLAGS, 2),
        ("parser.add_argument('--ps_hosts')\nimport horovod.tensorflow\n", ProgramKind.PS_FLAGS, 1),
        ("\nimport horovod.keras as hvd\nmodel.fit(x, y, epochs=1)\n", ProgramKind.HOROVOD, 2),
        ("s = tf.distribute.experimental.ParameterServerStrategy(r)\n", ProgramKind.PARAMETER_SERVER, 1),
        ("from tensorflow.distribute import MirroredStrategy as M\n", ProgramKind.MIRRORED, 1),
        ("\n\ns = tf.distribute.MultiWorkerMirroredStrategy()\nm.fit(d, epochs=1)\n", ProgramKind.MULTI_WORKER, 3),
        ("with tf.distribute.MirroredStrategy().scope(): pass\n", ProgramKind.MIRRORED, 1),
        ("import slurm_tf.train as train\nm.fit(d, epochs=1)\n", ProgramKind.SLURM_TF, 1),
        ("scaler.fit(x)\nmodel.fit(x, y, batch_size=4)\n", ProgramKind.KERAS_FIT, 2),
        # scikit-learn's
        ("clf.fit(x, y)\n", ProgramKind.OTHER, 0),
        ("", ProgramKind.OTHER, 0),
    ],
)
def test_how_a_program_is_distributed(text: str, kind: ProgramKind, line: int, tmp_path: Path) -> None:
    found = outline(text, tmp_path)
    assert (found.kind, found.line) == (kind, line)


OPTIONS = """\
add = parser.add_argument
parser.add_argument("data", type=Path, help="folder of\\n  the data")
parser.add_argument("-e", "--epochs", type=int, default=10, help="passes (default: %(default)s), 100%%")
parser.add_argument("--rate", type=float, default=1)
parser.add_argument("--optimizer", default="adam", choices=["adam", "sgd"])
parser.add_argument("-b", default=64)
parser.add_argument("--model", required=True)
parser.add_argument("--verbose", action="store_true")
parser.add_argument("--files", nargs="+")
parser.add_argument("--seed", type=int)
parser.add_argument("--out", default=os.getcwd())
parser.add_argument("--when", type=parse_date, default="1")
parser.add_argument("--bad name", default=1)
parser.add_argument("--units", type=int, default="many")
parser.add_argument("--title", default="two\\nlines")
parser.add_argument("--rate", type=float, default=2)
parser.add_argument(name)
flags.DEFINE_integer("steps", 600, "Steps of all workers")
flags.DEFINE_float("decay", default=0, help="of weights", lower_bound=0.0)
flags.DEFINE_enum("loss", "mse", ["mse", "mae"], "which loss")
flags.DEFINE_boolean("bf16", False, "compute in bfloat16")
flags.DEFINE_string("name", None, "of the run")
flags.DEFINE_list("layers", "1,2", "units")
"""


def test_literal_options_become_params_and_the_others_say_why_not(tmp_path: Path) -> None:
    found = outline(OPTIONS, tmp_path).options
    params = {
        each.name: (each.flag, each.type, each.default, each.choices, each.help) for each in found if not each.left_out
    }
    assert params == {
        "data": ("", "path", None, (), "folder of the data"),
        "epochs": ("--epochs", "int", 10, (), "passes, 100%"),
        "rate": ("--rate", "float", 1.0, (), ""),
        "optimizer": ("--optimizer", "str", "adam", ("adam", "sgd"), ""),
        "b": ("-b", "int", 64, (), ""),
        "model": ("--model", "str", None, (), ""),
        "steps": ("--steps", "int", 600, (), "Steps of all workers"),
        "decay": ("--decay", "float", 0.0, (), "of weights"),
        "loss": ("--loss", "str", "mse", ("mse", "mae"), "which loss"),
        "bf16": ("--bf16", "bool", False, (), "compute in bfloat16"),
    }
    assert {each.name: each.left_out for each in found if each.left_out} == {
        "verbose": "a switch without a value",
        "files": "it may take several values, or none",
        "seed": "it has no default",
        "out": "its default or its choices are computed",
        "when": "its type is the program's own",
        "bad name": "no param can have its name",
        "units": "its default or its choices are not of its type, int",
        "title": "its default or its choices have control characters",
        "name": "it has no default",
        "layers": "its type is the program's own",
    }


def test_what_a_program_of_2016_is_told_is_no_param(tmp_path: Path) -> None:
    flags = ("ps_hosts", "worker_hosts", "job_name", "task_index", "steps")
    text = "".join(f"flags.DEFINE_string('{each}', '', '')\n" for each in flags)
    assert [each.name for each in outline(text, tmp_path).options] == ["steps"]
    # elsewhere it is
    assert outline("parser.add_argument('--job_name', default='a')\n", tmp_path).options[0].left_out == ""


def test_a_program_is_never_run_and_what_is_none_says_so(tmp_path: Path) -> None:
    assert outline(f"open({str(tmp_path / 'run')!r}, 'w')\nraise SystemExit\n", tmp_path).kind is ProgramKind.OTHER
    assert not (tmp_path / "run").exists()
    for text, found in (
        (b'print "x"\n', "Missing parentheses"),
        (b"\xff\xfe", "no text that Python reads|invalid"),
        (b"\0", ""),
    ):
        (tmp_path / "old.py").write_bytes(text)
        with pytest.raises(ConfigError, match=rf"old.py: .*(?:{found})"):
            program_outline.read(tmp_path / "old.py")
    with pytest.raises(ConfigError, match=r"cannot be read \(No such file or directory\)"):
        program_outline.read(tmp_path / "none.py")


def test_the_five_lines_are_those_of_the_gallery() -> None:
    text, tree = program_outline.read(ROOT / "jobs" / "keras_plain.py")
    changed = train_lines.change(text, tree, program_outline.outline(tree))
    assert changed.text == (ROOT / "jobs" / "keras_distributed.py").read_text()
    assert changed.left == ()


def test_the_difference_is_one_that_git_reads(tmp_path: Path) -> None:
    before = "import keras\nkeras.Model().fit(1, 2, epochs=3)"  # without an end of the last line
    (tmp_path / "a.py").write_text(before)
    after = change(before, tmp_path).text
    difference = train_lines.diff(before, after, "a.py")
    argv = ["git", "apply", "--unsafe-paths", "-"]
    done = subprocess.run(argv, input=difference, cwd=tmp_path, text=True, timeout=60, check=False, capture_output=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "a.py").read_text() == after


SCRIPT = "import keras\n\n{before}def main(run):\n    model = keras.Model()\n    {fit}\n\n\nmain(1)\n"


@pytest.mark.parametrize(
    ("fit", "after", "left"),
    [
        (
            "history = model.fit(x, y, 16, 3, callbacks=[a, b], sample_weight=w)  ",
            ["data = slurm_run.batches((x, y, w), batch_size=16)",
             "history = model.fit(data, epochs=3, callbacks=[*slurm_run.callbacks(model), a, b])"],
            "",
        ),
        (
            "model.fit(x=x,\n              y=y, callbacks=mine, epochs=2)",
            ["data = slurm_run.batches((x, y), batch_size=32)",
             "model.fit(data, epochs=2, callbacks=[*slurm_run.callbacks(model), *mine])"],
            "",
        ),
        (
            "model.fit(x, y, epochs=2, callbacks=None, validation_split=0.1)",
            ["data = slurm_run.batches((x, y), batch_size=32)",
             "model.fit(data, epochs=2, callbacks=slurm_run.callbacks(model))"],
            "line 5: in place of validation_split give the data for it",
        ),
        ("model.fit(dataset, epochs=2)", ["model.fit(dataset, epochs=2)"], "line 5: fit reads a data set: give it"),
        ("print(model.fit(x, y, epochs=2))", ["print(model.fit(x, y, epochs=2))"], "line 5: fit stands within"),
        ("model.fit(x, y, epochs=2); save()", ["model.fit(x, y, epochs=2); save()"], "line 5: fit stands within"),
    ],
)  # fmt: skip
def test_each_way_to_call_fit(fit: str, after: list[str], left: str, tmp_path: Path) -> None:
    """With names that the program does not use: it has a `run` of its own."""
    changed = change(SCRIPT.format(before="", fit=fit), tmp_path)
    shown = "\n".join(f"    {line}" for line in after)
    begin = "\nimport slurm_tf.train as train\n\nslurm_run = train.init()\n"
    assert changed.text == SCRIPT.format(before="", fit="FIT").replace("    FIT", shown).replace(
        "keras\n", f"keras\n{begin}", 1
    )
    assert left in "".join(changed.left)
    assert bool(left) == bool(changed.left)
    compile(changed.text, "program.py", "exec")


def test_a_long_call_is_broken_and_a_second_fit_is_named(tmp_path: Path) -> None:
    words = ", ".join(f"class_weight_{number}={{{number}: 1}}" for number in range(6))
    changed = change(f'"""Doc."""\nmodel.fit(x, y, epochs=1, {words})\nother.fit(x, y, epochs=2)\n', tmp_path)
    assert changed.text.startswith('"""Doc."""\n\nimport slurm_tf.train as train\n\nrun = train.init()\n')
    assert "\nmodel.fit(\n    data,\n    epochs=1,\n" in changed.text
    assert changed.left == ("line 3: another fit: it needs the same",)
    compile(changed.text, "program.py", "exec")
