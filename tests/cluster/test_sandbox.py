"""The sandbox is a Slurm cluster like others, and leaves nothing behind."""

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.conftest import require
from tests.cluster.group import SLURM_TF, Member
from tests.conftest import ROOT
from tests.sandbox import cgroups, linux, needs
from tests.sandbox.cluster import Sandbox, take_down
from tests.sandbox.shape import USER_IDS, SandboxError, Shape

pytestmark = pytest.mark.slurm

OPEN_GPUS = "for gpu in 0 1 2 3; do (: < /dev/nvidia$gpu) 2>&1; done; true"
FORBIDDEN = "Operation not permitted"  # by the control group; an open that is allowed finds no driver


def traces(folder: Path) -> list[str]:
    """Return what is left on this machine of the sandbox in `folder`."""
    found = [str(folder)] if folder.exists() else []
    found += [str(path) for path in cgroups.TOP.glob(f"*/{cgroups.tree_name(folder)}")]
    for process in Path("/proc").glob("[0-9]*"):
        try:
            text = (process / "cmdline").read_text().replace("\0", " ") + (process / "mountinfo").read_text()
        except (OSError, UnicodeDecodeError):
            continue
        if str(folder) in text:
            found.append(f"{process.name}: {text.splitlines()[0]}")
    return found


def test_a_process_that_ends_while_it_is_looked_at_is_not_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    process = linux.Process.of(os.getpid())
    assert process.alive

    def read_text(_: Path) -> str:
        raise ProcessLookupError(errno.ESRCH, "No such process")

    monkeypatch.setattr(Path, "read_text", read_text)
    assert not process.alive


def links() -> str:
    done = subprocess.run(["ip", "-brief", "link"], capture_output=True, text=True, timeout=20, check=True)
    return done.stdout


