"""Asks bash whether a batch script is sound, without running any of it."""

import subprocess

from slurm_tf.errors import TemplateError

_SECONDS = 20


def check(script: str, name: str) -> None:
    """Raise TemplateError for a script that bash cannot read; `name`: of what it was rendered."""
    argv = ["/bin/bash", "--norc", "--noprofile", "-n"]
    try:
        done = subprocess.run(argv, input=script, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except OSError as error:
        raise TemplateError(
            f"bash cannot be started ({error.strerror})", "/bin/bash to read the script", where=name
        ) from error
    except subprocess.TimeoutExpired as error:
        raise TemplateError(f"bash has not read the script in {_SECONDS} s", where=name) from error
    if done.returncode:
        said = "; ".join(done.stderr.splitlines()[:2])
        raise TemplateError(f"bash cannot read the script: {said}", "shell lines that are whole", where=name)
