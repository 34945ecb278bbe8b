"""The trial of a container: what each kind of failure says, and what an image that works says of itself."""

import platform
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from slurm_tf.launch.agent import container_failure, program_container
from slurm_tf.launch.agent.program_container import ProgramContainer
from slurm_tf.launch.transport.messages import ContainerTried
from slurm_tf.run.container_settings import ContainerSettings, Mount, Runtime
from slurm_tf.run.folder import RunFolder

STAND_IN = Path(__file__).parents[1] / "programs" / "apptainer.py"
# what runtimes printed: ch-run 0.31, apptainer 1.4.5, as facts and trials have it
PRINTED = {
    "no user namespaces": "ch-run[1]: error: can't init user+mount namespaces: No space left on device (ch_core.c 28)",
    "no user namespaces, apptainer": "ERROR  : Failed to create user namespace: user namespace disabled",
    "no FUSE": "fuse: failed to open /dev/fuse: Permission denied\nch-run[1]: error: too many FUSE errors; giving up",
    "no mount point": "ch-run[1]: error: can't mkdir: IMAGE/data/x: Read-only file system (ch_misc.c:409 30)",
    "no /etc/passwd": "ch-run[1]: error: can't bind: destination not found: IMAGE/etc/passwd (ch_core.c:111)",
    "no image": "ch-run[1]: error: can't bind: destination not found: IMAGE/dev (ch_core.c:111)",
    "no Python": "ch-run[1]: error: can't execve(2): python3: No such file or directory (ch_core.c:410 2)",
    "no Python, apptainer": 'FATAL:   exec: "python3": executable file not found in $PATH',
    "another machine": "ch-run[1]: error: can't execve(2): python3: Exec format error (ch_core.c:410 8)",
    "an old Singularity": 'Error for command "exec": unknown flag: --no-eval',
    "escapes": "\x1b[31mFATAL\x1b[0m: a\tb",
    "many lines": "".join(f"line {number}\n" for number in range(9)),
}


def place(folder: Path, settings: ContainerSettings, **host: str) -> ProgramContainer:
    return ProgramContainer(settings, RunFolder(str(folder)).submission(1), {"PATH": "/usr/bin:/bin", **host}, {})


@pytest.fixture
def settings(tmp_path: Path) -> ContainerSettings:
    """A container of the stand-in."""
    (tmp_path / "environment").write_text(f"PATH={Path(sys.executable).parent}:/usr/bin:/bin\n")
    return ContainerSettings(Runtime.APPTAINER, (sys.executable, str(STAND_IN)), str(tmp_path))


def test_what_runtimes_say_is_explained(golden: Callable[[str, str], None]) -> None:
    settings = ContainerSettings(Runtime.CHARLIECLOUD, ("ch-run",), "/images/tf 2")
    said = []
    for what, printed in PRINTED.items():
        error = container_failure.explain(settings, "python3", 1, printed.replace("IMAGE", settings.image))
        said.append(f"--- {what}\n{error}\n".replace(platform.machine(), "MACHINE"))
    for what, code in (("no memory", -9), ("no end", None)):
        said.append(f"--- {what}\n{container_failure.explain(settings, 'python3', code, '')}\n")
    golden("container_failures.txt", "".join(said))


@pytest.mark.slow
def test_an_image_says_its_versions(settings: ContainerSettings, tmp_path: Path) -> None:
    tried = place(tmp_path, settings).try_command(["python3", "a.py"], 60)
    assert (tried.problem, tried.python) == ("", platform.python_version())
    assert tried.tensorflow.startswith("2.")
    assert place(tmp_path, settings).try_command(["ls"], 60) == ContainerTried("")


@pytest.mark.slow
def test_what_a_node_lacks(settings: ContainerSettings, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    wrong = {
        "the image /no/image cannot be read: No such file or directory": replace(settings, image="/no/image"),
        f"apptainer cannot start env in {empty} (exit code 1): FATAL:   could not open image {empty}: No such file or "
        "directory": replace(settings, image=str(empty)),
        "there is no program /no/apptainer": replace(settings, command=("/no/apptainer",)),
        "there is no program apptainer in PATH=/usr/bin:/bin": replace(settings, command=("apptainer",)),
        "there is no /no/data, which is to be mounted at /data": replace(
            settings, mounts=(Mount("/no/data", "/data"),)
        ),
    }
    assert [place(tmp_path, each).try_command(["python3"], 60).problem for each in wrong.values()] == [*wrong]
    assert place(tmp_path, settings).try_command(["nosuch"], 60).problem == (
        f"{tmp_path} has no program 'nosuch'; PATH there is {Path(sys.executable).parent}:/usr/bin:/bin"
    )
    assert place(tmp_path, settings).try_command(["python2.0"], 60).problem == (
        f"apptainer cannot start python2.0 in {tmp_path} (exit code 255): FATAL:   stat python2.0: "
        "No such file or directory"
    )


@pytest.mark.slow
def test_a_python_that_is_too_old_for_slurm_tf_train(
    settings: ContainerSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(program_container, "_OLDEST_PYTHON", (3, 99))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.py").write_text("import slurm_tf.train\n")
    tried = place(tmp_path, settings).try_command(["python3", "a.py"], 60)
    assert tried.problem.endswith(f"is Python {platform.python_version()}, and the program imports slurm_tf.train")
    assert tried.do == "an image with Python 3.99 or later"
    (tmp_path / "a.py").write_text("import os\n")
    assert place(tmp_path, settings).try_command(["python3", "a.py"], 60).problem == ""


def test_a_runtime_that_hangs_is_ended(settings: ContainerSettings, tmp_path: Path) -> None:
    hangs = tmp_path / "hangs"
    hangs.write_text("#!/bin/sh\nsleep 600 & wait\n")
    hangs.chmod(0o755)
    tried = place(tmp_path, replace(settings, command=(str(hangs),))).try_command(["python3"], 0.2)
    assert tried.problem == f"apptainer cannot start env in {tmp_path} (it took too long)"


def test_mount_points_are_made_for_charliecloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, run, data = tmp_path / "image", tmp_path / "run", tmp_path / "data.txt"
    for each in (image / "home", image / "full" / "of", run):
        each.mkdir(parents=True)
    data.touch()
    monkeypatch.chdir(run)
    mounts = (Mount(str(run), "/home/a/run"), Mount(str(data), "/home/a/data.txt"), Mount(str(run), "/full/x"))
    settings = ContainerSettings(Runtime.CHARLIECLOUD, ("/bin/true",), str(image), mounts)
    for _ in range(2):  # each start, and each task, makes the same
        argv, _ = place(run, settings).enter(["a"], {})
        points = RunFolder(str(run)).submission(1).mount_points
        assert [each for each in argv if each.startswith(f"--bind={points}")] == [f"--bind={points}/home:/home"]
        assert (Path(points) / "home/a/run").is_dir()
        assert (Path(points) / "home/a/data.txt").read_bytes() == b""
        assert not (Path(points) / "full").exists()
