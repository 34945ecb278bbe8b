"""What a verb loads: no TensorFlow, nothing heavy, and no other verb."""

import subprocess
import sys
from pathlib import Path

from slurm_tf.run.folder import RunFolder
from tests.conftest import ROOT, write_manifest


def loaded_by(*command: str) -> set[str]:
    """Return the modules that are loaded after `slurm-tf COMMAND`."""
    code = (
        "import sys\nsys.argv[1:] = sys.argv[1:]\nfrom slurm_tf.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *command], capture_output=True, text=True, timeout=60, check=True
    )
    return set(done.stderr.split())


def test_help_imports_no_tensorflow_and_nothing_heavy() -> None:
    loaded = loaded_by("--help")
    assert "slurm_tf.cli.commands" in loaded
    assert not loaded & {"tensorflow", "numpy", "keras", "jinja2", "msgspec", "rich"}


def test_a_verb_imports_no_other() -> None:
    loaded = {module for module in loaded_by("plugin", "--help") if module.startswith("slurm_tf.cli.")}
    names = ("commands", "completion", "completion_shells", "help_formatter", "options", "plugin_commands", "terminal")
    assert loaded == {f"slurm_tf.cli.{name}" for name in names}


def test_listing_checkpoints_imports_no_tensorflow(tmp_path: Path) -> None:
    run = tmp_path / "r"
    run.mkdir(mode=0o700)
    write_manifest(RunFolder(str(run)), "r")
    (run / "checkpoints").mkdir()
    loaded = loaded_by("checkpoints", str(run))
    assert "slurm_tf.run.checkpoint_folder" in loaded
    assert not loaded & {"tensorflow", "numpy", "keras"}


def test_rendering_imports_no_tensorflow() -> None:
    loaded = loaded_by("render", str(ROOT / "jobs" / "wide_and_deep.toml"))
    assert "jinja2" in loaded
    assert not loaded & {"tensorflow", "numpy", "keras"}
