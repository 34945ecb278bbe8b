"""Ranks, hosts and GPUs on a real Slurm, for each way to start the tasks of a cluster.

A start method is a function of a sandbox, the job's options (one list for each component), the roles and a program. It
starts the program as each task and returns what each task printed, by rank. Each case is tested with each start method;
one more test checks that the results of all start methods are equal.
"""

import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytest

from slurm_tf.launch.direct import direct_launch
from slurm_tf.run import json_file
from slurm_tf.run.folder import RunFolder
from slurm_tf.run.settings import AS_GIVEN, LaunchSettings, RoleSettings
from slurm_tf.run.train_settings import TrainSettings
from slurm_tf.submit import packed_modules, task_prolog

pytestmark = pytest.mark.slurm

PYTHON = "/usr/bin/python3"  # the nodes' own, which every user can read

# Prints one line: what it was told, where it is, which GPUs of the node it may open and which it would.
PROGRAM = """
import errno, glob, json, os, socket, time
def may_open(number):
    try:
        os.close(os.open(f"/dev/nvidia{number}", os.O_RDWR))
    except OSError as error:
        return error.errno in (errno.ENXIO, errno.ENODEV)  # allowed; there is no driver behind it
    return True
allowed = [number for number in range(16) if may_open(number)]
seen = os.environ.get("CUDA_VISIBLE_DEVICES", "")
print(json.dumps({
    "rank": int(os.environ["SLURM_PROCID"]), "node": os.environ["SLURMD_NODENAME"], "allowed": allowed,
    "host": socket.gethostbyname(os.environ["SLURMD_NODENAME"]), "config": json.loads(os.environ["TF_CONFIG"]),
    # names are places among the devices that the task's control group allows
    "opened": [allowed[int(name)] for name in seen.split(",") if name],
    "task": os.environ["SLURM_TF_TASK"], "devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
}), flush=True)
if "SLURM_TF_RUN" in os.environ:
    # a coordinator takes the end of a parameter server for a failure, and ends it when the first worker has ended
    open("said-" + os.environ["SLURM_PROCID"], "w").close()
    until = time.monotonic() + 600
    while time.monotonic() < until:
        all_have = len(glob.glob("said-*")) == int(os.environ["SLURM_NTASKS"])
        if all_have and not os.environ["SLURM_TF_TASK"].startswith("ps"):
            break
        time.sleep(0.05)
"""


class Sandbox(Protocol):
    """What these tests need of a cluster."""

    shared: Path

    def run(self, *argv: str, user: str = ..., env: Mapping[str, str] | None = ..., cwd: Path | None = ...,
            timeout: float = ..., check: bool = ...) -> Any: ...  # fmt: skip


Tasks = list[dict[str, Any]]
Options = Sequence[Sequence[str]]
StartMethod = Callable[[Sandbox, Options, str, Sequence[str]], Tasks]


def folder(sandbox: Sandbox) -> Path:
    """Return a folder that alice can write on every node, with the files that the start methods need."""
    path = Path(tempfile.mkdtemp(prefix="starts-", dir=sandbox.shared))
    path.chmod(0o777)
    (path / "launch.pyz").write_bytes(packed_modules.launcher())
    (path / "task-prolog").write_bytes(task_prolog.task_prolog(PYTHON))
    (path / "task-prolog").chmod(0o755)
    (path / "program.py").write_text(PROGRAM)
    return path


def step(sandbox: Sandbox, options: Options, srun: Sequence[str], env: Mapping[str, str], at: Path) -> str:
    """Run `srun` with `options`, or with a heterogeneous job around it if there are several; return what it printed."""
    if len(options) == 1:
        return str(sandbox.run("srun", *options[0], *srun, env=env, cwd=at).stdout)
    lines = ["#!/bin/bash"]
    for number, component in enumerate(options):
        lines += ["#SBATCH hetjob"] * bool(number) + [f"#SBATCH {' '.join(component)}"]
    groups = f"--het-group={','.join(map(str, range(len(options))))}"
    (at / "script").write_text("\n".join([*lines, shlex.join(["srun", groups, *srun]), ""]))
    sandbox.run("sbatch", "--wait", f"--output={at}/output", str(at / "script"), env=env, cwd=at)
    return (at / "output").read_text()


