"""What reaches sbatch: the environment, the calls, and what is written down of them."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from slurm_tf.errors import ConfigError, RunError, SlurmError
from slurm_tf.jobspec.configuration import Job
from slurm_tf.jobspec.plan import Plan
from slurm_tf.jobspec.sites import Prices
from slurm_tf.run import job_chain
from slurm_tf.run.folder import RunFolder
from slurm_tf.slurm import in_job
from slurm_tf.slurm.billing import Weights
from slurm_tf.submit import estimate, new_run, sbatch

pytestmark = pytest.mark.slow

SINGLE = 'name = "a"\nstrategy = "single"\ncommand = ["x", "{lr}"]\nsweep.lr = [1, 2, 3]\n[roles.worker]\n'
HET = (
    'name = "a"\nstrategy = "between_graph"\ncommand = ["x", "{lr}"]\nsweep.lr = [1, 2]\n'
    '[roles.worker]\nconstraint = "ib"\n[roles.ps]\n'
)
# Answers job numbers 7, 8, ...; keeps its arguments and environment; refuses the call that REFUSE names.
SBATCH = """#!/bin/bash
number=$(( $(ls "$KEPT" | grep -c args) + 7 ))
if [ "$1" = --version ]; then echo slurm-wlm 22.05.8; exit; fi
printf '%s\\0' "$@" > "$KEPT/args-$number"
env -0 > "$KEPT/env-$number"
if [ "$number" = "$REFUSE" ]; then echo "sbatch: error: no: $USER_TEXT" >&2; exit 1; fi
echo "sbatch: a word from a plugin" >&2
echo "$number"
"""


class FakeSbatch:
    """A program named sbatch in PATH; the real one is tried in tests/cluster."""

    def __init__(self, folder: Path) -> None:
        self.kept = folder / "kept"

    def arguments(self) -> list[list[str]]:
        calls = sorted(self.kept.glob("args-*"), key=lambda path: int(path.name[5:]))
        return [path.read_text().split("\0")[:-1] for path in calls]

    def environ(self, number: int) -> dict[str, str]:
        rows = (self.kept / f"env-{number}").read_text().split("\0")[:-1]
        return dict(row.split("=", 1) for row in rows)


@pytest.fixture
def fake_sbatch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSbatch:
    (tmp_path / "bin").mkdir()
    (tmp_path / "kept").mkdir()
    (tmp_path / "bin" / "sbatch").write_text(SBATCH)
    (tmp_path / "bin" / "sbatch").chmod(0o755)
    (tmp_path / "bin" / "scontrol").symlink_to("sbatch")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.setenv("KEPT", str(tmp_path / "kept"))
    return FakeSbatch(tmp_path)


@pytest.fixture
def prepare(load: Callable[..., Job], tmp_path: Path) -> Callable[[str], Plan]:
    return lambda text: new_run.prepare(load(text, environ={"SLURM_TF_RUNS": str(tmp_path / "runs")}), "")


def test_the_environment_of_an_enclosing_job_goes() -> None:
    environ = {
        "SLURM_CONF": "c", "SLURM_CLUSTERS": "x", "SLURM_JWT": "t", "SBATCH_PARTITION": "p", "SBATCH_EXPORT": "NONE",
        "SLURM_TF_SITE": "s", "SLURM_TF_SECRET": "s", "HOME": "h", "SLURM_JOB_ID": "1", "SLURM_NTASKS": "4",
        "PMI_RANK": "0", "PMIX_ID": "0", "OMPI_COMM": "0", "CUDA_VISIBLE_DEVICES": "3", "TF_CONFIG": "{}",
        "SLURMD_NODENAME": "n",
    }  # fmt: skip
    assert set(in_job.environ_for_sbatch(environ)) == {
        "SLURM_CONF", "SLURM_JWT", "SBATCH_EXPORT", "SLURM_TF_SITE", "HOME",
    }  # fmt: skip


def test_what_only_means_something_inside_a_job_stays_in_the_login_shell() -> None:
    travels = {
        "HOME": "h", "SLURM_CONF": "c", "SLURM_CPU_BIND": "cores", "SLURM_MPI_TYPE": "pmix",
        "OMPI_MCA_btl": "tcp", "SLURM_TF_SITE": "s", "SBATCH_EXPORT": "ALL",
        "MY_SLURM_GRES": "gpu:9",
    }  # fmt: skip
    stays = {
        "SRUN_CPUS_PER_TASK": "64", "SLURM_GPUS_PER_TASK": "1", "SLURM_GRES": "gpu:9", "SLURM_CONSTRAINT": "big",
        "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2", "SLURM_NODELIST": "n1", "SLURM_EXPORT_ENV": "NONE",
        "SLURMD_NODENAME": "n", "PMI_RANK": "0", "PMIX_RANK": "0", "OMPI_COMM_WORLD_RANK": "0", "TF_CONFIG": "{}",
        "CUDA_VISIBLE_DEVICES": "", "SLURM_HINT": "compute_bound",
    }  # fmt: skip
    assert in_job.environ_for_sbatch({**travels, **stays}) == travels
    # for srun's own job they are options
    assert in_job.environ_for_srun({**travels, **stays}) == {**travels, **stays}
    assert set(in_job.environ_for_srun({**stays, "SLURM_JOB_ID": "1"})) == set()


def test_a_sweep_is_one_call_and_its_points_are_known(
    fake_sbatch: FakeSbatch, prepare: Callable[[str], Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SBATCH_PARTITION", "elsewhere")
    plan = prepare(SINGLE)
    sent = sbatch.submit(sbatch.SubmitRequest.of(plan))
    assert sent.jobs == ("7",)
    assert sent.messages == "sbatch: a word from a plugin\n"
    assert fake_sbatch.arguments() == [["--parsable", "--array=0-2", plan.submission.script]]
    assert "SBATCH_PARTITION" not in fake_sbatch.environ(7)
    assert job_chain.newest(plan.run) == {0: "7_0", 1: "7_1", 2: "7_2"}
    again = sbatch.submit(sbatch.SubmitRequest(plan.submission, (1,), 4, one_job=True))
    assert again.jobs == ("8",)
    assert fake_sbatch.arguments()[1] == ["--parsable", "--array=1%4", plan.submission.script]
    assert job_chain.newest(plan.run) == {0: "7_0", 1: "8_1", 2: "7_2"}
    assert json.loads(Path(plan.run.manifest).read_text())["versions"]["slurm"] == "22.05.8"


def test_a_heterogeneous_sweep_is_a_call_a_point(fake_sbatch: FakeSbatch, prepare: Callable[[str], Plan]) -> None:
    plan = prepare(HET)
    assert sbatch.submit(sbatch.SubmitRequest.of(plan)).jobs == ("7", "8")
    assert fake_sbatch.arguments() == [
        ["--parsable", plan.submission.script, "0"],
        ["--parsable", plan.submission.script, "1"],
    ]
    assert job_chain.newest(plan.run) == {0: "7", 1: "8"}


@pytest.mark.parametrize(
    ("more", "waits"),
    [
        ("", ["", "", "", ""]),
        ('array = "%1"\n', ["", "afterany:7", "afterany:8", "afterany:9"]),
        (
            'array = "0-3%2"\n[sbatch]\ndependency = "afterok:3"\n',
            ["", "", "afterok:3,afterany:7", "afterok:3,afterany:8"],
        ),
    ],
)
def test_the_limit_of_a_heterogeneous_sweep(
    more: str, waits: list[str], fake_sbatch: FakeSbatch, prepare: Callable[[str], Plan]
) -> None:
    head, _, roles = HET.replace("[1, 2]", "[1, 2, 3, 4]").partition("[roles")
    sbatch.submit(sbatch.SubmitRequest.of(prepare(f"{head}{more}[roles{roles}")))
    given = [
        next((word for word in words if word.startswith("--dependency=")), "") for words in fake_sbatch.arguments()
    ]
    assert [each.removeprefix("--dependency=") for each in given] == waits


def test_a_limit_and_a_dependency_that_is_fulfilled_by_one_of_several(fit: Callable[..., Plan]) -> None:
    text = HET + '[sbatch]\ndependency = "afterok:3?afterok:4"\n'
    fit(text)
    with pytest.raises(ConfigError, match=r"sbatch.dependency: found \? and the limit %1; needed conditions that all"):
        fit('array = "%1"\n' + text)


def test_a_refusal_has_slurms_own_words_and_what_was_taken_is_known(
    fake_sbatch: FakeSbatch, prepare: Callable[[str], Plan], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUSE", "8")
    monkeypatch.setenv("USER_TEXT", "a | b")
    plan = prepare(HET)
    with pytest.raises(SlurmError, match=r"no: a \| b \(sbatch ended with exit code 1\); 7 submitted before it"):
        sbatch.submit(sbatch.SubmitRequest.of(plan))
    assert job_chain.newest(plan.run) == {0: "7"}
    new_run.remove_unused(plan.submission)
    assert Path(plan.run.path).exists()
    assert len(fake_sbatch.arguments()) == 2


def test_a_run_of_which_nothing_was_taken_is_forgotten(prepare: Callable[[str], Plan]) -> None:
    plan = prepare(SINGLE)
    new_run.remove_unused(plan.submission)
    assert not Path(plan.run.path).exists()


def test_a_cancelled_run_that_is_submitted_again_may_start(
    fake_sbatch: FakeSbatch, prepare: Callable[[str], Plan]
) -> None:
    plan = prepare(SINGLE)
    os.makedirs(plan.run.point(1).path)
    for folder in (plan.run, plan.run.point(1)):
        Path(folder.cancelled).touch()
    sbatch.submit(sbatch.SubmitRequest.of(plan))
    assert not os.path.exists(plan.run.cancelled)
    assert not os.path.exists(plan.run.point(1).cancelled)
    assert fake_sbatch.arguments()


def test_submissions_of_another_version(tmp_path: Path) -> None:
    run = RunFolder(str(tmp_path))
    assert job_chain.read(run) == ()
    (tmp_path / "jobs.json").write_text('{"contract": 99, "jobs": []}')
    with pytest.raises(RunError, match=r"jobs.json was written by another release .*\(found contract version 99\)"):
        job_chain.read(run)


@pytest.mark.parametrize(
    ("role", "cpu", "gpu"),
    [
        ("", 2.0, 0.0),
        ("cpus-per-task = 4\ngpus-per-task = 2\n", 8.0, 4.0),
        ('gpus = "a100:3"\n', 2.0, 3.0),
        ("ntasks-per-node = 1\ngpus-per-node = 2\n", 2.0, 4.0),
        ("gpus-per-node = 2\n", 2.0, None),
    ],
)
def test_hours(role: str, cpu: float, gpu: float | None, fit: Callable[..., Plan]) -> None:
    job = 'name = "a"\nstrategy = "multi_worker"\ncommand = ["x"]\ntime = "60"\n[roles.worker]\ncount = 2\n'
    assert estimate.at_most(fit(job + role)) == estimate.Hours(cpu, gpu)


def test_hours_of_all_points_what_is_unknown_and_prices(fit: Callable[..., Plan]) -> None:
    assert estimate.at_most(fit('time = "2:00:00"\n' + SINGLE)) == estimate.Hours(6.0, 0.0)
    assert estimate.at_most(fit(SINGLE)) == estimate.Hours(None, None)
    assert estimate.at_most(fit('time = "60"\nexclusive = true\n' + SINGLE)).cpu is None
    prices = Prices("EUR", 0.5, None)
    assert estimate.Hours(2.0, 0.0).price(prices) == 1.0
    assert estimate.Hours(2.0, 1.0).price(prices) is None
    assert estimate.Hours(None, 0.0).price(prices) is None


WEIGHTS = Weights({"cpu": 1.0, "mem": 0.25 / 1024, "gres/gpu": 2.0, "gres/gpu:a100": 3.0})


@pytest.mark.parametrize(
    ("role", "billed"),
    [
        ("", None),  # how much memory the site gives is not known
        ('mem-per-cpu = "2G"\ncpus-per-task = 4\n', 12.0),
        ('mem = "2G"\n', None),
        ('mem = "2G"\nntasks-per-node = 1\n', 3.0),
        ('mem = "0"\nntasks-per-node = 1\n', None),
        ('mem-per-gpu = "1G"\ngpus = "a100:2"\n', 12.0),
        ('mem-per-cpu = "3900M"\npartition = "other"\n', 24.0),
        ('mem-per-cpu = "1G"\npartition = "without"\n', None),
    ],
)
def test_billing_hours(role: str, billed: float | None, fit: Callable[..., Plan]) -> None:
    job = 'name = "a"\nstrategy = "multi_worker"\ncommand = ["x"]\ntime = "60"\n[roles.worker]\ncount = 2\n'
    weights = {"": WEIGHTS, "other": Weights({"cpu": 12.0})}
    assert estimate.billing_at_most(fit(job + role), weights) == billed


@pytest.mark.parametrize(
    "more", ["exclusive = true\n", '[sbatch]\nclusters = "b"\n', '[sbatch]\nhint = "nomultithread"\n']
)
def test_billing_of_what_is_not_known(more: str, fit: Callable[..., Plan]) -> None:
    weights = {"": Weights({"cpu": 1.0})}
    job = f'time = "30"\n{SINGLE}'
    assert estimate.billing_at_most(fit(job), weights) == 1.5
    assert estimate.billing_at_most(fit(more + job if more[0] == "e" else job + more), weights) is None
    assert estimate.billing_at_most(fit(SINGLE), weights) is None


def test_each_component_is_billed_by_itself(fit: Callable[..., Plan]) -> None:
    job = f'time = "120"\npartition = "p"\n{HET}mem = "2G"\npartition = "q"\n'
    weights = {"p": Weights({"cpu": 1.9}), "q": Weights({"cpu": 1.0, "mem": 0.001})}
    assert estimate.billing_at_most(fit(job), weights) == (1 + 3) * 2 * 2
    assert estimate.billing_at_most(fit(job), {"p": weights["p"]}) is None


@pytest.mark.parametrize(
    ("more", "shares"),
    [("", True), ("exclusive = true\n", False), ('exclusive = "user"\n', False)],
)
def test_nodes_that_others_may_share(more: str, shares: bool, fit: Callable[..., Plan]) -> None:
    assert sbatch.shares_nodes(fit(more + HET)) is shares
    assert not sbatch.shares_nodes(fit(more + SINGLE))
    assert not sbatch.has_open_data_service(fit(more + HET))
    with_service = f"{SINGLE}[roles.data-dispatcher]\n[roles.data-worker]\n"
    assert sbatch.has_open_data_service(fit(more + with_service)) is shares


@pytest.mark.parametrize(
    ("more", "is_advised"),
    [("exclusive = true\n", True), ('exclusive = "user"\n', False), ("", False)],
)
def test_memory_for_each_cpu_of_exclusive_nodes(more: str, is_advised: bool, fit: Callable[..., Plan]) -> None:
    of_nodes, other = map(SlurmError, ("Requested node configuration is not available", "Invalid account"))
    per_cpu = fit(more + SINGLE + 'mem-per-cpu = "2G"\n')
    advised = sbatch.advice_after_refusal(per_cpu, of_nodes)
    assert ("use --exclusive=user, which also keeps other users off" in advised) == is_advised
    assert not sbatch.advice_after_refusal(per_cpu, other)
    assert not sbatch.advice_after_refusal(fit(more + SINGLE + 'mem = "2G"\n'), of_nodes)
