"""`launch` without Slurm: real processes with the variables of a step."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.free_ports import free_range
from tests.launch.direct.direct_tasks import LAUNCHER, PROGRAM, one_error, places, seen, start

pytestmark = pytest.mark.slow


def test_each_task_becomes_the_program_at_its_place(tmp_path: Path) -> None:
    done = start([*LAUNCHER, "--roles", "chief=1,ps=1,worker=2", "--", *PROGRAM, "a b", "--"], 4, tmp_path)
    environs = [environ for environ, _ in seen(done)]
    assert [arguments for _, arguments in seen(done)] == [["a b", "--"]] * 4
    assert places(environs) == ["chief:0", "ps:0", "worker:0", "worker:1"]
    cluster = json.loads(environs[0]["TF_CONFIG"])["cluster"]
    addresses = [address for role in ("chief", "ps", "worker") for address in cluster[role]]
    assert len(set(addresses)) == 4
    for environ in environs:
        assert environ["SLURM_TF_TASK"] in places(environs)
        assert environ["no_proxy"] == environ["no_grpc_proxy"] == addresses[0].partition(":")[0]
    # nothing is left but the folder itself
    assert os.listdir(tmp_path / ".slurm-tf") == []
    assert (tmp_path / ".slurm-tf").stat().st_mode & 0o777 == 0o700


def test_in_json_it_stays_and_prints_how_each_task_ended(tmp_path: Path) -> None:
    # a signal at once is passed on as well
    killed = "[ $SLURM_PROCID = 0 ] || kill -9 $$"
    program = f"echo out; trap 'exit 7' USR1; {killed}; kill -USR1 $PPID; while sleep 0.1; do :; done"
    command = [*LAUNCHER, "--roles=ps=1,worker=1", "--json", "--", "bash", "-c", program]
    done = start(command, 2, tmp_path)
    ends = [json.loads(each.stdout) for each in done]  # and nothing else
    assert all(each.pop("seconds") > 0 for each in ends)
    assert ends == [
        {"task": "ps:0", "rank": 0, "node": "n1", "exit_code": 7, "signal": None, "reason": None},
        {"task": "worker:0", "rank": 1, "node": "n1", "exit_code": 137, "signal": "SIGKILL", "reason": None},
    ]
    assert [(each.returncode, each.stderr) for each in done] == [(7, "out\n"), (137, "out\n")]
    (alone,) = start([*LAUNCHER, "--roles=worker=1", "--json", "--", "nowhere"], 1, tmp_path)
    end = json.loads(alone.stdout)
    assert (alone.returncode, end["task"], end["exit_code"], end["seconds"]) == (127, "worker:0", 127, None)
    assert end["reason"].startswith("cannot start 'nowhere'")
    wrong = start([*LAUNCHER, "--roles=worker=3", "--json", "--", "true"], 2, tmp_path)
    ends = [json.loads(each.stdout) for each in wrong]
    assert [(each["task"], each["rank"], each["exit_code"]) for each in ends] == [(None, 0, 65), (None, 1, 65)]
    assert [each["reason"] for each in ends] == [
        "the roles 'worker=3' are 3 tasks, the step has 2",
        "another task of the step says why",
    ]


def test_a_role_may_have_a_program_of_its_own(tmp_path: Path) -> None:
    """As with `srun slurm-tf launch ... -- A : slurm-tf launch ... -- B`, or with srun --multi-prog."""
    launch = shlex.join([*LAUNCHER, "--roles", "ps=1,worker=2", "--", *PROGRAM])
    done = start(["bash", "-c", f"case $SLURM_PROCID in 0) {launch} serve;; *) {launch} train;; esac"], 3, tmp_path)
    assert places([environ for environ, _ in seen(done)]) == ["ps:0", "worker:0", "worker:1"]
    assert [arguments for _, arguments in seen(done)] == [["serve"], ["train"], ["train"]]


def test_gpus_are_shared_out_and_ps_and_evaluator_see_none(tmp_path: Path) -> None:
    command = [*LAUNCHER, "--roles=ps=1,worker=2,evaluator=1", "--", *PROGRAM]
    done = start(command, 4, tmp_path, environ={"CUDA_VISIBLE_DEVICES": "0,1,2", "ROCR_VISIBLE_DEVICES": "0,1,2"})
    environs = [environ for environ, _ in seen(done)]
    for name in ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES"):
        assert [environ[name] for environ in environs] == ["", "0,1", "2", ""]


def test_a_variable_that_is_not_set_stays_so(tmp_path: Path) -> None:
    """As at a site whose GPUs are no GRES."""
    command = [*LAUNCHER, "--roles=ps=1,worker=2", "--", *PROGRAM]
    for environ, _ in seen(start(command, 3, tmp_path)):
        assert "CUDA_VISIBLE_DEVICES" not in environ


def test_sharing_all_leaves_a_worker_what_it_sees(tmp_path: Path) -> None:
    command = [*LAUNCHER, "--roles=ps=1,worker=2", "--gpu-sharing", "all", "--", *PROGRAM]
    environs = [environ for environ, _ in seen(start(command, 3, tmp_path, environ={"CUDA_VISIBLE_DEVICES": "0"}))]
    assert [environ["CUDA_VISIBLE_DEVICES"] for environ in environs] == ["", "0", "0"]


def test_options_and_variables_say_the_same(tmp_path: Path) -> None:
    low, high = free_range(4)
    folder = tmp_path / "meet here"
    options = [f"--exchange={folder}", f"--ports={low}-{high}", "--interface=lo", "--strategy=ps", "--cluster-flags"]
    typed = seen(start([*LAUNCHER, "--roles=ps=1,worker=1", *options, "--", *PROGRAM], 2, tmp_path))
    variables = {
        "SLURM_TF_ROLES": "ps=1,worker=1", "SLURM_TF_EXCHANGE": str(folder), "SLURM_TF_PORTS": f"{low}-{high}",
        "SLURM_TF_INTERFACE": "lo", "SLURM_TF_STRATEGY": "ps",
    }  # fmt: skip
    said = seen(start([*LAUNCHER, "--cluster-flags", "--", *PROGRAM], 2, tmp_path, environ=variables))
    for results in (typed, said):
        for environ, arguments in results:
            cluster = json.loads(environ["TF_CONFIG"])["cluster"]
            ports = [int(address.removeprefix("127.0.0.1:")) for address in (*cluster["ps"], *cluster["worker"])]
            assert all(low <= port <= high for port in ports)
            assert environ["SLURM_TF_STRATEGY"] == "ps"
            assert environ["GRPC_FAIL_FAST"] == "use_caller"
            assert arguments[:2] == [f"--ps_hosts=127.0.0.1:{ports[0]}", f"--worker_hosts=127.0.0.1:{ports[1]}"]
    assert os.listdir(tmp_path) == ["meet here"]


def test_the_program_holds_its_port_and_can_listen_on_it(tmp_path: Path) -> None:
    program = """if True:
        import errno, json, os, socket
        place = json.loads(os.environ["TF_CONFIG"])
        port = int(place["cluster"]["worker"][0].rpartition(":")[2])
        try:
            socket.socket().bind(("", port))
        except OSError as error:
            assert error.errno == errno.EADDRINUSE
        else:
            raise AssertionError("anybody could have taken the port")
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind(("", port))
            sock.listen()
    """
    done = start([*LAUNCHER, "--roles=worker=1", "--", sys.executable, "-c", program], 1, tmp_path)
    assert done[0].returncode == 0, done[0].stderr


def test_the_program_ignores_no_signal_that_python_does(tmp_path: Path) -> None:
    (done,) = start([*LAUNCHER, "--roles=worker=1", "--", "grep", "SigIgn", "/proc/self/status"], 1, tmp_path)
    ignored = int(done.stdout.split()[1], 16)
    # whoever started the tests may ignore signals of its own
    assert not any(ignored >> (number - 1) & 1 for number in (signal.SIGPIPE, signal.SIGXFSZ))


@pytest.mark.parametrize(("command", "code"), [("/no/such", 127), ("/etc/hostname", 126)])
def test_a_program_that_cannot_be_started(command: str, code: int, tmp_path: Path) -> None:
    (done,) = start([*LAUNCHER, "--roles=worker=1", "--", command], 1, tmp_path)
    assert done.returncode == code
    assert re.match(rf"slurm-tf: worker:0 on \S+: cannot start '{command}' \({command}: ", done.stderr)


@pytest.mark.parametrize(
    ("options", "code", "text"),
    [
        (["--roles=worker=4"], 65, "the roles 'worker=4' are 4 tasks, the step has 3"),
        (["--roles=worker=2,worker=1"], 2, "found 'worker=1' in the roles 'worker=2,worker=1'"),
        (["--roles=worker=3", "--strategy=x"], 2, "found 'x'; needed one of multi_worker, ps, between_graph"),
        (["--roles=worker=3", "--ports=9-1"], 75, "rank 0 on n1: found '9-1'; needed a range of ports"),
        (["--roles=worker=3", "--interface=none0"], 75, "rank 0 on n1: interface 'none0' has no IPv4 address"),
    ],
)
def test_what_cannot_be_is_said_once(options: list[str], code: int, text: str, tmp_path: Path) -> None:
    assert text in one_error(start([*LAUNCHER, *options, "--", *PROGRAM], 3, tmp_path), code)
    assert os.listdir(tmp_path / ".slurm-tf") == []


def test_too_few_gpus_are_said_once(tmp_path: Path) -> None:
    done = start([*LAUNCHER, "--roles=worker=3", "--", *PROGRAM], 3, tmp_path, environ={"CUDA_VISIBLE_DEVICES": "0,1"})
    assert "3 GPU tasks on n1 share 2 GPUs" in one_error(done, 65)


def test_a_missing_rank_is_named(tmp_path: Path) -> None:
    command = [*LAUNCHER, "--roles=worker=4", "--register-timeout=8", "--", *PROGRAM]
    text = one_error(start(command, 4, tmp_path, ranks=[0, 1, 3]), 75)
    assert f"3/4 tasks met in {tmp_path}/.slurm-tf/c-7-0-0 in 8 s; missing: rank 2;" in text


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to somebody else")
def test_a_folder_of_somebody_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / ".slurm-tf").mkdir()
    os.chown(tmp_path / ".slurm-tf", 12345, 12345)
    (done,) = start([*LAUNCHER, "--roles=worker=1", "--", *PROGRAM], 1, tmp_path)
    assert done.returncode == 73
    assert "user id 12345" in done.stderr
    assert "--exchange" in done.stderr


@pytest.mark.parametrize("variables", [{}, {"SLURM_STEP_ID": "4294967290", "SLURM_PROCID": "0", "SLURM_NTASKS": "4"}])
def test_outside_of_a_step_there_is_one_hint(variables: dict[str, str]) -> None:
    environ = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **variables}
    done = subprocess.run(
        [*LAUNCHER, "--roles=worker=4", "--", "true"],
        env=environ,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 69
    assert "no task of a Slurm step" in done.stderr
    assert "HINT: put srun in front of the command" in done.stderr


@pytest.mark.parametrize("options", [["--roles=worker=1"], ["--", "true"], ["--rols=worker=1", "--", "true"]])
def test_wrong_options_end_at_once(options: list[str], tmp_path: Path) -> None:
    (done,) = start([*LAUNCHER, *options], 1, tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: slurm-tf launch")


def test_the_verb_loads_nothing_of_the_login_side(tmp_path: Path) -> None:
    code = (
        "import os, sys\nos.execvpe = lambda *_: (print(*sys.modules, flush=True), os._exit(0))\n"
        "sys.argv[1:] = ['launch', '--roles', 'worker=1', '--', 'x']\nfrom slurm_tf.cli import main\nmain()"
    )
    (done,) = start([sys.executable, "-c", code], 1, tmp_path)
    assert "slurm_tf.launch.direct.direct_launch" in done.stdout.split()
    assert not {"click", "msgspec", "jinja2", "subprocess", "tensorflow"} & set(done.stdout.split())