def by_rank(output: str) -> Tasks:
    tasks: Tasks = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    return sorted(tasks, key=lambda task: int(task["rank"]))


def launch(sandbox: Sandbox, options: Options, roles: str, program: Sequence[str]) -> Tasks:
    """`srun slurm-tf launch --roles ... -- PROGRAM`."""
    at = folder(sandbox)
    command = [PYTHON, "-IS", str(at / "launch.pyz"), "launch", "--roles", roles, "--", *program]
    return by_rank(step(sandbox, options, command, host_file(options, at), at))


def by_task_prolog(sandbox: Sandbox, options: Options, roles: str, program: Sequence[str]) -> Tasks:
    """`SLURM_TF_ROLES=... srun --task-prolog=... PROGRAM`."""
    at = folder(sandbox)
    command = [f"--task-prolog={at}/task-prolog", *program]
    return by_rank(step(sandbox, options, command, {"SLURM_TF_ROLES": roles, **host_file(options, at)}, at))


def coordinator(sandbox: Sandbox, options: Options, roles: str, program: Sequence[str]) -> Tasks:
    """The one command that a batch script of `slurm-tf submit` ends in."""
    at = folder(sandbox)
    gpus = any("gpu" in option for component in options for option in component)
    settings = LaunchSettings(
        run="r", local=False, strategy="between_graph", env={}, cluster_flags=False,
        gpu_sharing="split" if gpus else AS_GIVEN,
        roles=tuple(RoleSettings(role.name, role.count, role.gpus if gpus and on_gpus(role.name, options) else 0,
                                 tuple(program)) for role in direct_launch.parse_roles(roles)),
        max_restarts=0, register_timeout=30.0, wait=20.0, kill_wait=2.0, ports=None, coordinator_ports=None,
        interface="", train=TrainSettings(),
    )  # fmt: skip
    run = RunFolder(str(at / "run"))
    submission = run.submission(1)
    for path in (run.path, submission.path, run.logs, run.checkpoints, run.exports):
        sandbox.run("mkdir", "-m", "700", path)
    (at / "settings").write_text(json_file.dumps(settings))
    sandbox.run("cp", str(at / "settings"), submission.settings)
    launcher = [PYTHON, "-IS", str(at / "launch.pyz")]
    spread = [option for option in options[0] if option.startswith("--distribution")]
    groups = [f"--het-group={','.join(map(str, range(len(options))))}"] * (len(options) > 1)
    srun = ["srun", *groups, *spread, *launcher, "agent"]
    lines = ["#!/bin/bash"]
    for number, component in enumerate(options):
        asked = " ".join(option for option in component if option not in spread)
        lines += ["#SBATCH hetjob"] * bool(number) + [f"#SBATCH {asked}"]
    lines += [f"export {name}={shlex.quote(value)}" for name, value in host_file(options, at).items()]
    (at / "script").write_text(
        "\n".join([*lines, shlex.join([*launcher, "coordinate", submission.path, "--", *srun]), ""])
    )
    sandbox.run("sbatch", "--wait", f"--output={at}/output", str(at / "script"), cwd=at, check=False)
    output = (at / "output").read_text()
    return by_rank("\n".join(line.partition("] ")[2] for line in output.splitlines() if line.startswith("[")))


def on_gpus(role: str, options: Options) -> bool:
    """Whether a job file would ask for GPUs for this role: a chief of a component of its own has none here."""
    return role == "worker" or (role == "chief" and len(options) == 1)


START_METHODS: list[StartMethod] = [coordinator, launch, by_task_prolog]

