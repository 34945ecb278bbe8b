"""How each runtime is told to start a program: arguments and variables, of which none may be evaluated or lost."""

from collections.abc import Callable, Mapping

import pytest

from slurm_tf.launch.mapping import container
from slurm_tf.launch.mapping.assignment import Assignment, program_environ
from slurm_tf.launch.mapping.container import Entry
from slurm_tf.run import env
from slurm_tf.run.container_settings import ContainerSettings, Mount, Runtime

PROGRAMS = {Runtime.APPTAINER: "apptainer", Runtime.SINGULARITY: "singularity", Runtime.CHARLIECLOUD: "ch-run"}
HOSTILE = {
    "QUOTES": "a 'b' \"c\"",
    "SHELL": "$HOME `id` $(id) ; & | \\ *",
    "LINES": "one\ntwo\n",
    "EMPTY": "",
    "TF_CONFIG": '{"cluster": {"worker": ["a:1"]}}',
}
IMAGE = {
    "TF_CONFIG": "of the image",
    "CUDA_VISIBLE_DEVICES": "7",
    "ROCR_VISIBLE_DEVICES": "7",
    "SLURM_PROCID": "7",
    "SLURM_TF_TASK": "of the image",
    "DTENSOR_CLIENT_ID": "7",
    "PATH": "/image/bin:/bin",
    "PYTHONPATH": "/image/lib",
    "LANG": "image",
    "TOKEN": "image",
}
HOST = {
    "PATH": "/host/bin",
    "PYTHONPATH": "/host/lib",
    "PYTHONHOME": "/host",
    "LD_LIBRARY_PATH": "/host/lib",
    "LD_PRELOAD": "/host/lib/x.so",
    "BASH_FUNC_module%%": "() { :; }",
    "TMPDIR": "/host/tmp",
    "VIRTUAL_ENV": "/host/venv",
    "CUDA_VISIBLE_DEVICES": "0,1",
    "SLURM_PROCID": "1",
    "LANG": "host",
    "TOKEN": "host",
    "ONLY": "host",
}


def entry(runtime: Runtime, **changes: object) -> Entry:
    """Return an entry of a job in /shared/code, with a mount of each kind."""
    mounts = (Mount("/data dir", "/d", read_only=True), Mount("/shared/runs/a", "/shared/runs/a"))
    settings = {
        "command": (f"/bin/{PROGRAMS[runtime]}",),
        "image": "/images/t f.img",
        "options": ("--more",),
        **changes,
    }
    covers = (Mount("/shared/runs/a/points/shared", "/shared"),) if runtime is Runtime.CHARLIECLOUD else ()
    return Entry(ContainerSettings(runtime, **settings), mounts, "/shared/code", covers)  # type: ignore[arg-type]


def shown(words: list[str], environ: Mapping[str, str]) -> str:
    """Return a command and its variables, one a line, without those that the agent has."""
    own = [f"{name}={value!r}" for name, value in sorted(environ.items()) if HOST.get(name) != value]
    return "\n".join([*map(repr, words), *own, ""])


def test_the_command_of_each_runtime(golden: Callable[[str, str], None]) -> None:
    text = []
    for runtime in PROGRAMS:
        for changes, exact in (({}, ()), ({"home": True}, ("HOME", "TMPDIR"))):
            environ = {**HOSTILE, "HOME": "/home/a b", "TMPDIR": "/t", "PATH": "/only", "LD_LIBRARY_PATH": "/image/lib"}
            argv = ["python3", "a.py", "--x=$HOME `id`", "two\nlines"]
            host = {**HOST, "APPTAINERENV_QUOTES": "the user's", "SINGULARITYENV_QUOTES": "the user's"}
            made = container.enter(entry(runtime, **changes), argv, environ, host, exact)
            text.append(f"--- {runtime.value} {changes}\n{shown(*made)}")
        asked = container.in_image(entry(runtime).settings, ["env", "-0"], HOST)
        text.append(f"--- {runtime.value}: the image's own variables\n{shown(*asked)}")
    golden("container_commands.txt", "".join(text))


@pytest.mark.parametrize("runtime", PROGRAMS)
def test_values_stay_as_they_are(runtime: Runtime) -> None:
    largest = {"TF_CONFIG": "x" * (118 << 10)}
    _, environ = container.enter(entry(runtime), ["a"], {**HOSTILE, **largest}, HOST)
    prefix = "" if runtime is Runtime.CHARLIECLOUD else f"{runtime.value.upper()}ENV_"
    assert {**HOSTILE, **largest}.items() == {name: environ[prefix + name] for name in HOSTILE}.items()


def test_the_image_changes_nothing_of_ours() -> None:
    worker = Assignment("worker", 0, {"worker": ("a:1",)}, None, {env.STRATEGY: "multi_worker"}, ("a",), False)
    job_env = {"LANG": "job"}
    inherited = container.inherited(HOST, IMAGE, ["TOKEN"])
    environ = program_environ(inherited, job_env, worker, 0, "/run/train.zip")
    assert environ["TF_CONFIG"] == '{"cluster":{"worker":["a:1"]},"task":{"index":0,"type":"worker"}}'
    assert {name: environ.get(name) for name in (*HOST, "ROCR_VISIBLE_DEVICES", env.TASK, "DTENSOR_CLIENT_ID")} == {
        "PATH": "/image/bin:/bin",
        "PYTHONPATH": "/image/lib:/run/train.zip",
        "PYTHONHOME": None,
        "LD_LIBRARY_PATH": None,
        "LD_PRELOAD": None,
        "BASH_FUNC_module%%": None,
        "TMPDIR": None,
        "VIRTUAL_ENV": None,
        "CUDA_VISIBLE_DEVICES": "0,1",
        "SLURM_PROCID": "1",
        "LANG": "job",
        "TOKEN": "host",
        "ONLY": "host",
        "ROCR_VISIBLE_DEVICES": None,
        env.TASK: "worker:0",
        "DTENSOR_CLIENT_ID": "0",
    }


def test_an_image_without_variables_has_a_path_and_named_ones_are_the_hosts() -> None:
    assert container.inherited(HOST, {}, [])["PATH"].startswith("/usr/local/sbin:")
    assert container.inherited(HOST, IMAGE, ["PATH", "LD_LIBRARY_PATH", "NOT_SET"])["PATH"] == "/host/bin"


def test_mounts_come_after_those_they_are_below() -> None:
    shared, read_only = Mount("/shared", "/shared"), Mount("/data", "/data", read_only=True)
    settings = ContainerSettings(Runtime.APPTAINER, (), "/i", (Mount("/x", "/data/deep/x"), read_only, shared))
    assert container.all_mounts(settings, ("/shared/run", "/data/run", "/work"), "/home/a") == (
        read_only,
        shared,
        Mount("/work", "/work"),
        Mount("/data/run", "/data/run"),  # the other mount is read-only
        Mount("/x", "/data/deep/x"),
    )
    with_home = ContainerSettings(Runtime.APPTAINER, (), "/i", home=True)
    assert container.all_mounts(with_home, ("/home/a/run",), "/home/a") == (Mount("/home/a", "/home/a"),)


def test_charliecloud_gets_the_mount_points_that_an_image_lacks() -> None:
    mounts = [Mount("/a", path) for path in ("/data", "/data/x", "/home/a/run", "/opt/site", "/scratch/x", "/full/x")]
    assert {top: [each.target for each in of] for top, of in container.covered(mounts, ["full"]).items()} == {
        "home": ["/home/a/run"],
        "scratch": ["/scratch/x"],
    }