def by_hand(*words: str) -> "subprocess.CompletedProcess[str]":
    """Run `python -m tests.sandbox`."""
    return subprocess.run(
        [sys.executable, "-m", "tests.sandbox", *words], cwd=ROOT, capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip


def test_every_node_is_a_host_of_its_own(sandbox: Sandbox) -> None:
    script = "hostname; cat /sys/class/net/eth0/address; touch /tmp/mine; ls /tmp/mine"
    done = sandbox.run("srun", "-N4", "--label", "sh", "-c", script)
    words = [line.split()[1] for line in done.stdout.splitlines()]
    assert set(sandbox.shape.names) <= set(words)
    assert len({word for word in words if ":" in word}) == 4
    assert not Path("/tmp/mine").exists()
    assert sandbox.run("hostname").stdout == "ctl\n"
    assert sandbox.run("hostname", node="node3").stdout == "node3\n"


def test_a_job_runs_this_python_and_this_repository(sandbox: Sandbox) -> None:
    code = "import os, slurm_tf, sys; print(os.getuid(), slurm_tf.__file__, sys.prefix)"
    done = sandbox.run("srun", "-N2", sys.executable, "-c", code, env={"PYTHONPATH": str(ROOT)})
    assert done.stdout.splitlines() == [f"20001 {ROOT}/slurm_tf/__init__.py {sys.prefix}"] * 2


def test_slurm_tf_of_the_fork_server_is_the_users_on_the_login_node(alice: Member) -> None:
    show = "id; hostname; readlink /proc/self/ns/*; grep -E 'Sig[BIC]|Cap|Groups' /proc/self/status; ls -n $PWD"
    # its parents: the agent, the coordinator, slurm-tf, of which it may read what a user may
    show += "; cat /proc/[0-9]*/environ 2> /dev/null | grep -ac XDG_STATE_HOME"
    alice.write("a.toml", f'name = "a"\nstrategy = "single"\ncommand = ["sh", "-c", "{show}"]\n[roles.worker]\n')
    forked = alice.ok("run", "a.toml", "--name=r")
    shutil.rmtree(alice.folder / "runs")
    assert forked == alice.run(*SLURM_TF, "run", "a.toml", "--name=r")
    assert f"uid={USER_IDS['alice']}(alice)" in forked
    assert "[worker:0] ctl\n" in forked


def test_the_shared_folder_is_one_and_homes_are_private(sandbox: Sandbox) -> None:
    sandbox.run("sh", "-c", "echo from node1 > note; echo secret > ~/secret", node="node1")
    assert (sandbox.shared / "note").read_text() == "from node1\n"
    assert sandbox.run("cat", "note", node="node2", user="bob").stdout == "from node1\n"
    assert sandbox.run("cat", f"{sandbox.home('alice')}/secret", node="node2").stdout == "secret\n"
    for forbidden in (["cat", f"{sandbox.home('alice')}/secret"], ["rm", "-f", "note"]):
        assert sandbox.run(*forbidden, user="bob", check=False).returncode == 1


@pytest.mark.skipif(bool(cgroups.missing()), reason="no cgroup version 1")
def test_with_cgroups_a_task_opens_its_own_gpus_only(sandbox: Sandbox) -> None:
    done = sandbox.run("srun", "--gpus-per-node=1", "sh", "-c", OPEN_GPUS)
    assert [FORBIDDEN in line for line in done.stdout.splitlines()] == [False, True, True, True]
    outside = sandbox.run("sh", "-c", OPEN_GPUS, node="node1")
    assert FORBIDDEN not in outside.stdout


def test_lua_plugins_and_the_task_prolog_speak(sandbox: Sandbox) -> None:
    assert "job_submit.lua says hello" in sandbox.run("srun", "--comment=hello", "true").stderr
    assert "cli_filter.lua says hello" in sandbox.run("srun", "--comment=cli-hello", "true").stderr
    for comment, who in (("reject", "job_submit.lua"), ("cli-reject", "cli_filter.lua")):
        done = sandbox.run("sbatch", f"--comment={comment}", "--wrap=true", check=False)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"{who} rejects this job" in done.stderr
    done = sandbox.run("srun", "-wnode2", "sh", "-c", "echo $SANDBOX_TASK_PROLOG")
    assert done.stdout == "node2-0\n"


def test_accounts_and_limits_hold(sandbox: Sandbox) -> None:
    done = sandbox.run("srun", "--qos=strict", "--gpus=4", "true", check=False)
    assert "QOSMaxGRESPerUser" in done.stderr
    done = sandbox.run("srun", "--account=nlp", "true", check=False)
    assert "Invalid account" in done.stderr
    sandbox.run("srun", "--account=nlp", "true", user="carol")
    job = sandbox.run("sbatch", "--parsable", "--partition=short", "--time=10", "--wrap=true").stdout.strip()
    reason = ("squeue", "-h", "-j", job, "-o", "%r")
    linux.wait_until("the limit", lambda: sandbox.run(*reason).stdout == "PartitionTimeLimit\n")
    sandbox.run("scancel", job)


def test_urgent_jobs_preempt_scavengers(sandbox: Sandbox) -> None:
    # no step in it: a step that heeds SIGTERM ends the script, and that job is done, not requeued
    words = ("--parsable", "--qos=scavenge", "-N4", "--exclusive", "--wrap=sleep 300")
    job = sandbox.run("sbatch", *words).stdout.strip()

    def scavenger() -> str:
        return sandbox.run("scontrol", "show", "job", job).stdout

    linux.wait_until("the scavenger runs", lambda: "JobState=RUNNING" in scavenger())
    sandbox.run("srun", "--qos=urgent", "-N4", "true", timeout=90)
    assert "JobState=PENDING" in scavenger()
    assert "Restarts=1" in scavenger()
    sandbox.run("scancel", job)


def test_signals_reach_what_runs_inside_and_nothing_outlives_popen(sandbox: Sandbox) -> None:
    script = "trap 'echo told; exit 7' TERM; echo ready; while :; do sleep 0.1; done"
    process = sandbox.popen("sh", "-c", script, stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    assert process.communicate(timeout=30)[0] == "told\n"
    assert process.returncode == 7
    process = sandbox.popen("sleep", "4321", node="node1")
    running = ["pgrep", "-f", "^sleep 4321"]
    linux.wait_until("sleep", lambda: sandbox.run(*running, node="node1", check=False).returncode == 0)
    process.kill()
    assert process.wait(timeout=30) == -signal.SIGKILL
    linux.wait_until("its end", lambda: sandbox.run(*running, node="node1", check=False).returncode == 1)


def test_a_command_that_takes_too_long_ends_with_all_it_started(sandbox: Sandbox) -> None:
    began = time.monotonic()
    with pytest.raises(subprocess.TimeoutExpired):
        sandbox.run("sh", "-c", "sleep 5432 & wait", node="node1", timeout=1)
    assert time.monotonic() - began < 30
    running = ["pgrep", "-f", "^sleep 5432"]
    linux.wait_until("its end", lambda: sandbox.run(*running, node="node1", check=False).returncode == 1)


def test_a_node_dies_and_comes_back(sandbox: Sandbox) -> None:
    sandbox.stop_node("node4")
    with pytest.raises(SandboxError, match="node4 is not up"):
        sandbox.run("true", node="node4")
    sandbox.start_node("node4")
    assert sandbox.run("srun", "-wnode4", "hostname").stdout == "node4\n"
    with pytest.raises(SandboxError, match="needed a node that was stopped"):
        sandbox.start_node("node4")


def test_a_second_one_of_another_shape_then_nothing_is_left(
    sandbox: Sandbox, start: Callable[[Shape], Sandbox]
) -> None:
    before = links()
    second = start(Shape(
        nodes=2, gpus="a100:2,t4:2", proctrack="linuxproc", partitions=("tiny Default=YES Nodes=node1",),
        limits=("modify account nlp set MaxJobs=0",),
    ))  # fmt: skip
    done = second.run("srun", "--gpus=t4:1", "sh", "-c", f"hostname; echo $CUDA_VISIBLE_DEVICES; {OPEN_GPUS}")
    assert done.stdout.split()[:2] == ["node1", "2"]
    assert FORBIDDEN not in done.stdout  # linuxproc forbids nothing
    assert "linuxproc" in second.run("scontrol", "show", "config").stdout
    done = second.run("srun", "--immediate=1", "true", user="bob", check=False)
    assert done.returncode == 1
    assert sandbox.run("squeue", "-h").stdout == second.run("squeue", "-h", "-t", "R").stdout == ""
    assert sandbox.run("srun", "-N4", "hostname").stdout.count("node") == 4
    assert links() == before
    inside = traces(second.folder)
    second.down()
    assert len(inside) > 5
    assert traces(second.folder) == []
    assert links() == before


def test_over_fuse_other_nodes_see_changes_late(start: Callable[[Shape], Sandbox]) -> None:
    shape = Shape(nodes=2, fuse=True)
    if not Path("/dev/fuse").exists():
        pytest.skip("no /dev/fuse")
    sandbox = start(shape)
    size = ["stat", "--format=%s", "log"]
    sandbox.run("sh", "-c", "echo one > log", node="node1")
    began = time.monotonic()
    assert sandbox.run(*size, node="node2").stdout == "4\n"
    sandbox.run("sh", "-c", "echo two >> log", node="node1")
    assert sandbox.run(*size, node="node1").stdout == "8\n"
    seen = sandbox.run(*size, node="node2").stdout
    assert seen == "4\n" or time.monotonic() - began > 30
    assert (sandbox.shared / "log").stat().st_size == 8
    sandbox.stop_node("node2")
    sandbox.start_node("node2")
    assert sandbox.run(*size, node="node2").stdout == "8\n"


def test_users_that_the_machine_adds_meanwhile_change_nothing(folder: Path) -> None:
    """useradd replaces /etc/passwd; here that of a machine whose /etc is a copy, in a mount namespace of its own."""
    require(Shape())
    code = (
        "import os, pathlib, shutil; from tests.sandbox import linux, mounts\n"
        "from tests.sandbox.cluster import Sandbox; from tests.sandbox.shape import Shape\n"
        f"linux.unshare(linux.NEWNS); mounts.own_etc(pathlib.Path({str(folder)!r}, 'machine'))\n"
        f"sandbox = Sandbox.up(pathlib.Path({str(folder)!r}, 'sandbox'), Shape(nodes=1), bound=True)\n"
        "for name in ('passwd', 'group', 'hosts'):\n"
        "    shutil.copy(f'/etc/{name}', f'/etc/{name}+'); os.rename(f'/etc/{name}+', f'/etc/{name}')\n"
        "print(sandbox.run('id', '-un').stdout, sandbox.run('srun', 'id', '-un').stdout)\n"
        "print(sandbox.run('getent', 'hosts', 'node1').stdout)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=200, check=False
    )
    assert done.stdout.split()[:2] == ["alice", "alice"], done.stderr
    assert "node1" in done.stdout.split()


def test_killing_the_owner_leaves_nothing(folder: Path) -> None:
    require(Shape())
    code = (
        "import pathlib, signal; from tests.sandbox.cluster import Sandbox; from tests.sandbox.shape import Shape\n"
        f"Sandbox.up(pathlib.Path({str(folder)!r}), Shape(nodes=1), bound=True)\n"
        "print('up', flush=True); signal.pause()"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        assert owner.stdout.readline() == "up\n"
        assert len(traces(folder)) > 5
        owner.kill()
    linux.wait_until("all gone", lambda: traces(folder) == [])


def test_by_hand_with_its_keeper_killed_in_between(folder: Path) -> None:
    require(Shape())
    where = ("--folder", str(folder))
    done = by_hand("up", *where, "--nodes", "1", "--gpus", "t4:1")
    assert done.returncode == 0, done.stderr
    assert "1 nodes of 8 CPUs, GPUs t4:1 (fake)" in done.stdout
    keeper = linux.Process.read(folder / "pids" / "keeper")
    login = linux.Process.read(folder / "pids" / "login")
    assert keeper
    assert login
    (folder / "shared" / "old").touch()
    keeper.kill()
    linux.wait_until("the sandbox ends with its keeper", lambda: not login.alive)
    assert "no sandbox is up" in by_hand("status", *where).stderr
    assert by_hand("up", *where, "--nodes", "1").returncode == 0
    assert not (folder / "shared" / "old").exists()
    assert "another shape is up" in by_hand("up", *where, "--nodes", "2").stderr
    assert by_hand("exec", *where, "--user", "bob", "--", "srun", "id", "-un").stdout == "bob\n"
    assert by_hand("exec", *where, "--", "sh", "-c", "exit 3").returncode == 3
    assert "gone" in by_hand("down", *where, "--keep").stdout
    assert (folder / "log" / "slurmctld.log").exists()
    assert traces(folder) == [str(folder)]
    assert "gone" in by_hand("down", *where).stdout
    assert traces(folder) == []
    assert "nothing is up" in by_hand("down", *where).stdout


def test_a_start_that_fails_shows_the_logs_and_leaves_nothing(folder: Path) -> None:
    require(Shape())
    with pytest.raises(SandboxError, match="cannot find priority plugin") as caught:
        Sandbox.up(folder, Shape(nodes=1, slurm_conf=("PriorityType=priority/none-such",)), bound=True)
    assert "the sandbox did not come up" in str(caught.value)
    assert traces(folder) == []


def test_what_is_missing_is_said(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require(Shape())
    monkeypatch.setattr(needs, "PATH", str(folder))
    with pytest.raises(needs.MissingError) as caught:
        Sandbox.up(folder, Shape(fuse=True))
    apt = "apt-get install --no-install-recommends slurm-wlm slurmdbd munge mariadb-server iproute2 bindfs"
    assert f"HINT: {apt}" in str(caught.value)
    assert "no slurmctld, slurmd, srun, slurmdbd" in str(caught.value)


def test_on_ci_a_missing_slurm_is_a_failure(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(needs, "PATH", str(tmp_path))
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match=r"root|apt-get install"):
        require(Shape())
    monkeypatch.setenv("CI", "")
    with pytest.raises(pytest.skip.Exception, match=r"root|apt-get install"):
        require(Shape())


@pytest.mark.parametrize("closed", ["", "way", "way/to", "way/to/it"])
def test_a_path_that_others_may_not_go_opens_inside_only(folder: Path, closed: str) -> None:
    require(Shape())
    wanted = folder / "way" / "to" / "it"
    wanted.mkdir(parents=True)
    folder.chmod(0o755)
    (wanted / "file").write_text("reached")
    (folder / closed).chmod(0o700)
    code = (
        "import os; from pathlib import Path; from tests.sandbox import linux, mounts\n"
        f"path = Path({str(wanted)!r}); linux.unshare(linux.NEWNS); mounts.hide_host_folders({{path: False}}, {{}})\n"
        "read_only = os.statvfs(path / 'file').f_flag & os.ST_RDONLY; os.setresuid(65534, 65534, 65534)\n"
        "print((path / 'file').read_text(), read_only)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == f"reached {os.ST_RDONLY}\n", done.stderr
    assert (folder / closed).stat().st_mode & 0o777 == 0o700


def test_who_is_not_root_is_told_so(folder: Path) -> None:
    require(Shape())
    code = (
        "import os, sys, tests.sandbox.__main__ as command\n"
        "os.setresuid(65534, 65534, 65534); sys.argv[1:] = ['up']; command.main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
        env={**os.environ, "TMPDIR": str(folder)},
    )  # fmt: skip
    assert done.returncode == needs.MissingError.exit_code
    assert done.stderr.startswith("sandbox: user id 65534; needed root")


def test_a_folder_with_something_else_is_left_alone(folder: Path) -> None:
    require(Shape())
    (folder / "thesis.tex").touch()
    with pytest.raises(SandboxError, match="holds something else"):
        Sandbox.up(folder, Shape())
    assert not take_down(folder)
    assert (folder / "thesis.tex").exists()