# name: (options of each component, roles, node of each rank where the case is about that)
CASES: dict[str, tuple[Options, str, str]] = {
    "uneven": ([["-N3", "-n8"]], "chief=1,ps=2,worker=5", ""),
    "cyclic": ([["-N3", "-n8", "--distribution=cyclic"]], "worker=6,ps=2", "1 2 3 1 1 1 1 1"),
    "plane": ([["-N3", "-n8", "--distribution=plane=2"]], "ps=1,worker=7", "1 1 2 3 1 1 1 1"),
    "arbitrary": ([["-N3", "-n5", "--distribution=arbitrary"]], "worker=3,ps=2", "3 1 3 2 1"),
    "gres": ([["-N2", "-n4", "--ntasks-per-node=2", "--gres=gpu:2"]], "worker=4", ""),
    "gres-ps": ([["-N2", "-n4", "--ntasks-per-node=2", "--gres=gpu:2"]], "ps=1,worker=3", ""),
    "gres-evaluator": ([["-N1", "-n4", "--gres=gpu:3"]], "chief=1,worker=1,ps=1,evaluator=1", ""),
    "gpus-per-node": ([["-N2", "-n4", "--ntasks-per-node=2", "--gpus-per-node=3"]], "chief=1,worker=3", ""),
    "gpus-per-task": ([["-N2", "-n4", "--ntasks-per-node=2", "--gpus-per-task=1"]], "worker=4", ""),
    "gpus-uneven": ([["-N2", "-n4", "--gpus=4"]], "worker=4", "1 1 1 2"),
    "heterogeneous": (
        [["-N1", "-n2"], ["-N2", "-n4", "--ntasks-per-node=2", "--gpus-per-node=2"]], "ps=1,chief=1,worker=4", "",
    ),
}  # fmt: skip
# the others show what these show together
LONG = ("uneven", "arbitrary", "cyclic", "plane", "gres", "gres-ps", "gpus-per-node", "gpus-per-task")
EACH_CASE = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name in LONG)) for name in CASES]
)


def host_file(options: Options, at: Path) -> dict[str, str]:
    """Return the variable for the arbitrary distribution, with the nodes of that case."""
    if "--distribution=arbitrary" not in options[0]:
        return {}
    (at / "hosts").write_text("".join(f"node{number}\n" for number in CASES["arbitrary"][2].split()))
    return {"SLURM_HOSTFILE": str(at / "hosts")}


_RESULTS: dict[tuple[str, str], Tasks] = {}


def result(sandbox: Sandbox, start_method: StartMethod, name: str) -> Tasks:
    """Return what the tasks of a case print; each case runs once with each start method."""
    key = (start_method.__name__, name)
    if key not in _RESULTS:
        options, roles, _ = CASES[name]
        at = folder(sandbox)
        _RESULTS[key] = start_method(sandbox, options, roles, [PYTHON, str(at / "program.py")])
    return _RESULTS[key]


def check_places(tasks: Tasks, roles: str) -> None:
    """Each task has the place of its rank, and is on the node that its entry of the cluster names."""
    wanted = [f"{role.name}:{index}" for role in direct_launch.parse_roles(roles) for index in range(role.count)]
    assert [task["rank"] for task in tasks] == list(range(len(wanted)))
    assert [task["task"] for task in tasks] == wanted
    cluster = tasks[0]["config"]["cluster"]
    assert all(task["config"]["cluster"] == cluster for task in tasks)
    in_cluster = [task for task in tasks if not task["task"].startswith("evaluator")]
    assert sum(map(len, cluster.values())) == len(in_cluster)
    for task in tasks:
        place = task["config"]["task"]
        assert f"{place['type']}:{place['index']}" == task["task"]
        if task in in_cluster:
            assert cluster[place["type"]][place["index"]].rpartition(":")[0] == task["host"]


def check_gpus(tasks: Tasks) -> None:
    """Every GPU that a node's tasks may open is opened by one GPU task, and none by a ps or an evaluator.

    Where Slurm sets no variable for any task, none is set.
    """
    none_is_set = not any(task["allowed"] for task in tasks)
    for node in {task["node"] for task in tasks}:
        here = [task for task in tasks if task["node"] == node]
        allocated = {number for task in here for number in task["allowed"]}
        opened = [number for task in here for number in task["opened"]]
        assert sorted(opened) == sorted(allocated), here
        for task in here:
            if none_is_set:
                assert task["devices"] is None
            elif task["task"].startswith(("ps", "evaluator")):
                assert task["devices"] == ""
            else:
                assert bool(task["opened"]) == bool(allocated)


