"""Commands that cannot be executed: what the message says, and that nobody tries again."""

import errno
import os
import re
import subprocess
from pathlib import Path

import pytest

from slurm_tf.launch.agent import command_failure
from tests.launch.conftest import StartJob


def failure(command: str, **environ: str) -> tuple[str | None, int]:
    """Return the explanation and the exit code of a command that subprocess cannot start, as the agent asks for it."""
    with pytest.raises(OSError) as raised:
        subprocess.run([command], env=environ, check=False)
    found = raised.value
    return command_failure.explain(command, environ, found), command_failure.exit_code(found)


def executable(path: Path, text: bytes, mode: int = 0o755) -> str:
    path.write_bytes(text)
    path.chmod(mode)
    return str(path)


def test_a_command_that_is_in_no_folder_of_path(tmp_path: Path) -> None:
    path = f"{tmp_path}/a:{tmp_path}/b"
    assert failure("pyton", PATH=path) == (
        f"cannot start 'pyton' (pyton: No such file or directory); searched PATH={path}",
        127,
    )


def test_a_command_without_the_right_to_execute_it(tmp_path: Path) -> None:
    path = executable(tmp_path / "python", b"", 0o644)
    assert failure("python", PATH=str(tmp_path)) == (
        f"cannot start 'python' ({path}: Permission denied); searched PATH={tmp_path}",
        126,
    )


@pytest.mark.parametrize(
    ("text", "problem", "code"),
    [
        (b"#!/no/such/pyton -u\n", "its interpreter '/no/such/pyton' does not exist", 127),
        (b"#! /bin/sh\r\n", "its interpreter '/bin/sh\\r' does not exist", 127),
        (b"#!/etc/passwd\n", "its interpreter '/etc/passwd' cannot be executed: Permission denied", 126),
        (b"echo\n", f"Exec format error: no program for {os.uname().machine} and no script with a #! line", 126),
        (b"\x7fELF\x02", f"Exec format error: no program for {os.uname().machine} and no script with", 126),
    ],
)
def test_a_file_that_the_kernel_does_not_execute(text: bytes, problem: str, code: int, tmp_path: Path) -> None:
    path = executable(tmp_path / "program", text)
    reason, found = failure(path, PATH="/bin")
    assert (reason or "").startswith(f"cannot start '{path}' ({path}: {problem}")
    assert "PATH" not in (reason or "")
    assert found == code


def test_a_directory_and_a_link_to_nothing(tmp_path: Path) -> None:
    assert failure(str(tmp_path))[0] == f"cannot start '{tmp_path}' ({tmp_path}: a directory)"
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "nothing")
    assert failure(str(link))[0] == f"cannot start '{link}' ({link}: a symbolic link to a file that does not exist)"


def test_a_relative_path_is_said_with_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert failure("./train.sh")[0] == (
        f"cannot start './train.sh' (./train.sh: No such file or directory) in {tmp_path}"
    )


def test_a_working_directory_that_is_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    error = FileNotFoundError(errno.ENOENT, "No such file or directory")
    reason = command_failure.explain("./train.sh", {}, error)
    assert (reason or "").endswith("; the working directory cannot be used: No such file or directory")


@pytest.mark.parametrize("number", [errno.E2BIG, errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ETXTBSY, errno.EIO])
def test_what_may_go_better_at_the_next_try(number: int) -> None:
    assert command_failure.explain("python", {}, OSError(number, "")) is None


@pytest.mark.slow
def test_a_job_ends_at_once_whatever_its_budget_and_its_retries(start_job: StartJob, tmp_path: Path) -> None:
    path = executable(tmp_path / "bash", b"", 0o644)
    job = start_job("ignored", env={"PATH": str(tmp_path)}, max_restarts=5)
    assert job.wait(30) == 126, job.text
    reason = rf"worker:[01] on \S+: cannot start 'bash' \({path}: Permission denied\); searched PATH={tmp_path}"
    assert re.search(rf"^slurm-tf: the job failed: {reason}$", job.text, re.MULTILINE), job.text
    assert "restart" not in job.text
