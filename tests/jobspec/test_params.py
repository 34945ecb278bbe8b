"""Params: what a job file says of its variables, what is typed, and what the program gets."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import ConfigError, UsageError
from slurm_tf.jobspec import configuration, params, plan
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.params import Params
from slurm_tf.jobspec.plan import Plan
from slurm_tf.run.folder import RunFolder

JOB = """
name = "a"
strategy = "single"
command = ["train", "--epochs={epochs}", "{optimizer}", "--rate", "{rate}", "--data={data}", "{{rate}} ${rate}"]

[params]
rate = 0.1
optimizer = {default = "adam", choices = ["sgd", "adam"], help = "which optimizer"}

[params.epochs]
default = 10
min = 1
max = 100
help = "passes over the data"

[params.data]
help = "folder of the data"

[params.bf16]
default = false

[roles.worker]

[env]
BF16 = "is {bf16}"
"""
Read = Callable[..., Job]


@pytest.fixture
def read(load: Callable[..., Job]) -> Read:
    """Return the job with these values."""

    def with_values(*values: str, text: str = JOB, **more: tuple[str, ...]) -> Job:
        return load(text, values=values, **more)

    return with_values


def fitted(job: Job) -> Plan:
    return plan.fit(job, RunFolder("/runs/a-1"))


def test_defaults_and_typed_values_fill_command_and_env(read: Read) -> None:
    found = fitted(read("data=/d ata", "rate=1e-3", "bf16=true", "rate=2"))
    assert found.params == {"rate": 2, "optimizer": "adam", "epochs": 10, "data": "/d ata", "bf16": True}
    (worker,) = found.settings.roles
    assert worker.command == ("train", "--epochs=10", "adam", "--rate", "2", "--data=/d ata", "{rate} ${rate}")
    assert found.settings.env == {"BF16": "is true"}
    assert params.resolve(read("data=x", "rate=1e-5")).fixed["rate"] == 1e-05


def test_one_error_names_all_wrong_values(read: Read) -> None:
    job = read("epochs=0", "optimizer=adm", "rate=fast", "bf16=1", "epoch=3")
    with pytest.raises(ConfigError) as error:
        fitted(job)
    assert (
        str(error.value)
        == f"""{job.path}: params: 6 values are wrong
  epoch=3: no such param; needed one of rate, optimizer, epochs, data, bf16 (did you mean 'epochs'?)
  rate: found 'fast'; needed a number
  optimizer: found 'adm'; needed one of sgd, adam (which optimizer)
  epochs: found 0; needed a whole number from 1 to 100 (passes over the data)
  data: it has no value; needed data=VALUE, text without control characters (folder of the data)
  bf16: found '1'; needed true or false"""
    )


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ("epochs=1.5", "found '1.5'; needed a whole number from 1 to 100"),
        ("epochs=", "found ''; needed a whole number"),
        ("rate=nan", "found 'nan'; needed a number"),
        ("rate=1e999", "found inf; needed a number"),
        ("rate=1_0", "found '1_0'; needed"),
        ("data=a\nb", "found 'a\\nb'; needed text without control characters"),
    ],
)
def test_one_wrong_value(value: str, found: str, read: Read) -> None:
    with pytest.raises(ConfigError, match=re.escape(found)):
        fitted(read("data=x", value))


def test_a_sweep_gives_params_their_values_and_a_typed_value_ends_it(read: Read) -> None:
    swept = JOB.replace("[roles.worker]", "[sweep]\nrate = [1, 0.5]\nepochs = [1, 2]\n[roles.worker]")
    found = params.resolve(read("data=x", text=swept))
    assert found == Params({"optimizer": "adam", "data": "x", "bf16": False}, {"rate": (1, 0.5), "epochs": (1, 2)})
    one = fitted(read("data=x", "rate=0.25", text=swept))
    assert one.array is not None
    assert one.array.points == {0: {"epochs": 1}, 1: {"epochs": 2}}
    assert one.settings.points["1"]["rate"] == 0.25
    of_point = one.settings.of_point(1)
    assert of_point.roles[0].command[1:5] == ("--epochs=2", "adam", "--rate", "0.25")
    assert of_point.env == {"BF16": "is false"}
    none = fitted(read("data=x", "rate=1", "epochs=3", text=swept.replace("[params]", 'array = "%2"\n[params]', 1)))
    assert none.array is None
    with pytest.raises(ConfigError, match=r"2 values are wrong\n  rate: found 'x'.*\n  epochs: found 500; needed"):
        fitted(read("data=x", text=swept.replace("[1, 0.5]", '["x", 1]').replace("[1, 2]", "[500]")))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rate = 0.1", "'a b' = 1", "params.a b.default: found the key|params.a b: found the key 'a b'"),
        ("max = 100", "max = 0", "params.epochs: found min = 1 and max = 0; needed min below max"),
        ("default = 10", "default = 0", "params.epochs: found 0 among its own values; needed a whole number from 1"),
        ("max = 100", "max = 1.5", "params.epochs: found 10 among|found max = 1.5"),
        ('choices = ["sgd", "adam"]', "min = 3", "params.optimizer: found min = 3 of a param of type str"),
        ("rate = 0.1", 'rate = {typ = "int"}', "params.rate.typ: found the key 'typ'.*\nHINT: did you mean 'type'"),
        ("rate = 0.1", 'rate = {type = "itn"}', "params.rate.type: found 'itn'.*\nHINT: did you mean 'int'"),
        ("rate = 0.1", "rate = [1]", "params.rate.default: found "),
        ("rate = 0.1", "rate = 0.1\nunused = 3", r"params.unused: nothing uses it; needed an argument .* \{unused\}"),
        (
            "rate = 0.1",
            "",
            r"command: found \{rate\}; needed a param of this name; the job has optimizer, .*\n"
            r"HINT: declare it in \[params\]: rate = VALUE; for the text \{rate\} itself, write \{\{rate\}\}",
        ),
        ("is {bf16}", "is {bf16} {x}", r"env.BF16: found \{x\}; needed a param"),
    ],
)
def test_a_declaration_that_cannot_be(old: str, new: str, message: str, read: Read) -> None:
    with pytest.raises(ConfigError, match=message):
        fitted(read("data=x", text=JOB.replace(old, new)))


def test_a_default_of_another_layer_keeps_the_limits(read: Read) -> None:
    with pytest.raises(ConfigError, match="found 300 among its own values; needed a whole number from 1 to 100"):
        fitted(read("data=x", set=("params.epochs=300",)))


def test_arguments_reach_the_program_as_they_are(read: Read) -> None:
    found = fitted(read("data=x", arguments=("--json={rate}", "a b", "{{x}}")))
    assert found.settings.roles[0].command[-3:] == ("--json={rate}", "a b", "{{x}}")
    own = JOB.replace("[roles.worker]", '[roles.worker]\ncommand = ["x"]')
    with pytest.raises(UsageError, match=r"found '--n 1' behind --, and commands in \[roles.worker\]; needed one"):
        read(text=own, arguments=("--n", "1"))


@pytest.mark.parametrize("word", ["more.toml", "=1"])
def test_a_word_after_the_job_file_is_a_value(word: str, read: Read) -> None:
    with pytest.raises(UsageError, match=f"found '{word}' after the job file; needed NAME=VALUE"):
        read(word)


def test_explain_says_what_was_typed(read: Read) -> None:
    rows = {key: (value, origin) for key, value, origin in configuration.explain(read("epochs=7"))}
    assert rows["params.epochs.default"][0] == "10"
    assert rows["params.epochs"] == ("7", "command line: epochs=")


PATHS = """
name = "a"
strategy = "single"
command = ["train", "{data}", "{log}", "{x}"]
[params]
data = {type = "path", help = "folder of the data"}
log = {type = "path", default = "log"}
x = {type = "path", default = ""}
[sweep]
x = ["a", "/b"]
[roles.worker]
"""


def test_a_path_is_whole_as_the_program_runs_elsewhere(
    read: Read, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that is typed starts where it is typed, one of a file beside the file."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("DATA", "/shared/data")
    paths = {"d": f"{tmp_path}/here/d", "../d": f"{tmp_path}/d", "/d": "/d", "$DATA/x": "/shared/data/x"}
    for typed, path in paths.items():
        found = params.resolve(read(f"data={typed}", text=PATHS))
        assert found == Params({"data": path, "log": f"{tmp_path}/log"}, {"x": (f"{tmp_path}/a", "/b")})
    found = params.resolve(read("data=d", "x=", text=PATHS, set=("params.log.default=mine",)))
    assert found.fixed == {"data": f"{tmp_path}/here/d", "log": f"{tmp_path}/here/mine", "x": ""}
    with pytest.raises(ConfigError, match=r"data: it has no value; needed data=VALUE, the path of a file or folder"):
        params.resolve(read(text=PATHS))
    monkeypatch.delenv("DATA")
    with pytest.raises(ConfigError, match=r"command line: found '\$DATA'; needed the variable DATA, which is not set"):
        params.resolve(read("data=$DATA", text=PATHS))
    with pytest.raises(ConfigError, match=r"params.log: found 3 among its own values; needed the path"):
        params.resolve(read("data=d", text=PATHS.replace('"log"}', "3}")))