@EACH_CASE
@pytest.mark.parametrize("start_method", START_METHODS, ids=lambda method: method.__name__)
def test_every_rank_is_where_the_cluster_says_and_has_its_gpus(
    sandbox: Sandbox, start_method: StartMethod, name: str
) -> None:
    tasks = result(sandbox, start_method, name)
    check_places(tasks, CASES[name][1])
    check_gpus(tasks)
    wanted_gpus = "gpu" in str(CASES[name][0])
    assert any(task["opened"] for task in tasks) is wanted_gpus
    if CASES[name][2]:
        assert [task["node"] for task in tasks] == [f"node{number}" for number in CASES[name][2].split()]


@EACH_CASE
def test_all_start_methods_give_the_same(sandbox: Sandbox, name: str) -> None:
    first, *others = ([but_for_ports(task) for task in result(sandbox, each, name)] for each in START_METHODS)
    for other in others:
        assert other == first


def but_for_ports(task: dict[str, Any]) -> dict[str, Any]:
    cluster = {
        role: [address.rpartition(":")[0] for address in addresses]
        for role, addresses in task["config"]["cluster"].items()
    }
    # without a coordinator nothing says that a chief on a node without GPUs needs none: its variable stays unset
    return {**task, "config": {**task["config"], "cluster": cluster}, "devices": task["devices"] or ""}


@pytest.mark.long  # the order of such names: slurm/test_hostlist.py
@pytest.mark.parametrize("start_method", START_METHODS, ids=lambda method: method.__name__)
def test_node_names_without_leading_zeros(request: pytest.FixtureRequest, start_method: StartMethod) -> None:
    """node10 is after node9 for Slurm, and before node2 for whoever sorts names."""
    shape = pytest.importorskip("tests.sandbox.shape")
    sandbox = request.getfixturevalue("start")(shape.Shape(nodes=12))
    at = folder(sandbox)
    tasks = start_method(sandbox, [["-N12", "-n13"]], "ps=1,worker=12", [PYTHON, str(at / "program.py")])
    check_places(tasks, "ps=1,worker=12")
    assert [task["node"] for task in tasks] == ["node1", *(f"node{number}" for number in range(1, 13))]


@pytest.mark.long  # a rendezvous by files that come late: launch/direct/test_file_rendezvous.py
def test_a_folder_that_each_node_sees_late(request: pytest.FixtureRequest) -> None:
    """Names, sizes and "not there" are cached for 30 s on each node, also when a file is opened: worse than NFS."""
    shape = pytest.importorskip("tests.sandbox.shape")
    sandbox = request.getfixturevalue("start")(shape.Shape(nodes=2, fuse=True))
    at = folder(sandbox)
    command = [PYTHON, "-IS", str(at / "launch.pyz"), "launch", "--roles=ps=1,worker=3", "--"]
    done = sandbox.run("srun", "-N2", "-n4", *command, PYTHON, str(at / "program.py"), cwd=at, timeout=180)
    check_places(by_rank(done.stdout), "ps=1,worker=3")


# --- without a coordinator: `launch` and the TaskProlog ---


def test_signals_and_exit_codes_are_sruns(sandbox: Sandbox) -> None:
    at = folder(sandbox)
    command = [PYTHON, "-IS", str(at / "launch.pyz"), "launch", "--roles=worker=2", "--", "sh", "-c"]
    done = sandbox.run("srun", "-n2", *command, "exit $((7 * SLURM_PROCID))", cwd=at, check=False)
    assert done.returncode == 7
    ready = "trap 'echo got it; exit 0' USR1; touch ready-$SLURM_PROCID"
    wait = "[ $SLURM_PROCID = 1 ] || until [ -e ready-1 ]; do sleep 0.1; done"
    send = "[ $SLURM_PROCID = 1 ] || scancel --signal=USR1 $SLURM_JOB_ID.$SLURM_STEP_ID"
    done = sandbox.run("srun", "-n2", *command, f"{ready}; {wait}; {send}; sleep 30 & wait", cwd=at)
    assert done.stdout == "got it\ngot it\n"


