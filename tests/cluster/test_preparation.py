"""A preparation as a Slurm job: preempted, it goes on by shards, and writes what it writes on the login node."""

import json

import pytest

from tests.cluster.group import Member
from tests.cluster.test_gallery import Job
from tests.cluster.test_interruptions import preempt
from tests.prepare import recipes
from tests.sandbox.cluster import Sandbox

pytestmark = pytest.mark.slurm


@pytest.mark.long  # goes on after a kill: prepare/test_preparation.py
@pytest.mark.timeout(600)
def test_a_preempted_preparation_goes_on(alice: Member, sandbox: Sandbox) -> None:
    text = recipes.recipe_text(output='folder = "data/{}"\nshards = 100', top="cpus = 1")
    alice.write("clicks.csv", "\n".join([recipes.HEADER, *recipes.csv_rows(20_000)]) + "\n")
    alice.write("here.toml", text.replace("{}", "here"))
    alice.write("job.toml", text.replace("{}", "job"))
    run = Job(
        alice, "prepare.toml", f"recipe={alice.folder}/job.toml", "--qos=scavenge", "--set", "roles.worker.mem=1G"
    )
    run.wait_for(r"\[worker:0\] slurm-tf: train-\S+ \d+ rows, \d+ of 200 shards", 3)
    preempt(sandbox)
    run.start_again()
    output = run.wait()
    assert [row["cause"] for row in run.attempts()] == ["preemption", ""]
    assert "of 200 shards are there" in output
    here = json.loads(alice.ok("prepare", "here.toml", "--json", timeout=120))
    assert here["digest"] == json.loads(alice.ok("data", "show", "data/job", "--json"))["digest"]
    alice.ok("data", "verify", "data/job")


@pytest.mark.long  # without a Slurm: prepare/test_preparation.py
@pytest.mark.timeout(600)
def test_data_of_a_job_that_runs_a_copy_of_the_code_is_in_the_folder_of_its_job_file(alice: Member) -> None:
    alice.write("clicks.csv", "\n".join([recipes.HEADER, *recipes.csv_rows(50)]) + "\n")
    alice.write("clicks.toml", recipes.recipe_text(output='folder = "data/clicks"'))
    command = 'command = ["slurm-tf", "prepare", "clicks.toml"]'
    alice.write("job.toml", f'name = "a"\nstrategy = "single"\n{command}\n[roles.worker]\nmem = "1G"\n')
    run = Job(alice, "job.toml")
    output = run.wait()
    copy = run.folder / "submission-1" / "code" / alice.folder.name
    assert (copy / "clicks.toml").exists(), output
    assert not (copy / "data").exists()
    alice.ok("data", "verify", "data/clicks")
