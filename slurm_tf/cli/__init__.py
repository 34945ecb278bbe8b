"""The command line: every verb, and the only place on the login node that prints and exits."""

import gc
import sys


def main() -> None:
    """Run the verb on the command line. `slurm-tf launch` runs on nodes, so it needs no click and no Python 3.11."""
    if sys.argv[1:2] == ["launch"]:
        from slurm_tf.launch.direct.direct_launch import main as launch

        launch(sys.argv[2:])
    if sys.version_info < (3, 11):
        sys.exit(
            f"slurm-tf: found Python {sys.version.split()[0]}; needed 3.11 or later for the commands "
            "(slurm_tf.launch and slurm_tf.train run on 3.9)\n"
            "HINT: install it with another Python beside this one: python3.11 -m venv ~/slurm-tf"
        )
    # imports and tables make many objects that stay: looking for garbage among them takes a tenth of a report's time
    gc.set_threshold(200_000, 30, 30)
    from slurm_tf.cli.commands import run_commands

    run_commands()