def test_one_step_after_another_meets_anew(sandbox: Sandbox) -> None:
    at = folder(sandbox)
    launcher = shlex.join([PYTHON, "-IS", str(at / "launch.pyz"), "launch", "--roles=worker=3", "--"])
    twice = f"{launcher} sh -c 'echo $SLURM_TF_TASK'; {launcher} sh -c 'echo again $SLURM_TF_TASK'"
    (at / "script").write_text(
        f"#!/bin/bash\nsrun sh -c {shlex.quote(twice)}\nsrun {launcher} printenv SLURM_TF_TASK\n"
    )
    sandbox.run("sbatch", "--wait", "-N2", "-n3", f"--output={at}/output", str(at / "script"), cwd=at)
    names = [f"worker:{index}" for index in range(3)]
    # srun says so where the step before is not quite gone: "step creation temporarily disabled, retrying"
    printed = [line for line in (at / "output").read_text().splitlines() if not line.startswith("srun: ")]
    assert sorted(printed) == sorted([*names, *names, *(f"again {n}" for n in names)])
    assert os.listdir(at / ".slurm-tf") == []


@pytest.mark.parametrize("start_method", [launch, by_task_prolog], ids=lambda method: method.__name__)
def test_a_step_with_other_tasks_than_roles_starts_nothing(sandbox: Sandbox, start_method: StartMethod) -> None:
    at = folder(sandbox)
    if start_method is launch:
        command = [PYTHON, "-IS", str(at / "launch.pyz"), "launch", "--", "echo", "started"]
    else:
        command = [f"--task-prolog={at}/task-prolog", "echo", "started"]
    env = {"SLURM_TF_ROLES": "worker=4"}
    done = sandbox.run("srun", "-N2", "-n3", *command, env=env, cwd=at, check=False)
    assert done.returncode == 65
    printed = done.stdout + done.stderr
    assert printed.count("the roles 'worker=4' are 4 tasks, the step has 3") == 1
    assert "started" not in printed


def test_a_folder_that_somebody_else_made_is_refused(sandbox: Sandbox) -> None:
    at = folder(sandbox)
    sandbox.run("mkdir", "-m", "777", str(at / "theirs"), user="bob")
    command = [PYTHON, "-IS", str(at / "launch.pyz"), "launch", "--roles=worker=2", f"--exchange={at}/theirs", "--"]
    done = sandbox.run("srun", "-n2", *command, "echo", "started", cwd=at, check=False)
    assert done.returncode == 73
    assert f"the tasks cannot meet in {at}/theirs" in done.stderr
    assert "started" not in done.stdout


def test_a_sites_own_prolog_may_call_ours(sandbox: Sandbox) -> None:
    at = folder(sandbox)
    text = f'#!/bin/sh\necho "export SCRATCH=/scratch/$SLURM_JOB_ID"\nexec {at}/task-prolog\n'
    (at / "site").write_text(text)
    (at / "site").chmod(0o755)
    show = 'echo "${SCRATCH%/*} ${SLURM_TF_TASK-none}"'
    for env, wanted in (({}, ["none"] * 2), ({"SLURM_TF_ROLES": "worker=2"}, ["worker:0", "worker:1"])):
        done = sandbox.run("srun", "-n2", f"--task-prolog={at}/site", "sh", "-c", show, env=env, cwd=at)
        assert sorted(done.stdout.splitlines()) == [f"/scratch {name}" for name in wanted]


def test_a_prolog_passes_values_byte_for_byte(sandbox: Sandbox) -> None:
    """What docs/launch.md says of a TaskProlog's lines holds on this Slurm: any bytes, up to execve's limit."""
    at = folder(sandbox)
    values = {"QUOTES": """{"a b": 'c' \\ $HOME `x` # é} ; """, "LONG": "x" * 131_000 + "end", "BLANKS": "  two  "}
    lines = "".join(f"export {name}={value}\n" for name, value in values.items())
    (at / "lines").write_text(lines)
    (at / "prolog").write_text(f"#!/bin/sh\ncat {at}/lines\n")
    (at / "prolog").chmod(0o755)
    show = f"import json, os; json.dump({{name: os.environ[name] for name in {list(values)}}}, open('seen', 'w'))"
    sandbox.run("srun", "-n1", f"--task-prolog={at}/prolog", PYTHON, "-c", show, cwd=at)
    assert json.loads((at / "seen").read_text()) == values


@pytest.fixture(autouse=True, scope="module")
def _tidy(request: pytest.FixtureRequest) -> Any:
    """Remove what the tests put into the shared folder."""
    yield
    sandbox = request.getfixturevalue("sandbox")
    for path in sandbox.shared.glob("starts-*"):
        shutil.rmtree(path, ignore_errors=True)
