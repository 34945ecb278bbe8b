"""submit on a real Slurm: what it hands over, what it refuses, what it tells."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cluster.group import Member

pytestmark = pytest.mark.slurm

SHELL = 'strategy = "single"\ncommand = ["bash", "-c", "{program}"]\n{more}\n[roles.worker]\n'


def job(member: Member, program: str, name: str = "a", more: str = "", tables: str = "") -> str:
    """Write a job file of one task; return its name."""
    return member.write(f"{name}.toml", f'name = "{name}"\n' + SHELL.format(program=program, more=more) + tables)


def test_it_prints_the_job_the_run_its_logs_and_what_to_type_next(alice: Member) -> None:
    done = alice.type("submit", job(alice, "echo hi"), "--time=30", "--comment", "hello")
    assert done.returncode == 0, done.stderr
    word, number = done.stdout.rsplit(maxsplit=1)
    assert (word, number.isdigit()) == ("Submitted batch job", True)
    assert "Run a-1 in runs/a-1\n  logs  runs/a-1/logs\n  takes at most 0 GPU-hours, 0.5 CPU-hours\n" in done.stderr
    # of the site's job_submit plugin, as it is
    assert "sbatch: job_submit.lua says hello\n" in done.stderr
    for verb in ("status a-1", "logs a-1 --follow", "cancel a-1"):
        assert f"slurm_tf {verb} " in done.stderr
    assert alice.ok("wait", "a-1") == ""
    assert alice.sacct(number) == ["COMPLETED"]
    assert "[worker:0] hi\n" in (alice.folder / "runs" / "a-1" / "logs" / f"slurm-{number}.out").read_text()
    manifest = json.loads((alice.folder / "runs" / "a-1" / "manifest.json").read_text())
    assert manifest["versions"]["slurm"] == "22.05.8"


def test_a_dry_run_prints_the_very_bytes_and_leaves_nothing(alice: Member) -> None:
    name = job(alice, "echo hi")
    dry = alice.type("submit", name, "--dry-run", "-t", "5", "--hold")
    assert "to start at 20" in dry.stderr
    assert not (alice.folder / "runs").exists()
    number = alice.submit(name, "-t", "5", "--hold")
    assert (alice.folder / "runs" / "a-1" / "submission-1" / "script.sbatch").read_text() == dry.stdout
    assert alice.run("scontrol", "write", "batch_script", number, "-") == dry.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-A", "nobodys"], "Invalid account or account/partition combination specified"),
        (["--comment=reject"], "job_submit.lua rejects this job"),
        (["--comment=cli-reject"], "cli_filter.lua rejects this job"),
        (["-p", "nowhere"], "invalid partition specified: nowhere"),
    ],
)
def test_a_refusal_has_slurms_own_words_and_leaves_nothing(words: list[str], message: str, alice: Member) -> None:
    done = alice.type("submit", job(alice, "true"), *words)
    assert done.returncode == 1
    assert message in done.stderr
    assert list((alice.folder / "runs").iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nodes=2"], "command line: --nodes: found '2'; needed `ntasks-per-node` in a role's table"),
        (["-o", "x"], "command line: --output: found 'x'; needed the run's folder of logs"),
        (["--wrap=x"], "command line: --wrap: found 'x'; needed the key `command`"),
    ],
)
def test_options_that_slurm_tf_owns_are_refused_with_the_key_to_use(
    words: list[str], message: str, alice: Member
) -> None:
    done = alice.type("submit", job(alice, "true"), *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr


def test_the_command_line_outranks_the_environment_and_that_the_job_file(alice: Member) -> None:
    name = job(alice, "true", more='time = "1"\npartition = "main"')
    outside = {"SBATCH_TIMELIMIT": "3", "SBATCH_PARTITION": "cpu"}
    number = alice.submit(name, "--hold", environ=outside)
    shown = alice.run("scontrol", "show", "job", number)
    assert "Partition=cpu" in shown
    assert "TimeLimit=00:03:00" in shown
    number = alice.submit(name, "--hold", "-t4", environ=outside)
    assert "TimeLimit=00:04:00" in alice.run("scontrol", "show", "job", number)


def test_flags_from_the_environment_and_false_ones(alice: Member) -> None:
    name = job(alice, "echo [$SBATCH_ARGS]", more='time = "1"', tables="[sbatch]\nspread-job = true\n")
    outside = {
        "SBATCH_NO_REQUEUE": "1", "SBATCH_OVERCOMMIT": "yes", "SBATCH_USE_MIN_NODES": "1", "SBATCH_SPREAD_JOB": "0",
        "SBATCH_ACCOUNT": "", "SBATCH_CONTIGUOUS": "no", "SBATCH_ARGS": "mine",
    }  # fmt: skip
    number = alice.submit(name, environ=outside)
    assert "Requeue=0" in alice.run("scontrol", "show", "job", number)
    alice.ok("wait", "a-1")
    assert "[worker:0] [mine]\n" in alice.ok("logs", "a-1")
    # the sandbox has JobRequeue=1
    number = alice.submit(name, "--hold", "--set", "sbatch.requeue=false")
    assert "Requeue=0" in alice.run("scontrol", "show", "job", number)
    number = alice.submit(name, "--hold", environ={"SBATCH_REQUEUE": "1"})
    assert "Requeue=1" in alice.run("scontrol", "show", "job", number)


def test_quiet_and_verbose_and_test_only(alice: Member) -> None:
    name = job(alice, "true")
    quiet = alice.type("submit", name, "--hold", "-Q")
    assert (quiet.returncode, quiet.stdout, "logs" in quiet.stderr) == (0, "", False)
    loud = alice.type("submit", name, "--hold", "-vv")
    assert "sbatch: debug:" in loud.stderr
    tried = alice.type("submit", name, "--test-only")
    assert "to start at 20" in tried.stderr
    assert len(list((alice.folder / "runs").iterdir())) == 2


def test_export_none_and_variables_of_the_job_file(alice: Member) -> None:
    name = job(alice, "echo $A from $(type -p python3 | grep -c /)", tables='[env]\nA = "b c"\n')
    alice.submit(name, environ={"SBATCH_EXPORT": "NONE"})
    alice.ok("wait", "a-1")
    assert "[worker:0] b c from 1\n" in alice.ok("logs", "a-1")


def test_from_within_another_job(alice: Member) -> None:
    """An enclosing job's size, name, memory and GPUs are not the new one's."""
    inner = job(alice, "echo tasks $SLURM_NTASKS job $SLURM_JOB_NAME gpus [$CUDA_VISIBLE_DEVICES]", "inner")
    job(alice, f"python -m slurm_tf submit {inner} --wait", "outer", more="[sbatch]\nmem = 500")
    text = (alice.folder / "outer.toml").read_text().replace("[sbatch]\nmem = 500\n", "")
    alice.write("outer.toml", text.replace("[roles.worker]\n", '[roles.worker]\nmem = "500M"\ngpus-per-task = 2\n'))
    alice.submit("outer.toml", "--set", "snapshot=false")
    alice.ok("wait", "outer-1")
    assert "[worker:0] tasks 1 job stf-inner gpus []\n" in alice.ok("logs", "inner-1"), alice.ok("logs", "outer-1")


def test_what_a_shell_asks_srun_for_stays_there_and_what_setup_does_ends_the_job(alice: Member) -> None:
    left = {"SRUN_CPUS_PER_TASK": "64", "SLURM_GPUS_PER_TASK": "1", "SLURM_GRES": "gpu:9", "SLURM_CONSTRAINT": "big"}
    assert alice.type("submit", job(alice, "true"), "--wait", environ=left).returncode == 0
    done = alice.type("submit", job(alice, "true", "b", 'setup = "export SRUN_CPUS_PER_TASK=64"'), "--wait")
    assert done.returncode == 1, done.stderr
    (point,) = alice.status("b-1")
    assert "srun refused the step: Unable to create step for job" in point["reason_words"]
    assert "SRUN_CPUS_PER_TASK=64" in alice.ok("logs", "b-1")
    assert len(point["attempts"]) == 1


def test_a_line_of_setup_that_fails_ends_the_job(alice: Member) -> None:
    line = "source nosuch/activate"
    done = alice.type("submit", job(alice, "echo started", more=f'setup = "{line}"'), "--wait")
    assert done.returncode == 1, done.stderr
    text = alice.ok("logs", "a-1")
    assert f"of the script: {line}\n" in text
    assert "started" not in text
    (point,) = alice.status("a-1")
    assert point["reason_words"].startswith("the program does not start: exit code 1 of line ")
    assert point["reason_words"].endswith(f" of the script: {line}")
    assert alice.type("submit", job(alice, "true", "b", f'setup = "{line} || true"'), "--wait").returncode == 0


@pytest.mark.parametrize(
    ("program", "code"),
    [
        ("exit 7", 7),
        ("kill -9 $PPID", 1),
        pytest.param("exit 0", 0, marks=pytest.mark.long),
        pytest.param("kill -9 $$", 137, marks=pytest.mark.long),
    ],
)
def test_wait_has_the_exit_code_of_sbatch_wait(program: str, code: int, alice: Member) -> None:
    done = alice.type("submit", job(alice, program), "--wait")
    assert done.returncode == code, done.stderr
    script = str(alice.folder / "runs" / "a-1" / "submission-1" / "script.sbatch")
    sbatch = alice.sandbox.run("sbatch", "-W", script, cwd=alice.folder, env=alice.environ(), check=False)
    assert sbatch.returncode == code


def test_an_edit_after_submission_does_not_count(alice: Member) -> None:
    alice.write("program.sh", "echo as submitted; cat data.txt")
    alice.write("data.txt", "data\n")
    number = alice.submit(job(alice, "bash program.sh"), "--hold")
    alice.write("program.sh", "echo edited")
    alice.run("scontrol", "release", number)
    alice.ok("wait", "a-1")
    # lines of the launcher may come between them
    lines = [line for line in alice.ok("logs", "a-1").splitlines() if line.startswith("[worker:0] ")]
    assert lines == ["[worker:0] as submitted", "[worker:0] data"]


def test_what_slurm_takes_and_never_starts_is_told(alice: Member) -> None:
    done = alice.type("submit", job(alice, "true"), "-p", "short", "-t", "10")
    assert done.returncode == 0, done.stderr
    assert "will never start: its time limit is longer than its partition's" in done.stderr
    (point,) = alice.status("a-1")
    assert point["state"] == "PENDING"
    assert point["reason_words"].removesuffix(" (it will never start)") in done.stderr


def test_a_dependency_that_is_never_satisfied_is_told(alice: Member) -> None:
    first = alice.submit(job(alice, "exit 1", "first"))
    assert alice.type("wait", "first-1").returncode == 1
    alice.submit(job(alice, "true", "second"), f"--dependency=afterok:{first}")
    point = alice.wait_for("second-1", "reason", "DependencyNeverSatisfied")
    words = "a job that it depends on did not end as the dependency asks (it will never start)"
    assert point["reason_words"] == words
    assert words in alice.ok("status", "second-1")


@pytest.mark.parametrize("qos", ["gpuq", "strict"])
def test_what_a_qos_never_lets_start_is_refused(qos: str, alice: Member) -> None:
    """Slurm refuses it with the flag DenyOnLimit alone, and has it wait for ever without."""
    done = alice.type("submit", job(alice, "true", tables="gpus-per-task = 4\n"), "-q", qos)
    assert done.returncode == 2
    limit = f"it asks for 4 GPUs, and you have 3 GPUs in QOS {qos} at a time (MaxTRESPU gres/gpu=3)"
    assert f"{limit}: it can never start" in done.stderr
    assert not (alice.folder / "runs" / "a-1").exists()


def test_a_chain_trains_and_then_evaluates(alice: Member) -> None:
    train = alice.submit(job(alice, "sleep 1; date +%s%N > $SLURM_TF_CHECKPOINT_FOLDER/done", "train"))
    done = alice.folder / "runs" / "train-1" / "checkpoints" / "done"
    alice.submit(job(alice, f"cat {done}", "evaluate"), f"--dependency=afterok:{train}", "-d", f"afterok:{train}")
    alice.ok("wait", "evaluate-1")
    assert f"[worker:0] {done.read_text()}" in alice.ok("logs", "evaluate-1")


# as slurm_tf.train writes it
REPORTS = (
    r"printf '{\"step\": 10, \"at\": 0, \"attempt\": \"a\", \"values\": {\"loss\": 0.%02d}}\\n' {n} "
    "> $SLURM_TF_RUN_FOLDER/progress.jsonl; "
)


@pytest.mark.parametrize("count", [8, pytest.param(24, marks=pytest.mark.long)])
def test_a_sweep_as_one_array_with_two_points_submitted_again(count: int, alice: Member) -> None:
    mended = alice.folder / "mended"
    program = REPORTS + f"echo {{n}} from $SLURM_TF_RUN $PWD; test -e {mended} || case {{n}} in 3|7) false;; esac"
    number = alice.submit(job(alice, program, more=f"sweep.n = {list(range(1, count + 1))}"))
    assert alice.type("wait", "a-1").returncode == 1
    states = {point["run"]: point["state"] for point in alice.status("a-1")}
    assert [states[f"a-1/{n - 1}"] for n in range(1, count + 1)] == [
        "FAILED" if n in (3, 7) else "COMPLETED" for n in range(1, count + 1)
    ]
    folded = f"{count - 2}/{count} done, 2 failed"
    assert f"State       {folded}\nBest        min loss 0.01 at step 10 of a-1/0 (n=1)\n" in alice.ok("status", "a-1")
    assert [line.split()[:3] for line in alice.ok("list", "--all").splitlines()[1:]] == [
        ["a-1", number, f"{count - 2}/{count}"]
    ]
    rows = list(csv.DictReader(io.StringIO(alice.ok("results", "a-1", "--csv", "--sort", "loss"))))
    assert [(row["run"], row["n"], row["loss"], row["state"]) for row in rows] == [
        (f"a-1/{n - 1}", str(n), str(n / 100), "FAILED" if n in (3, 7) else "COMPLETED") for n in range(1, count + 1)
    ]
    assert all(float(row["seconds"]) > 0 for row in rows)
    assert f"2 of {count} failed: a-1/2, a-1/6\n" in alice.ok("results", "a-1")
    alice.ok("results", "a-1", "--html", "r.html")
    assert (alice.folder / "r.html").read_text().count("<polyline") == count
    alice.wait_for_sacct(number, {f"{number}_{n}" for n in range(count)})
    assert "[worker:0] 3 from a-1/2 " in alice.ok("logs", "a-1/2")
    alice.write("mended", "")
    again = alice.type("resubmit", "a-1", "--failed", "--parsable", "--wait")
    assert again.returncode == 0, again.stderr
    second = again.stdout.strip()
    alice.wait_for_sacct(second, {f"{second}_2", f"{second}_6"})
    assert {point["state"] for point in alice.status("a-1")} == {"COMPLETED"}
    assert alice.type("resubmit", "a-1", "--failed").returncode == 2
    assert alice.status(f"{second}_6")[0]["run"] == "a-1/6"


def test_a_sweep_of_a_heterogeneous_job_is_a_job_a_point_under_one_run(alice: Member) -> None:
    text = (
        'name = "h"\nstrategy = "between_graph"\njoin = "optional"\nsetup = \'echo setup sees $#\'\nsweep.n = [4, 5]\n'
        'command = ["bash", "-c", "echo $SLURM_TF_TASK n {n}; test $SLURM_TF_TASK != ps:0 || sleep 60"]\n'
        '[roles.worker]\ngpus-per-task = 1\n[roles.ps]\npartition = "cpu"\n'
    )
    done = alice.type("submit", alice.write("h.toml", text))
    numbers = [line.split()[-1] for line in done.stdout.splitlines()]
    assert len(numbers) == 2
    assert alice.ok("wait", "h-1") == ""
    for point, n in ((0, 4), (1, 5)):
        text = alice.ok("logs", f"h-1/{point}")
        assert f"[worker:0] worker:0 n {n}\n" in text
        assert "setup sees 0\n" in text
        assert alice.sacct(numbers[point], 2) == ["COMPLETED", "COMPLETED"]


def test_gpus_that_the_roles_state_and_those_that_none_does(alice: Member) -> None:
    """A type without a count is one GPU; the other component has none; where no role states any, Slurm decides.

    The parameter server has a command of its own.
    """
    until = "until [ -s $SLURM_TF_RUN_FOLDER/logs/ps-0.log ]; do sleep 0.1; done"
    says = f'command = ["bash", "-c", "echo [$CUDA_VISIBLE_DEVICES]; {until}"]\n'
    serves = 'command = ["bash", "-c", "echo serves [$CUDA_VISIBLE_DEVICES]; sleep 60"]\n'
    roles = f'[roles.worker]\ngpus-per-node = "a100"\n[roles.ps]\npartition = "cpu"\n{serves}'
    number = alice.submit(
        alice.write("h.toml", f'name = "h"\nstrategy = "between_graph"\njoin = "optional"\n{says}{roles}')
    )
    own = 'exclusive = true\nsetup = "export SLURM_GRES=gpu:2"'  # as a plugin or a wrapper of a site gives them
    alice.submit(job(alice, "echo [$CUDA_VISIBLE_DEVICES]", more=own, name="own"))
    alice.ok("wait", "h-1")
    text = alice.ok("logs", "h-1")
    assert "[worker:0] [0]\n" in text
    assert "[ps:0] serves []\n" in text
    assert alice.sacct(number, components=2) == ["COMPLETED", "COMPLETED"]
    rows = alice.run("sacct", "-nPX", "-j", number, "-o", "AllocTRES").splitlines()
    assert ["gres/gpu" in row for row in rows] == [True, False]
    alice.ok("wait", "own-1")
    assert "[worker:0] [0,1]\n" in alice.ok("logs", "own-1")
    refused = alice.type("submit", "own.toml", environ={"SBATCH_GRES": "gpu:a100:2"})
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "environment: SBATCH_GRES: found 'gpu:a100:2'; needed `gpus-per-node` in a role's table" in refused.stderr


def test_every_file_of_a_run_is_its_owners_alone(alice: Member, member: Callable[[str], Member]) -> None:
    alice.submit(job(alice, "true", tables='[env]\nTOKEN = "s3cret"\n'), "--hold")
    bob = member("bob")
    bob.sandbox.run("chmod", "0755", str(alice.folder), user="alice")
    assert bob.run("ls", str(alice.folder / "runs" / "a-1"), check=False) == ""
    assert bob.run("cat", str(alice.folder / "runs" / "a-1" / "submission-1" / "launch.json"), check=False) == ""
    assert "s3cret" not in (Path(alice.folder) / "runs" / "a-1" / "submission-1" / "script.sbatch").read_text()


def test_the_job_runs_a_copy_of_its_code_and_says_so(alice: Member) -> None:
    """What is beside the code is found, and what is further away is said to be out of reach, on the first failure."""
    alice.run("mkdir", "-p", "proj", "data", "proj/training_1")
    alice.write("data/x", "found")
    alice.write("proj/training_1/checkpoint", 'model_checkpoint_path: "cp-1"\n')
    alice.write("proj/a.toml", (alice.folder / job(alice, "cat ../data/x && cat ../../y")).read_text())
    done = alice.type("submit", "proj/a.toml", "--wait")
    assert done.returncode == 1, done.stderr
    assert f"  code  a copy of {alice.folder}/proj: 1 file of 0.1 kB\n" in done.stderr
    assert "  note  checkpoints in training_1 are linked, not copied: the job may go on from them\n" in done.stderr
    text = alice.ok("logs", "a-1")
    assert "found" in text
    assert "worker:0: ../../y is not there: the program ran in " in text
    shown = alice.type("submit", "proj/a.toml", "--hold", "--set", "snapshot=false").stderr
    assert "  code  proj itself: later edits have an effect\n" in shown
