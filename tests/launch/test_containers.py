"""Programs in containers, with a stand-in for apptainer: what they find, how they end, what fails before they start.

tests/cluster/test_containers.py runs Charliecloud.
"""

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from slurm_tf.launch.agent.agent_watch import processes_of
from slurm_tf.run import attempts
from slurm_tf.run.container_settings import ContainerSettings, Runtime
from slurm_tf.run.settings import RoleSettings
from tests.launch.conftest import StartJob, gone_within, is_alive

pytestmark = pytest.mark.slow

STAND_IN = Path(__file__).parent / "programs" / "apptainer.py"
# all that it must not change is set in the image too
ENVIRONMENT = (
    f"PATH={Path(sys.executable).parent}:/usr/bin:/bin\n"
    "PYTHONPATH=/of/the/image\nTF_CONFIG=image\nCUDA_VISIBLE_DEVICES=7\nSLURM_TF_TASK=image\nHOSTILE=image\n"
    "NAMED=image\nFROM_IMAGE=yes\n"
)
HOSTILE = "a $HOME `id` \"b\" 'c'\nd\\ é"
SHOW = "import json, os; print(json.dumps(dict(os.environ)), flush=True)"
# has a child, prints its pid, ignores SIGTERM: it ends at nothing but a kill
STAYS = "import os, signal, time; signal.signal(15, lambda *_: None)\nif os.fork(): print(os.getpid(), flush=True)\n"
STAYS += "while True: time.sleep(60)"


def image(folder: Path, text: str = ENVIRONMENT) -> ContainerSettings:
    """Return a container of an image with the variables `text`."""
    folder.mkdir(exist_ok=True)
    (folder / "environment").write_text(text)
    return container(folder)


def container(path: Path, **changes: object) -> ContainerSettings:
    settings = {"command": (sys.executable, str(STAND_IN)), "image": str(path), **changes}
    return ContainerSettings(Runtime.APPTAINER, **settings)  # type: ignore[arg-type]


def worker(where: ContainerSettings, *command: str, count: int = 1) -> dict[str, object]:
    """Return the settings of a job whose workers run `command` there."""
    return {"roles": (RoleSettings("worker", count, 0, command, container=where),)}


def test_what_slurm_tf_sets_wins_over_the_image(
    start_job: StartJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NAMED", "LD_LIBRARY_PATH", "PYTHONHOME"):
        monkeypatch.setenv(name, "/host" if name == "NAMED" else "")
    monkeypatch.setenv("APPTAINERENV_HOSTILE", "the user's")
    where = image(tmp_path / "image")
    settings = worker(ContainerSettings(**{**vars(where), "env_from_host": ("NAMED",)}), "python3", "-c", SHOW, count=2)
    job = start_job("", env={"HOSTILE": HOSTILE}, **settings)
    assert job.wait() == 0, job.text
    assert attempts.read(job.run)[-1].tensorflow["worker"].startswith("2.")
    for index in range(2):
        environ = json.loads(job.lines(f"worker:{index}")[0])
        assert json.loads(environ["TF_CONFIG"])["task"] == {"type": "worker", "index": index}
        assert environ["PYTHONPATH"] == f"/of/the/image:{job.submission.train_library}"
        assert {name: environ.get(name) for name in ("HOSTILE", "NAMED", "FROM_IMAGE", "SLURM_TF_TASK")} == {
            "HOSTILE": HOSTILE,
            "NAMED": "/host",
            "FROM_IMAGE": "yes",
            "SLURM_TF_TASK": f"worker:{index}",
        }
        assert environ["PATH"] == ENVIRONMENT.partition("\n")[0][5:]
        assert environ.get("CUDA_VISIBLE_DEVICES", "") == ""
        assert not {"LD_LIBRARY_PATH", "PYTHONHOME", "SLURM_TF_SECRET"} & set(environ)


def test_nothing_outlives_its_agent(start_job: StartJob, tmp_path: Path) -> None:
    job = start_job("", **worker(image(tmp_path / "image"), "python3", "-c", STAYS))
    program = int(job.wait_for(r"^\[worker:0\] (\d+)$")[1])
    runtime, agent = job.pid("worker:0"), job.agent("worker:0")
    session = processes_of(runtime)
    assert program != runtime
    assert {program, runtime} < set(session)
    assert len(session) == 3  # the program's child as well
    os.kill(agent, signal.SIGKILL)
    assert gone_within(30, session)
    job.wait()


def test_a_program_that_is_killed_leaves_nothing_and_is_started_again(start_job: StartJob, tmp_path: Path) -> None:
    code = f"import os\nif os.environ['SLURM_TF_RESTARTS'] == '1': raise SystemExit(3)\n{STAYS}"
    settings = worker(image(tmp_path / "image"), "python3", "-c", code)
    job = start_job("", strategy="single", max_restarts=1, **settings)
    program = int(job.wait_for(r"^\[worker:0\] (\d+)$")[1])
    session = processes_of(job.pid("worker:0"))
    os.kill(program, signal.SIGKILL)
    assert job.wait() == 3, job.text
    assert not any(map(is_alive, session))


@pytest.mark.parametrize("preflight", [False, True])
def test_what_cannot_start_is_tried_before_and_ends_the_job_for_good(
    preflight: bool, start_job: StartJob, tmp_path: Path
) -> None:
    job = start_job("", **worker(container(tmp_path / "none"), "python3", count=2), max_restarts=3, preflight=preflight)
    assert job.wait() == 126
    reason = f"the image {tmp_path}/none cannot be read: No such file or directory"
    assert f"slurm-tf: the job failed: on {os.uname().nodename}: {reason}\n" in job.text
    assert "started on" not in job.text
